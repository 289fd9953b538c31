//! Results as rows of a table: printed as they arrive, and all together at the end.

use std::time::Duration;

use benches::sample::{Samples, milliseconds};

/// The rows so far.
#[derive(Debug, Default)]
pub struct Report {
    times: Vec<String>,
    numbers: Vec<String>,
}

impl Report {
    /// Durations of one thing, and what the median was to stay under.
    pub fn times(&mut self, what: &str, samples: &Samples, target: Option<Duration>) {
        let target = match target {
            None => String::new(),
            Some(target) if samples.median() < target => format!("< {}: reached", milliseconds(target)),
            Some(target) => format!("< {}: missed", milliseconds(target)),
        };
        print_row(&mut self.times, format!("| {what} | {samples} | {target} |"));
    }

    /// A number that is no duration.
    pub fn number(&mut self, what: &str, number: &str, target: &str) {
        print_row(&mut self.numbers, format!("| {what} | {number} | {target} |"));
    }

    /// Everything.
    pub fn print(&self) {
        if !self.times.is_empty() {
            println!(
                "\n| what | least | median | p90 | p99 | runs | to reach |\n|---|---|---|---|---|---|---|"
            );
            self.times.iter().for_each(|row| println!("{row}"));
        }
        if !self.numbers.is_empty() {
            println!("\n| what | number | to reach |\n|---|---|---|");
            self.numbers.iter().for_each(|row| println!("{row}"));
        }
    }
}

fn print_row(rows: &mut Vec<String>, row: String) {
    println!("{row}");
    rows.push(row);
}
