//! The host's part of the paths: routes, one nft table, sysctls (`docs/architecture.md`, "host paths").
//!
//! What starts on the node and ends on a service goes over the management port, never over the bridge. So the node
//! translates its own accesses to the cluster address and sends them there; it translates what the flows leave to it
//! (policy `Local` with host-network endpoints only); it stays out of the ports that are the pods'; and it never
//! answers a frame that was the pods' with a reset.
//!
//! [`desired`] is a pure function of [`HostInputs`]; [`HostState`] follows single services by delta;
//! [`HostPaths`] is the thin rim that observes, applies and takes back.

mod apply;
mod conflicts;
mod inputs;
mod plan;
mod rules;
mod state;
mod table;

pub use apply::{HostPaths, Report};
pub use conflicts::{Conflict, conflicts, sockets_in_the_way};
pub use inputs::{HostInputs, HostNode, ManagementPath, ManagementPort, PodsPorts};
pub use plan::{HostPlan, NftChange, Observed, RouteChange, SysctlChange, TableSeen, diff};
pub use rules::{Features, Rule, alternate_range};
pub use services::{HostEndpoint, NodePort, Reach, ServiceHostRows, Translation};
pub use state::{HostState, WantedRoute, desired};
pub use table::{Data, ElementChange, Elements, Key, SetName, TABLE};

#[cfg(test)]
mod tests;
