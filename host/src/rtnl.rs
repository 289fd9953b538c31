//! The kernel's links, addresses, routes, neighbours, rules, nexthops and qdiscs as raw rows, and changes of any
//! number of them in **one** `sendmsg` (rtnetlink(7)).
//!
//! A [`Row`] is one object exactly as the kernel dumps it: its fixed header and its attributes, also those that this
//! crate does not know, so nothing is lost when it is put on another device. The views ([`address::Address`],
//! [`route::Route`]...) read a row, print it as ip(8) does, and turn it into the row that makes the same object on another
//! device ([`DeviceMapping`]): what the kernel reports but does not accept is dropped or translated there.
//!
//! [`Socket::batch`] sends any number of requests at once. The kernel executes them within the system call, in order, so
//! a process that is killed meanwhile has sent either all or none. Each is acknowledged on its own; a refused one does
//! not stop those behind it.
//!
//! [`asynchronous::AsyncSocket`] is the same for asynchronous callers.

pub mod address;
pub mod asynchronous;
pub mod events;
pub mod link;
pub mod neighbour;
pub mod nexthop;
pub mod qdisc;
pub mod route;
pub mod rule;

mod display;
mod hex;
mod mapping;
mod request;
mod row;
mod socket;
mod view;

pub use mapping::{Device, DeviceMapping};
pub use request::{Refused, Request, Verb};
pub use row::{Attribute, Family, Kind, Row};
pub use socket::Socket;

#[cfg(test)]
mod tests;
