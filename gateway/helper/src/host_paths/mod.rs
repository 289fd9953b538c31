//! The host's part of the paths: routes, one nft table, sysctls.
//!
//! What starts on the node and ends on a service goes over the management port, never over the bridge. So the node
//! translates its own accesses to the cluster address and sends them there; it translates what the flows leave to it
//! (policy `Local` with host-network endpoints only); it stays out of the ports that are the pods'; and it never
//! answers a frame that was the pods' with a reset.
//!
//! [`state::desired`] is a pure function of [`HostInputs`]; [`state::DesiredHost`] follows single services by delta;
//! [`HostPaths`] observes, applies and takes back.

mod apply;
mod conflicts;
mod inputs;
mod plan;
mod rules;
mod state;
mod table;

pub(crate) use apply::{ConvergeReport, HostPaths};
pub(crate) use conflicts::{conflicts, sockets_in_range};
pub(crate) use inputs::{HostInputs, HostNode, ManagementPath, ManagementPort, PodsPorts};
pub(crate) use plan::NftChange;

#[cfg(test)]
mod tests;
