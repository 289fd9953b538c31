//! A small deterministic source of numbers: splitmix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
//! Generators", 2014).

/// A sequence of numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`; 0 when that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The bias of the remainder does not matter to a test.
        self.next().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    pub(crate) fn between(&mut self, low: u16, high: u16) -> u16 {
        low.saturating_add(self.below(usize::from(high.saturating_sub(low)) + 1) as u16)
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.next() as u8
    }

    /// True in so many of a hundred.
    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.octet()).collect()
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(self.below(choices.len())).copied()
    }

    /// One of several, by weight. `fallback` stands for an empty list.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(usize, T)], fallback: T) -> T {
        let mut left = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *choice,
            }
        }
        fallback
    }
}
