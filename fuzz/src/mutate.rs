//! Mutations of known inputs, from a seed.

/// Numbers at the edges of types and lengths.
const EDGES: [u64; 12] =
    [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];
/// Text that means something to JSON and YAML.
const WORDS: [&str; 16] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "{}",
    "[]",
    "\"",
    "\\u0000",
    "\\ud800",
    ": ",
    "- ",
    "\n---\n",
    "&a ",
    "*a",
];
/// Mutated inputs do not grow beyond this many bytes.
const LIMIT: usize = 16 * 1024;

/// Makes new inputs from known ones.
#[derive(Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        // xorshift stays at zero for ever.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of the inputs, changed one to eight times.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(8) {
            let other = &inputs[self.below(inputs.len())];
            self.change(&mut bytes, other);
        }
        bytes.truncate(LIMIT);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(1 + (bytes.len() - at).min(64));
        match self.below(9) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.number() as u8;
                }
            }
            2 => drop(bytes.drain(at..at + length)),
            3 => bytes.truncate(at),
            4 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => self.overwrite_number(&mut bytes[at..]),
            6 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at + length.min(word.len()), word.bytes());
            }
            7 => {
                let from = self.below(other.len() + 1);
                let until = from + self.below(1 + (other.len() - from).min(256));
                bytes.splice(at..at + length, other[from..until].iter().copied());
            }
            _ => {
                let fresh: Vec<u8> = (0..self.below(16)).map(|_| self.number() as u8).collect();
                bytes.splice(at..at, fresh);
            }
        }
    }

    /// An edge or a small distance from it, of 1, 2, 4 or 8 bytes, in either order of bytes.
    fn overwrite_number(&mut self, bytes: &mut [u8]) {
        let width = 1 << self.below(4);
        let value = EDGES[self.below(EDGES.len())].wrapping_add(self.below(3) as u64).wrapping_sub(1);
        let little = value.to_le_bytes();
        let Some(place) = bytes.get_mut(..width) else { return };
        place.copy_from_slice(&little[..width]);
        if self.below(2) == 0 {
            place.reverse();
        }
    }

    /// xorshift64 (Marsaglia).
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits of xorshift are the weak ones.
        self.0 >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_of_inputs_that_differ() {
        let inputs = [b"{\"a\": 1}".to_vec(), vec![0; 40], Vec::new()];
        let sequence = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..500).map(|_| mutator.next(&inputs)).collect::<Vec<_>>()
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        let distinct: std::collections::HashSet<_> = sequence(7).into_iter().collect();
        assert!(distinct.len() > 300, "{}", distinct.len());
    }
}
