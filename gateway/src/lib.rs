//! The gateway node: whose frame is it on a shared uplink, made true on a real bridge and a real host.
//!
//! [`services`] turns Kubernetes objects into policy rows and host rows, [`flows`] renders the policy as OpenFlow,
//! [`host_paths`] computes and applies the host's own part, [`helper`] is the daemon that keeps all of it right, and
//! [`explain`], [`ask`] and [`doctor`] are what a person asks it with. [`uplink`] makes the NIC a port of the bridge in
//! the first place, without a packet lost, and takes it back.
//!
//! What it never does: it reads the northbound database and never writes it; the daemon never adds or removes a NIC; it
//! changes and removes nothing that does not carry its mark (cookie, `external_ids`, route protocol, nft table).
//! Decisions are pure functions over plain values; the modules that touch a switch, a kernel or a server are thin.
pub mod ask;
pub mod doctor;
pub mod explain;
pub mod flows;
pub mod helper;
pub mod host_paths;
pub mod services;
pub mod uplink;

pub use ovs::tls;
