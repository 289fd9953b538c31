//! `ovn-k8s explain`: whose frame it is, and the rule that says so.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program. `args` begin with its name.
pub fn main(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    eprintln!("ovn-k8s explain: not built into this version");
    ExitCode::FAILURE
}
