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
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use cli::OutputFormat;

mod checks;
mod finding;
mod gather;
mod snapshot;

use snapshot::{Seen, UplinkSeen};

pub use finding::{Finding, Report, Severity};

/// The name in errors.
const NAME: &str = "ovn-k8s doctor";

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
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    output: OutputFormat,
    /// Folder of what outlives the programs
    #[arg(long, value_name = "DIR", default_value = cli::STATE_DIR)]
    state_dir: PathBuf,
    /// The local Open_vSwitch database (default: unix:RUNDIR/db.sock)
    #[arg(long, value_name = "DATABASE")]
    db: Option<String>,
}

/// Runs `ovn-k8s doctor`. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: DoctorArgs = match cli::parse(NAME, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match look(&args) {
        Ok(report) => {
            cli::print(&match args.output {
                OutputFormat::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
                OutputFormat::Table => report.to_string(),
            });
            ExitCode::from(report.exit_code())
        }
        Err(line) => cli::fail(NAME, &line),
    }
}

fn look(args: &DoctorArgs) -> Result<Report, String> {
    let db = cli::database(args.db.as_deref())
        .map_err(|error| format!("{error} (leave it out for the local switch)"))?;
    let seen = gather::gather(&args.devices, &args.state_dir, &db).map_err(|error| error.to_string())?;
    Ok(report(&seen))
}

fn report(seen: &Seen) -> Report {
    Report::of(seen.uplinks.iter().map(UplinkSeen::said).collect(), checks::all(seen))
}

#[cfg(test)]
mod tests;
