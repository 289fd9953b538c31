//! OpenFlow 1.4 with Open vSwitch's extensions, on a held connection.
//!
//! Does: represents flows as values ([`flow`]), as text (their `Display` is the syntax of ovs-ofctl(8)) and as messages
//! ([`wire`]); changes a bridge all at once or not at all ([`Connection::bundle`]); reads back what it holds
//! ([`Connection::dump`]); compares the two ([`mod@diff`]); reports that the switch is gone ([`Connection::closed`]) or that
//! another program changed a flow ([`Connection::watch`]).
//!
//! Never: receives packets, acts as a controller, changes a flow that was not named by key or cookie, reconnects by
//! itself (a new switch is empty, and its ports may have new numbers: the caller has to compare again).
//!
//! ```text
//! desired flows --+
//!                 +-- diff --> Vec<FlowMod> -- bundle or apply --> ovs-vswitchd
//! dump ---------- +                                                    |
//!   ^------------------------- on connecting, and after watch ---------+
//! ```
//!
//! Only what the gateway needs is known here. A foreign flow with other matches or actions is still listed, by table and
//! priority, and by its key if only its actions are strange ([`Opaque`]).

pub mod connection;
pub mod diff;
pub mod error;
pub mod flood;
pub mod flow;
pub mod mods;
mod socket;
mod text;
pub mod wire;

pub use connection::{BundleReport, Changes, Connection};
pub use diff::{Conflict, Ours, Plan, diff};
pub use error::{Disconnect, Error, Refusal};
pub use flood::set_no_flood;
pub use mods::{Cookies, FlowMod};
pub use wire::errors::SwitchError;
pub use wire::stats::{Aggregate, Dumped, Opaque, Port};
