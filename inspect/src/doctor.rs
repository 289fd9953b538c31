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
use std::process::ExitCode;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use cli::{DatabaseArgs, OutputArgs, OutputFormat, StateDirArgs};

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
    /// Format.
    #[command(flatten)]
    output: OutputArgs,
    /// Folder of the takeover's journal and records.
    #[command(flatten)]
    state_dir: StateDirArgs,
    /// The switch's database.
    #[command(flatten)]
    db: DatabaseArgs,
}

/// Runs `ovn-k8s doctor`. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: DoctorArgs = match cli::parse(NAME, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match diagnose(&args) {
        Ok((text, code)) => {
            cli::print(&text);
            ExitCode::from(code)
        }
        Err(error) => cli::fail(NAME, &error.to_string()),
    }
}

/// The report as text, and its exit status.
fn diagnose(args: &DoctorArgs) -> Result<(String, u8), uplink::Error> {
    let seen = gather::gather(&args.devices, &args.state_dir.path, &args.db.remote()?)?;
    let report = report(&seen);
    let text = match args.output.format {
        OutputFormat::Json => cli::json(&report)?,
        OutputFormat::Table => report.to_string(),
    };
    Ok((text, report.exit_code()))
}

fn report(seen: &Seen) -> Report {
    Report::of(seen.uplinks.iter().map(UplinkSeen::said).collect(), checks::all(seen))
}

#[cfg(test)]
mod tests;
