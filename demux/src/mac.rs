//! A 48-bit Ethernet address.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A 48-bit Ethernet address, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address as a number, first octet highest.
    pub fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::word(text, "a MAC address", "six hexadecimal octets like 0a:00:00:00:00:01");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| is_octet(part)).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(octets)) }
    }
}

/// One or two hexadecimal digits; a sign, which numbers may have, is none.
fn is_octet(part: &str) -> bool {
    (1..=2).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let mac = Mac([0x0a, 0, 0xff, 1, 2, 3]);
        assert_eq!(mac.to_string(), "0a:00:ff:01:02:03");
        assert_eq!("0a:00:FF:1:2:3".parse(), Ok(mac));
        assert_eq!(mac.to_u64(), 0x0a00_ff01_0203);
        for bad in [
            "",
            "0a:00:ff:01:02",
            "0a:00:ff:01:02:03:04",
            "0a:00:ff:01:02:+3",
            "0a-00-ff-01-02-03",
            "0a:00:ff:01:02:003",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
