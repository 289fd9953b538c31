//! Probes: servers that say who answered, clients that ask, sessions that are held, frames put in and looked at.
//!
//! A socket belongs to the namespace it was made in, whichever thread uses it later. So a probe is a thread of the test
//! itself that entered a namespace to make its socket: no agent process, no pipe, no start-up time.

pub mod frames;
pub mod ping;
pub mod request;
pub mod responder;
pub mod session;

pub use self::{
    frames::{Capture, Injector},
    ping::{Pinged, ping},
    request::{Answer, Request},
    responder::{Listen, Responder},
    session::{Session, SessionReport, Stream, StreamReport},
};
