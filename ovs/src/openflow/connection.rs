//! A held OpenFlow 1.4 connection to one bridge.

use super::error::{Disconnect, Error};
use super::mods::{Cookies, FlowMod};
use super::wire::stats::{Aggregate, Dumped, Port};

/// A connection to a bridge, safe to use from several tasks at once; requests under way do not wait for each other.
///
/// A future of its methods can be dropped at any time: what it had asked is forgotten, the connection stays usable.
/// Dropping the connection closes it.
#[derive(Debug)]
pub struct Connection {}

/// What a committed bundle was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleReport {
    /// Flow changes in it.
    pub mods: usize,
    /// Bytes sent for them.
    pub bytes: usize,
}

impl Connection {
    /// Connects to `unix:PATH`, an absolute path, or `tcp:HOST:PORT`, and agrees on OpenFlow 1.4.
    pub async fn connect(address: &str) -> Result<Connection, Error> {
        Err(Error::Address { address: address.to_owned() })
    }

    /// Makes all the changes at once, or none of them: an atomic, ordered bundle.
    pub async fn bundle(&self, _mods: &[FlowMod]) -> Result<BundleReport, Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// The quick way for a few changes: one goes as a plain message and a barrier, more as a bundle. All or none, too.
    pub async fn apply(&self, _mods: &[FlowMod]) -> Result<(), Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// The flows with such a cookie.
    pub async fn dump(&self, _cookies: Cookies) -> Result<Vec<Dumped>, Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// Every flow, learned and foreign ones included.
    pub async fn dump_all(&self) -> Result<Vec<Dumped>, Error> {
        self.dump(Cookies::ANY).await
    }

    /// Sums over the flows with such a cookie.
    pub async fn aggregate(&self, _cookies: Cookies) -> Result<Aggregate, Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// The bridge's ports, `LOCAL` included.
    pub async fn ports(&self) -> Result<Vec<Port>, Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// Returns when the switch has done all that was asked before.
    pub async fn barrier(&self) -> Result<(), Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// Asks the switch for a sign of life.
    pub async fn echo(&self) -> Result<(), Error> {
        Err(Error::Closed(Disconnect::Dropped))
    }

    /// Resolves when the connection is gone. EOF means that ovs-vswitchd ended, and that its tables will be empty.
    pub async fn closed(&self) -> Disconnect {
        Disconnect::Dropped
    }
}
