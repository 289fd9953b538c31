//! Numbers of several runs, as the tables show them: median and greatest.

use std::{fmt, time::Duration};

/// What several runs gave for one thing.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Vec<f64>);

impl Numbers {
    /// One more.
    pub fn add(&mut self, number: f64) {
        let at = self.0.partition_point(|before| *before <= number);
        self.0.insert(at, number);
    }

    /// One more count.
    pub fn count(&mut self, count: usize) {
        // No run sends so many packets that the digits would not do.
        #[allow(clippy::cast_precision_loss)]
        self.add(count as f64);
    }

    /// One more duration, in milliseconds.
    pub fn time(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1e3);
    }

    /// How many there are.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    /// The greatest.
    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }
}

/// `median/greatest`; one number when they are the same.
impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, most) = (short(self.median()), short(self.most()));
        if median == most { f.write_str(&median) } else { write!(f, "{median}/{most}") }
    }
}

fn short(number: f64) -> String {
    if number >= 100.0 || number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}
