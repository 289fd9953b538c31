//! The uplink takeover: a NIC becomes a port of an OVS bridge and goes back, while the node's own traffic flows.
//!
//! A port of the userspace datapath is only a tap, and one address may sit on two devices at once. So everything is
//! built and *proved* while the NIC still carries the traffic; the takeover itself is two atomic turns: which device is
//! listened to (the *ears*, one nftables transaction) and which device the routes name (the *mouth*, one netlink
//! message). On the kernel datapath the port's addition is the turn of the ears. Undo is the same turns backwards and
//! needs neither ovs-vswitchd nor ovsdb-server.
//!
//! ```text
//!   util (command line) --> plan --> journal + watchdog --> steps: switch, rows/moves, turn, verify --> commit
//!                                          |                  |
//!                                          |                  +-- a step fails: undo
//!                                          +-- parent dies, stands still, or is not confirmed in time: undo
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`util`] | `ovn-k8s-util`: the command line |
//! | [`options`] | what the command line asks for, as a value |
//! | [`observe`] | what is on the node, as far as people have to know |
//! | [`plan`] | what would be done, and what stands against it: pure |
//! | [`managers`] | the host's network managers and DHCP clients, and how they are handed over |
//! | [`transaction`] | `nics-to-bridge` and `bridge-to-nics`: the loop over the steps |
//! | [`steps`], [`fault`] | the steps as data; where tests let things go wrong |
//! | [`switchover`] | ingress filter and routes, from one device to another |
//! | [`undo`] | back to the NIC from the journal and what is found |
//! | [`recover`] | half states, and what is done about them |
//! | [`reattach`] | the steps that attach a recreated NIC to its bridge again |
//! | [`verify`] | the proof before the turn, and the check after it |
//! | [`settings`] | sysctls, offloads, root qdisc |
//! | [`device_config`] | what a device carries, as the kernel's own rows |
//! | [`migration`] | what to say to the kernel so that another device carries it: pure |
//! | [`journal`] | what has to be put back, on the disk before anything is touched; the lock |
//! | [`switch_db`] | what the switch's database holds, and the transactions that change it |
//! | [`failover`] | the thread in the helper that moves management to the NIC while the switch is dead, and back |
//! | [`watchdog`] | the process that undoes when the one at work cannot |
//! | [`command`] | programs of the host's, run for a bounded time |
//! | [`confirm`] | the operator's word: waited for, and given |
//! | [`error`] | what can go wrong, and what a person does then |
//!
//! All of it is synchronous: threads and deadlines, no runtime and no Kubernetes, because it has to work in the process
//! that is started when everything else is broken.
//!
//! What it never does: it removes no bridge, port or setting that it did not make (rows in the database carry
//! `external_ids:ovn-k8s-owner=uplink`, rules are in a table of their own); it changes nothing before the journal is on
//! the disk; it runs no program in undo; it never leaves a node with its management on neither device.

pub mod command;
pub mod confirm;
pub mod device_config;
pub mod error;
pub mod failover;
pub mod fault;
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod managers;
pub mod migration;
pub mod names;
pub mod observe;
pub mod options;
pub mod plan;
mod probe_targets;
pub mod reattach;
pub mod recover;
pub mod settings;
pub mod steps;
pub mod switch_db;
pub mod switchover;
pub mod transaction;
pub mod undo;
pub mod util;
pub mod verify;
pub mod watchdog;

pub use error::{Error, Result};
