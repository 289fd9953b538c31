//! Spans and sets of transport ports, as the kernel writes them (`1024,40000-59999`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An inclusive span of ports, low to high. Not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSpan {
    low: u16,
    high: u16,
}

impl PortSpan {
    /// From both ends, `None` when they are the wrong way round.
    #[must_use]
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (low <= high).then_some(Self { low, high })
    }

    /// The lowest port of it.
    #[must_use]
    pub fn low(self) -> u16 {
        self.low
    }

    /// The highest port of it.
    #[must_use]
    pub fn high(self) -> u16 {
        self.high
    }

    /// Is the port inside?
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// Has it a port in common with the other?
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

impl fmt::Display for PortSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

/// A set of ports: spans in order, neither touching nor overlapping. Reads and prints as the kernel's lists do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSet {
    spans: Vec<PortSpan>,
}

impl PortSet {
    /// From ports and spans in any order.
    pub fn from_spans(spans: impl IntoIterator<Item = PortSpan>) -> Self {
        let mut sorted: Vec<PortSpan> = spans.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<PortSpan> = Vec::with_capacity(sorted.len());
        for span in sorted {
            match merged.last_mut() {
                Some(last) if u32::from(span.low) <= u32::from(last.high) + 1 => {
                    last.high = last.high.max(span.high)
                }
                _ => merged.push(span),
            }
        }
        Self { spans: merged }
    }

    #[cfg(test)]
    pub(crate) fn from_ports(ports: impl IntoIterator<Item = u16>) -> Self {
        Self::from_spans(ports.into_iter().map(|port| PortSpan { low: port, high: port }))
    }

    /// The spans, in order.
    #[must_use]
    pub fn spans(&self) -> &[PortSpan] {
        &self.spans
    }

    /// No port at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many ports.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.spans.iter().map(|span| u32::from(span.high - span.low) + 1).sum()
    }

    /// Is the port one of them?
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.spans.iter().any(|span| span.contains(port))
    }

    /// What is in this or in the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_spans(self.spans.iter().chain(&other.spans).copied())
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for span in &self.spans {
            let mut low = u32::from(span.low);
            for hole in other.spans.iter().filter(|hole| hole.overlaps(*span)) {
                if let (Ok(from), Some(to)) = (u16::try_from(low), hole.low.checked_sub(1)) {
                    rest.extend(PortSpan::new(from, to));
                }
                low = low.max(u32::from(hole.high) + 1);
            }
            if let Ok(from) = u16::try_from(low) {
                rest.extend(PortSpan::new(from, span.high));
            }
        }
        Self { spans: rest }
    }

    /// What is in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// At most `spans` spans that hold at least these ports: the smallest gaps are closed. For lists the kernel reads
    /// one page of.
    #[must_use]
    pub(crate) fn coarsened(&self, spans: usize) -> Self {
        let mut gaps: Vec<(u16, usize)> =
            self.spans.windows(2).enumerate().map(|(i, pair)| (pair[1].low - pair[0].high, i)).collect();
        gaps.sort_unstable();
        let close: BTreeSet<usize> =
            gaps.iter().take(self.spans.len().saturating_sub(spans.max(1))).map(|&(_, i)| i).collect();
        let filled = close.iter().map(|&i| PortSpan { low: self.spans[i].high, high: self.spans[i + 1].low });
        Self::from_spans(self.spans.iter().copied().chain(filled))
    }
}

impl From<PortSpan> for PortSet {
    fn from(span: PortSpan) -> Self {
        Self { spans: vec![span] }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, span) in self.spans.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{span}")?;
        }
        Ok(())
    }
}

/// A list of ports that does not read as one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of ports (like 1024,40000-59999)")]
pub struct NotPorts(String);

impl FromStr for PortSet {
    type Err = NotPorts;

    fn from_str(text: &str) -> Result<Self, NotPorts> {
        let bad = || NotPorts(text.to_owned());
        let mut spans = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            let ends = (low.trim().parse().map_err(|_| bad())?, high.trim().parse().map_err(|_| bad())?);
            spans.push(PortSpan::new(ends.0, ends.1).ok_or_else(bad)?);
        }
        Ok(Self::from_spans(spans))
    }
}

impl TryFrom<String> for PortSet {
    type Error = NotPorts;

    fn try_from(text: String) -> Result<Self, NotPorts> {
        text.parse()
    }
}

impl From<PortSet> for String {
    fn from(ports: PortSet) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> PortSet {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_prints_the_kernels_lists() {
        assert_eq!(set("8080\n").to_string(), "8080");
        assert_eq!(set("").to_string(), "");
        assert_eq!(set("5-7,1-2,3,9").to_string(), "1-3,5-7,9");
        assert_eq!(set("65535,0").to_string(), "0,65535");
        assert!("7-5".parse::<PortSet>().is_err());
        assert!("x".parse::<PortSet>().is_err());
        assert!("70000".parse::<PortSet>().is_err());
    }

    #[test]
    fn coarsening_closes_the_smallest_gaps() {
        assert_eq!(set("1,3,100,104").coarsened(2).to_string(), "1-3,100-104");
        assert_eq!(set("1,3").coarsened(5).to_string(), "1,3");
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_sets(a in prop::collection::btree_set(any::<u16>(), 0..60),
                                      b in prop::collection::btree_set(prop_oneof![0u16..80, any::<u16>()], 0..60)) {
            let (x, y) = (PortSet::from_ports(a.clone()), PortSet::from_ports(b.clone()));
            prop_assert_eq!(x.union(&y), PortSet::from_ports(a.union(&b).copied()));
            prop_assert_eq!(x.minus(&y), PortSet::from_ports(a.difference(&b).copied()));
            prop_assert_eq!(x.common(&y), PortSet::from_ports(a.intersection(&b).copied()));
            prop_assert_eq!(x.len() as usize, a.len());
            prop_assert_eq!(x.to_string().parse::<PortSet>().unwrap(), x);
        }
    }
}
