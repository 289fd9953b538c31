//! `ovn-k8s doctor`: what is wrong on this node, why it matters, what to do.
//!
//! ```text
//!   kernel, switch, firewall, managers (observe) --+
//!   guards, journal, records, files, sysctls ------+
//!   each bridge's flows and ports (OpenFlow) ------+--> Seen (a value) --> checks (pure) --> Findings --> table, JSON
//!   the helper's own status, daemons --------------+
//!   ovn-controller, OVN's databases ---------------+
//! ```
//!
//! A NIC or bridge that is named, or was taken over, is looked at as an uplink; a NIC that was not is told what
//! `nics-to-bridge` would refuse or warn about. Everything asked may be dead: each is asked beside the others and for a
//! bounded time, and what does not answer is a finding of its own.
//!
//! Changes nothing, and needs nothing to run but the kernel.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use ovs::ovsdb::Remote;
use ovs::paths::Paths;

use crate::helper::flags::Stop;

mod checks;
mod finding;
mod gather;
mod seen;

use seen::{Seen, UplinkSeen};

pub use finding::{Finding, Report, Severity};

const EXIT_CODES: &str = "\
Exit codes:
  0  nothing wrong (there may be notes)
  1  warnings, or the command line is not understood
  2  errors: something does not work, or will not after the next restart";

/// Looks for what is wrong with this node's uplink, flows, switch, helper and OVN, and says why it matters and what to do.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovn-k8s doctor", bin_name = "ovn-k8s doctor", version, after_help = EXIT_CODES)]
struct DoctorArgs {
    /// NICs or bridges (default: what was taken over, else the NICs of the default routes)
    #[arg(value_name = "NIC|BRIDGE", value_parser = NonEmptyStringValueParser::new())]
    devices: Vec<String>,
    /// Form of the answer
    #[arg(long, short, value_name = "FORM", default_value = "table", value_parser = PossibleValuesParser::new(["table", "json"]))]
    output: String,
    /// Folder of what outlives the programs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ovn-k8s")]
    state_dir: PathBuf,
    /// The local Open_vSwitch database (default: unix:RUNDIR/db.sock)
    #[arg(long, value_name = "DATABASE")]
    db: Option<String>,
}

/// Runs `ovn-k8s doctor`. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match DoctorArgs::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => match Stop::from(&error) {
            Stop::Asked(text) => return print(&text, ExitCode::SUCCESS),
            Stop::Wrong(line) => return refuse(&line),
        },
    };
    match look(&args) {
        Ok(report) => {
            let text = match args.output.as_str() {
                "json" => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
                _ => report.to_string(),
            };
            print(&text, ExitCode::from(report.exit_code()))
        }
        Err(line) => refuse(&line),
    }
}

fn look(args: &DoctorArgs) -> Result<Report, String> {
    let db = match &args.db {
        None => Remote::unix(Paths::from_env().db_sock()),
        Some(text) => {
            text.parse().map_err(|error| format!("--db: {error} (leave it out for the local switch)"))?
        }
    };
    let seen = gather::gather(&args.devices, &args.state_dir, &db).map_err(|error| error.to_string())?;
    Ok(report(&seen))
}

fn report(seen: &Seen) -> Report {
    Report::of(seen.uplinks.iter().map(UplinkSeen::said).collect(), checks::all(seen))
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    // A reader that closes the pipe early has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("ovn-k8s doctor: {line}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests;
