//! OpenFlow 1.4 as Open vSwitch speaks it, on a held connection.

pub mod connection;
pub mod diff;
pub mod error;
pub mod flow;
pub mod mods;
mod text;
pub mod wire;

pub use connection::{BundleReport, Connection};
pub use diff::{Conflict, Ours, Plan, diff};
pub use error::{Disconnect, Error, Refusal};
pub use mods::{Cookies, FlowMod};
pub use wire::errors::SwitchError;
pub use wire::stats::{Aggregate, Dumped, Opaque, Port};
