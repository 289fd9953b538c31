//! The node's own kernel: netlink, nft, sysctls, sockets, namespaces.
//!
//! The only crate of the product that touches the kernel of the node it runs on. Everything here is a thin rim: it
//! observes (a snapshot as a value) and applies (a change that the caller has worked out and can print first). What
//! should hold, and what is ours to take away, is decided by the crates that use it.
//!
//! | module | observes | applies |
//! |---|---|---|
//! | [`netlink`] | links, addresses, routes; a watch that says "look again" | routes with our own protocol number |
//! | [`rtnl`] | rtnetlink's objects as raw rows; a watch for a thread that waits | any number of changes in one system call |
//! | [`devices`] | devices by name and index | nothing |
//! | [`ingress_filter`] | which of a NIC and its bridge the host hears | the same, atomically |
//! | [`nft`] | one table, parsed | one script, atomically |
//! | [`link_stats`] | one device: carrier and counters, many times a second | nothing |
//! | [`sysctl`] | one value, a list of ports | the same, with a record of what we added |
//! | [`interface_sysctls`] | all sysctls of a device | the same |
//! | [`neighbour_probe`] | who answers on a device, past routes and guard | nothing |
//! | [`ping`] | whether an address answers a ping | nothing |
//! | [`ethtool`] | a device's offloads and driver | offloads |
//! | [`netns_lock`] | who has a name in this network namespace | takes it, until the process ends |
//! | [`sockets`] | sockets by port or device, with their process; how far connections are | nothing |
//! | [`process`] | processes, and whether they share our network | nothing |
//! | [`priority`] | nothing | a thread before those of all others |
//! | [`boot`] | which boot this is | nothing |
//! | [`memory`] | nothing | gives free memory back to the kernel |
//! | [`regular_file`] | regular files, and nothing else that lies in their place | nothing |
//! | [`pidfd`] | the end of a process | ends it; keeps descriptors from what is started |
//! | [`netns`] | nothing | runs a closure inside a namespace |
//!
//! What it never does: it never deletes what has no mark of ours (a route's protocol number, our nft table, our
//! record of a sysctl), never keeps state of its own besides that record, and never runs a shell.
//!
//! Errors ([`Error`]) say what was attempted, on what, what the kernel or the tool answered, and what to do now.

pub mod boot;
mod deferred_close;
pub mod devices;
pub mod error;
pub mod ethtool;
pub mod ingress_filter;
pub mod interface_sysctls;
pub mod link_stats;
mod mac;
pub mod memory;
pub mod neighbour_probe;
mod netlink_format;
mod netlink_socket;
pub mod netns;
pub mod netns_lock;
pub mod nft;
pub mod pidfd;
pub mod ping;
pub mod ports;
pub mod priority;
pub mod process;
pub mod regular_file;
pub mod rtnl;
pub mod sockets;
pub mod sysctl;

pub use error::{Error, Result};
pub use mac::Mac;
