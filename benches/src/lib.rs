//! Benches of the pure parts, and measurements of the daemon against a real switch.
//!
//! ```text
//! benches/classify   parse, decide, policy diff and change       criterion, no root
//! benches/render     flows of a policy, OpenFlow bytes, compare  criterion, no root
//! benches/helper     the release binary on a node of the lab     root, Open vSwitch, a kube-apiserver
//! ```
//!
//! All of them use the cluster that [`cluster`] generates: 10,000 Services are about 30,000 flows. [`sample`]
//! summarises a series of measurements. Results, and the machine, are in `docs/measurements.md`.
//!
//! What this crate never does: assert a time. A loaded machine is slow, not wrong.

pub mod cluster;
pub mod sample;
