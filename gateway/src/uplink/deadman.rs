//! The dead-man: a process of its own that undoes when the one at work cannot.

use std::ffi::OsString;
use std::process::ExitCode;

/// The name the dead-man is started by; nobody calls it by hand.
pub const PROGRAM: &str = "ovn-k8s-uplink-deadman";

/// Runs the dead-man. `args` begin with its name.
pub fn main(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    eprintln!("{PROGRAM}: not built yet");
    ExitCode::FAILURE
}
