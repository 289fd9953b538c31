//! The daemon `ovn-k8s-gateway-helper`: keeps the bridge that holds a shared uplink, and the host's own paths, as the
//! cluster's objects require.
//!
//! ```text
//! flags, ovn_k8s.conf, external_ids -> Settings
//! local database -> BridgeView --+
//! northbound -> GatewayRouter ---+-> Facts -> desired() -> split, datapath, node, host part, problems
//! rtnetlink, sock_diag ----------+                |
//! Kubernetes -> Catalogue (who gets which port) --+-> Policy -> Rendering -> FlowSync (OpenFlow)
//!                                                 +-> HostTask (routes, nft, sysctls), HealthServers
//! ```
//!
//! The helper never adds or removes the NIC, never writes the northbound database, never changes what does not carry
//! its mark, and writes no flow on a bridge that has some before all its sources are known.
//!
//! This page is the crate's whole public face: the program ([`main()`]), and what other commands need to describe a
//! node that it runs on.

mod assemble;
mod backoff;
mod bridge;
mod cache;
mod cleanup;
pub mod config;
mod connection_limit;
mod control;
mod daemon;
mod database;
mod desired;
mod dry_run;
mod facts;
mod flags;
mod flow_sync;
mod health;
mod host_paths;
mod host_task;
mod http;
pub mod legacy_flows;
mod metrics;
mod northbound;
mod object_source;
mod pass;
mod preflight;
mod report;
pub mod restore_wait;
mod schedule;
mod servers;
mod service_state;
mod settings;
mod sources;
mod start;
pub mod status;
mod switch_upkeep;
mod vswitchd;

pub use bridge::INTEGRATION_BRIDGE;
pub use database::{northbound_remotes, origin};
pub use flags::PROGRAM;
pub use start::main;
