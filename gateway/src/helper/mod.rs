//! The daemon `ovn-k8s-gateway-helper`: keeps a shared uplink's bridge and its host as the cluster wants them.
//!
//! ```text
//! flags, ovn_k8s.conf, external_ids -> Settings
//! local database -> BridgeView --+
//! northbound -> GatewayRouter ---+-> Facts -> wanted() -> split, datapath, node, host part, problems
//! rtnetlink, sock_diag ----------+                |
//! Kubernetes -> Catalogue (who gets which port) --+-> Policy -> Rendering -> Switch (OpenFlow)
//!                                                 +-> HostTask (routes, nft, sysctls), HealthServers
//! ```
//!
//! [`daemon`] is the loop, its pass and its upkeep in the modules beside it; everything it decides by is pure ([`bridge`], [`northbound`], [`facts`], [`restore`],
//! [`adopt`]) and everything it touches is a thin rim ([`observe`], [`switch`], [`vswitchd`], [`host_task`]).
//!
//! It never adds or removes the NIC, never writes the northbound database, never changes what does not carry its
//! mark, and writes no flow on a bridge that has some before all its sources are known.

pub mod adopt;
pub mod bridge;
pub mod cache;
pub mod cleanup;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dry_run;
pub mod facts;
pub mod few;
pub mod flags;
pub mod health;
pub mod host_task;
pub mod http;
pub mod metrics;
pub mod northbound;
pub mod observe;
mod reconcile;
pub mod report;
pub mod restore;
pub mod retry;
pub mod settings;
pub mod start;
pub mod status;
pub mod switch;
mod upkeep;
pub mod vswitchd;
