//! What a person asks of a node: [`status`], [`explain`] and [`doctor`].
//!
//! `status` prints what the running helper says of itself. `explain` says which owner a frame has and which rule decides.
//! `doctor` looks at the kernel, the switch, the helper and OVN, and lists what is wrong with a remedy for each.
//!
//! It never changes the node. It uses types that other crates publish, and nothing of their inside.

pub mod doctor;
pub mod explain;
mod helper_client;
pub mod status;
