//! Lines for people.

use std::fmt::Display;
use std::io::Write;

/// A line on standard error. Where nobody reads any more (a closed terminal, a pager that ended), the work goes on:
/// `eprintln!` would end it in the middle.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
