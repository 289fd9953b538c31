//! The uplink takeover: a NIC becomes a port of an OVS bridge and goes back, while the node's own traffic flows.
//!
//! A port of the userspace datapath is only a tap, and one address may be on two devices at once. So everything is built
//! and *proved* while the NIC still carries the traffic; the switchover itself has two atomic parts: which device the host
//! accepts frames from (the ingress filter, one nftables transaction) and which device the routes name (one netlink
//! message). On the kernel datapath the port's addition takes the place of the filter. Undo is the same switchover
//! backwards and needs neither ovs-vswitchd nor ovsdb-server.
//!
//! ```text
//!   util --> observe --> plan --> lock, observe and plan again --> journal + watchdog --> steps --> verify --> commit
//!                         |                |                                              |
//!                         |                |                                              +-- a step fails: undo
//!                         |                +-- the node changed meanwhile: refused
//!                         +-- --dry-run: printed
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`util`] | `ovn-k8s-util`: the command line |
//! | [`options`], [`names`] | the options of a command line, as a value; names of bridges and programs |
//! | [`observe`] | a snapshot of the node: kernel, switch, firewall, network managers |
//! | [`plan`] | steps, device configuration, kernel requests, warnings and refusals: pure |
//! | `transaction` | `nics-to-bridge` and `bridge-to-nics`: execute a plan |
//! | `steps`, `fault` | the steps as data; where tests make a run fail |
//! | `device_config` | addresses, routes, rules and settings of a device, as the kernel's rows |
//! | `migration` | the kernel requests that move them to another device: pure |
//! | `switchover` | sends these requests, and sets the ingress filter |
//! | `settings` | sysctls, offloads, root qdisc |
//! | [`managers`] | handover of the host's network managers and DHCP clients |
//! | `switch_db` | the rows of the switch's database, and the transactions that change them |
//! | `verify` | the probe before the switchover, and the checks after it |
//! | [`journal`] | what has to be restored, on the disk before anything is changed; the lock |
//! | [`watchdog`] | the process that undoes a run when the run's process cannot |
//! | `undo` | back to the NIC, from the journal and from what the kernel has |
//! | `recover` | `ovn-k8s-util recover`: interrupted takeovers, and how each is finished or undone |
//! | `confirm` | `--confirm`: the run that waits, and the command that confirms it |
//! | [`failover`] | the helper's thread that moves management to the NIC while the switch is dead, and back |
//! | `reattach` | a NIC that was recreated, attached to its bridge again |
//! | [`command`] | programs of the host, run with a timeout |
//! | [`error`] | the errors, each with a remedy |
//!
//! All of it is synchronous: threads and deadlines, no runtime and no Kubernetes, because it has to work in the process
//! that is started when everything else is broken.
//!
//! What it never does: it removes no bridge, port or setting that it did not make (rows in the database carry
//! `external_ids:ovn-k8s-owner=uplink`, filter rules are in a table of their own); it changes nothing before the journal is
//! on the disk; it executes no program in undo before the network is restored; it never leaves a node with its management
//! on neither device.
//!
//! The public modules and items are what the programs' entry points, the helper and `doctor` use; the rest is private.

pub mod command;
mod confirm;
mod device_config;
pub mod error;
pub mod failover;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod managers;
mod migration;
pub mod names;
pub mod observe;
pub mod options;
pub mod plan;
mod probe_targets;
mod reattach;
mod recover;
mod settings;
mod steps;
mod switch_db;
mod switchover;
mod transaction;
mod undo;
pub mod util;
mod verify;
pub mod watchdog;

pub use error::{Error, Result};
pub use recover::cut_off;
pub use switch_db::OWNER;
