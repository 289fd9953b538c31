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
//! [`legacy_flows`]) and everything it touches is a thin rim ([`observe`], [`flow_sync`], [`vswitchd`], [`host_task`]).
//!
//! It never adds or removes the NIC, never writes the northbound database, never changes what does not carry its
//! mark, and writes no flow on a bridge that has some before all its sources are known.

pub mod backoff;
pub mod bridge;
pub mod cache;
pub mod cleanup;
pub mod config;
pub mod connection_limit;
pub mod control;
pub mod daemon;
pub mod dry_run;
pub mod facts;
pub mod flags;
pub mod flow_sync;
pub mod health;
pub mod host_paths;
pub mod host_task;
pub mod http;
pub mod legacy_flows;
pub mod metrics;
pub mod northbound;
pub mod observe;
mod reconcile;
pub mod report;
pub mod restore;
pub mod settings;
pub mod start;
pub mod status;
mod upkeep;
pub mod vswitchd;
