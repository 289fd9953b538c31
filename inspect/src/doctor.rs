//! `ovn-k8s doctor`: what is wrong on this node, why it matters, what to do.
//!
//! ```text
//!   kernel, switch, firewall, managers -----------+
//!   ingress filters, journal, records, sysctls ---+
//!   flows and ports of each bridge (OpenFlow) ----+-- gather --> NodeSnapshot -- checks (pure) --> Findings --> table, JSON
//!   the helper's status, the switch's daemons ----+
//!   ovn-controller, OVN's databases --------------+
//! ```
//!
//! Checks the uplinks that were taken over, or the devices that are named. For a NIC that was not taken over it predicts
//! what `nics-to-bridge` would refuse or warn about. Every part may be dead: requests run at the same time, each has a
//! timeout, and a part that does not answer is a finding of its own.
//!
//! A new check is a function of the snapshot in `checks/`; a new fact is a field of the snapshot, filled in `gather/`.
//! It never changes the node, and needs nothing but the kernel to run.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use cli::{DatabaseArgs, OutputArgs, OutputFormat, StateDirArgs};

mod checks;
mod finding;
mod flow_diff;
mod gather;
mod snapshot;

use snapshot::{NodeSnapshot, UplinkSnapshot};

pub use finding::{Finding, Report, Severity};

/// The name in errors.
const NAME: &str = "ovn-k8s doctor";

const EXIT_CODES: &str = "\
Exit codes:
  0  no warnings and no errors (there may be notes)
  1  warnings, or the doctor could not run
  2  errors: something does not work, or will not work after the next restart

Run it as root: without root it cannot read control sockets, the firewall, and other users' processes.";

/// Checks this node's uplink, flows, switch, helper and OVN; prints what is wrong, why it matters and what to do.
///
/// It changes nothing. For a NIC that is not taken over it predicts what `ovn-k8s-util nics-to-bridge` would refuse.
#[derive(Clone, Debug, Parser)]
#[command(name = NAME, bin_name = NAME, version, after_help = EXIT_CODES)]
struct DoctorArgs {
    /// NICs or bridges (default: those that were taken over, else the NICs of the default routes)
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

/// Runs `ovn-k8s doctor`. `args` begin with its name. Exits 0, 1 for warnings, 2 for errors; 1 when it cannot run.
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
    let node = gather::gather(&args.devices, &args.state_dir.path, &args.db.remote()?)?;
    let report = report(&node);
    let text = match args.output.format {
        OutputFormat::Json => cli::json(&report)?,
        OutputFormat::Table => report.to_string(),
    };
    Ok((text, report.exit_code()))
}

fn report(node: &NodeSnapshot) -> Report {
    Report::of(node.uplinks.iter().map(UplinkSnapshot::title).collect(), checks::all(node))
}

#[cfg(test)]
mod tests;
