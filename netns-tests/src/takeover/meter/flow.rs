//! What kinds of traffic there are.

use std::{fmt, time::Duration};

use crate::lab::address::Family;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1,000 datagrams a second, echoed.
    Udp,
    /// 300 echo requests a second.
    Ping,
    /// One connection, 500 records of 32 bytes a second, echoed.
    Tcp,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Ping, Self::Tcp];

    /// The time between two requests.
    pub fn pace(self) -> Duration {
        Duration::from_nanos(match self {
            Self::Udp => 1_000_000,
            Self::Ping => 3_333_333,
            Self::Tcp => 2_000_000,
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The administrator asks the node.
    In,
    /// The node asks the administrator.
    Out,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::In, Self::Out];
}

/// One flow of the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its kind.
    pub kind: Kind,
    /// Who asks.
    pub direction: Direction,
    /// Its family.
    pub family: Family,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Udp => "UDP",
            Kind::Ping => "ping",
            Kind::Tcp => "TCP",
        };
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        write!(f, "{kind} {} {direction}", self.family)
    }
}
