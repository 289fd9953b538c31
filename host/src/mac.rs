//! MAC addresses.

use std::fmt;

/// A MAC address of Ethernet: six bytes, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every device of a link.
    pub(crate) const BROADCAST: Self = Self([0xff; 6]);

    /// From an attribute of that length.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_six_bytes() {
        let mac = Mac::from_bytes(&[2, 0, 0, 0, 0xab, 9]).unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:ab:09");
        for bytes in [[0; 5].as_slice(), &[0; 7], &[]] {
            assert_eq!(Mac::from_bytes(bytes), None);
        }
    }
}
