//! Reading big-endian integers with bounds, and patching lengths after the fact.

use super::Malformed;

/// A cursor over received bytes. Every read is checked; the position is kept for the error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((head, tail)) = self.bytes.split_at_checked(count) else {
            return Err(self.malformed("message ends too early"));
        };
        self.bytes = tail;
        self.at += count;
        Ok(head)
    }

    /// A cursor over the next `count` bytes only.
    pub(crate) fn part(&mut self, count: usize) -> Result<Reader<'a>, Malformed> {
        let at = self.at;
        Ok(Reader { bytes: self.take(count)?, at })
    }

    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn mac(&mut self) -> Result<[u8; 6], Malformed> {
        self.array()
    }

    /// A number of up to 16 bytes.
    pub(crate) fn number(&mut self, bytes: usize) -> Result<u128, Malformed> {
        if bytes > 16 {
            return Err(self.malformed("number wider than 128 bits"));
        }
        Ok(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }
}

/// Appends the low `bytes` bytes of a number.
pub(crate) fn put_number(out: &mut Vec<u8>, value: u128, bytes: usize) {
    let whole = value.to_be_bytes();
    out.extend_from_slice(&whole[whole.len() - bytes.min(whole.len())..]);
}

pub(crate) fn put_u16s(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends zeros until what began at `start` is a multiple of eight bytes long.
pub(crate) fn pad8(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    out.resize(start + length.next_multiple_of(8), 0);
}

/// Overwrites a 16-bit length at `at` with the bytes written since `start`; false when 16 bits do not hold it.
#[must_use]
pub(crate) fn set_length(out: &mut [u8], at: usize, start: usize) -> bool {
    let Ok(length) = u16::try_from(out.len() - start) else { return false };
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    true
}
