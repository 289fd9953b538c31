//! Address families, transport protocols and port ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::Error;
use crate::frame::protocol;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Family {
    V4,
    V6,
}

/// Transport protocols that services have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// An inclusive range of transport ports, low to high; never holds port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// A range, if `low` is at least 1 and not above `high`.
    pub fn new(low: u16, high: u16) -> Result<Self, Error> {
        if low == 0 || low > high {
            return Err(bad_range(&format!("{low}-{high}")));
        }
        Ok(PortRange { low, high })
    }

    /// The lowest port.
    pub const fn low(self) -> u16 {
        self.low
    }

    /// The highest port.
    pub const fn high(self) -> u16 {
        self.high
    }

    /// Whether a port lies in it.
    pub const fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }

    /// Whether the two share a port.
    pub const fn overlaps(self, other: PortRange) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// The range as the fewest (value, mask) pairs, ascending: 40000-59999 makes ten.
    pub fn masks(self) -> Vec<(u16, u16)> {
        let mut masks = Vec::new();
        let (mut next, high) = (u32::from(self.low), u32::from(self.high));
        while next <= high {
            // The largest aligned block that starts here and ends inside.
            let aligned = next.trailing_zeros().min(16);
            let fits = (high - next + 1).ilog2();
            let size = 1_u32 << aligned.min(fits);
            masks.push((next as u16, !(size - 1) as u16));
            next += size;
        }
        masks
    }
}

impl Transport {
    /// Every protocol.
    pub const ALL: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

    /// Its IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => protocol::TCP,
            Transport::Udp => protocol::UDP,
            Transport::Sctp => protocol::SCTP,
        }
    }

    /// The protocol of an IP protocol number.
    pub const fn from_number(number: u8) -> Option<Transport> {
        match number {
            protocol::TCP => Some(Transport::Tcp),
            protocol::UDP => Some(Transport::Udp),
            protocol::SCTP => Some(Transport::Sctp),
            _ => None,
        }
    }
}

impl Family {
    /// Both families.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl FromStr for PortRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || bad_range(text);
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let (low, high) = text.split_once('-').ok_or_else(bad)?;
        PortRange::new(port(low)?, port(high)?).map_err(|_| bad())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        })
    }
}

impl FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Transport::ALL
            .into_iter()
            .find(|transport| text.eq_ignore_ascii_case(&transport.to_string()))
            .ok_or_else(|| Error::word(text, "a transport protocol", "tcp, udp or sctp"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        })
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Family::ALL
            .into_iter()
            .find(|family| text.eq_ignore_ascii_case(&family.to_string()))
            .ok_or_else(|| Error::word(text, "an address family", "ipv4 or ipv6"))
    }
}

fn bad_range(text: &str) -> Error {
    Error::word(text, "a port range", "the lower and the higher port like 40000-59999")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        let range: PortRange = "40000-59999".parse().unwrap();
        assert_eq!((range.low(), range.high(), range.to_string()), (40000, 59999, "40000-59999".to_owned()));
        assert_eq!(range.masks().len(), 10);
        for bad in ["", "40000", "0-5", "5-4", "1-65536", "a-b", "-1-5"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_whole_range_of_ports_has_masks() {
        assert_eq!(PortRange::new(1, u16::MAX).unwrap().masks().len(), 16);
        assert_eq!(PortRange::new(u16::MAX, u16::MAX).unwrap().masks(), [(u16::MAX, u16::MAX)]);
    }

    #[test]
    fn words_lead_back_to_their_values() {
        for transport in Transport::ALL {
            assert_eq!(transport.to_string().parse(), Ok(transport));
            assert_eq!(Transport::from_number(transport.number()), Some(transport));
        }
        for family in Family::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        assert_eq!("UDP".parse(), Ok(Transport::Udp));
        assert!("icmp".parse::<Transport>().is_err());
    }

    proptest! {
        #[test]
        fn masks_cover_the_range_and_nothing_else(a in 1_u16.., b in 1_u16.., port: u16) {
            let range = PortRange::new(a.min(b), a.max(b)).unwrap();
            let hits = |port: u16| range.masks().iter().filter(|(value, mask)| port & mask == *value).count();
            for port in [port, a, b, a.wrapping_sub(1), b.wrapping_add(1)] {
                prop_assert_eq!(hits(port), usize::from(range.contains(port)));
            }
        }
    }
}
