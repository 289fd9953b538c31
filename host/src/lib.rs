//! The node's own kernel: netlink, nft, sysctls, sockets, namespaces.
//!
//! The only crate of the product that changes or observes the kernel of the node it runs on. It observes (a snapshot as a
//! value) and applies (a change that the caller has computed and can print first). The crates that use it decide what
//! should hold, and what is ours to remove.
//!
//! | module | observes | applies |
//! |---|---|---|
//! | [`rtnl`] | links, addresses, routes, neighbours, rules, nexthops, qdiscs as raw rows; events | any number of changes in one system call |
//! | [`rtnl::asynchronous`] | the same for asynchronous callers | routes with our own protocol number |
//! | [`devices`] | devices by name and index | nothing |
//! | [`ingress_filter`] | from which of a NIC and its bridge the host accepts frames | the same, atomically |
//! | [`nft`] | one table, parsed | one script, atomically |
//! | [`link_stats`] | carrier and counters of one device, many times a second | nothing |
//! | [`sysctl`] | one value, a list of ports | the same, with a record of what we added |
//! | [`interface_sysctls`] | all sysctls of a device | the same |
//! | [`neighbour_probe`] | which neighbours answer on a device, whatever the routes and the ingress filter | nothing |
//! | [`ping`] | whether an address answers a ping | nothing |
//! | [`ethtool`] | a device's offloads and driver | offloads |
//! | [`netns_lock`] | whether a lock of this network namespace is held | acquires it, until the process ends |
//! | [`sockets`] | sockets by port or device, with their process; the progress of connections | nothing |
//! | [`process`] | processes, their state, and whether they share our network namespace | nothing |
//! | [`pidfd`] | the end of a process | kills it; keeps descriptors from programs that are started |
//! | [`priority`] | nothing | the priority of a thread |
//! | [`boot`] | the boot id | nothing |
//! | [`memory`] | nothing | gives free memory back to the kernel |
//! | [`regular_file`] | regular files, and nothing else | nothing |
//! | [`netns`] | nothing | runs a closure inside a namespace |
//!
//! It never deletes what has no mark of ours (a route's protocol number, our nft table, our record of a sysctl), keeps no
//! state besides that record, and never runs a shell.
//!
//! Errors ([`Error`]) name what was attempted, the object, the answer of the kernel or the tool, and the remedy.

pub mod boot;
mod deferred_close;
pub mod devices;
pub mod error;
pub mod ethtool;
#[doc(hidden)]
pub mod fuzzing;
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
