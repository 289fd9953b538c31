//! Summary of a series of measurements.

use std::fmt;
use std::time::Duration;

/// Measured durations of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Sorted.
    durations: Vec<Duration>,
}

impl Samples {
    /// One more.
    pub fn add(&mut self, duration: Duration) {
        let at = self.durations.partition_point(|before| *before <= duration);
        self.durations.insert(at, duration);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.durations.len()
    }

    /// The middle one, zero when there are none.
    pub fn median(&self) -> Duration {
        self.per_mille(500)
    }

    /// The smallest that so many of a thousand do not exceed (nearest rank).
    pub fn per_mille(&self, rank: usize) -> Duration {
        let place = (self.durations.len() * rank).div_ceil(1000).max(1) - 1;
        self.durations.get(place).copied().unwrap_or_default()
    }

    /// How many times longer than another the middle one is.
    pub fn ratio_to(&self, other: &Samples) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut durations: Vec<_> = durations.into_iter().collect();
        durations.sort();
        Samples { durations }
    }
}

/// Cells of a Markdown table: least, median, p90, p99, runs.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |rank| milliseconds(self.per_mille(rank));
        write!(f, "{} | {} | {} | {} | {}", cell(0), cell(500), cell(900), cell(990), self.count())
    }
}

/// In milliseconds, with three digits that mean something.
pub fn milliseconds(duration: Duration) -> String {
    let number = duration.as_secs_f64() * 1e3;
    let digits = match number {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{number:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(numbers: &[u64]) -> Samples {
        numbers.iter().map(|number| Duration::from_millis(*number)).collect()
    }

    #[test]
    fn ranks_are_nearest_ranks() {
        let all = samples(&(1..=100).rev().collect::<Vec<_>>());
        let rank = |rank| all.per_mille(rank).as_millis();
        assert_eq!((rank(500), rank(900), rank(990), rank(1000)), (50, 90, 99, 100));
        assert_eq!(samples(&[7]).per_mille(990).as_millis(), 7);
        assert_eq!(Samples::default().median(), Duration::ZERO);
    }

    #[test]
    fn one_by_one_is_the_same_as_at_once() {
        let mut one_by_one = Samples::default();
        for number in [3, 1, 2, 9, 4] {
            one_by_one.add(Duration::from_millis(number));
        }
        assert_eq!(one_by_one.to_string(), samples(&[9, 4, 3, 2, 1]).to_string());
        assert_eq!(one_by_one.to_string(), "1.00 ms | 3.00 ms | 9.00 ms | 9.00 ms | 5");
        assert!((samples(&[30]).ratio_to(&one_by_one) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        let texts = [123_456, 12_345, 1_234, 123].map(|number| milliseconds(Duration::from_micros(number)));
        assert_eq!(texts, ["123 ms", "12.3 ms", "1.23 ms", "0.123 ms"]);
    }
}
