//! Commands that show a node's state: [`status`], [`explain`] and [`doctor`].
//!
//! `status` prints what the running helper reports. `explain` shows which owner receives a frame and which rule decides.
//! `doctor` checks kernel, switch, helper and OVN, and lists what is wrong with a remedy for each.
//!
//! It never changes the node. It uses what other crates publish, and nothing of their inside.

pub mod doctor;
pub mod explain;
mod helper_client;
pub mod status;
