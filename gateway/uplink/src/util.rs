//! `ovn-k8s-util`: the takeover's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use cli::OutputFormat;

use super::error::Result;
use super::journal::Folder;
use super::names::PROGRAM;
use super::options::Options;
use super::plan::Plan;
use super::transaction::{self, TakeoverReport};
use super::{confirm, recover};

mod args;

use args::{Command, UtilArgs};

/// Runs `ovn-k8s-util`. `args` begin with its name. Exits 0 when it is done (or was done before, or could be), else 1.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: UtilArgs = match cli::parse(PROGRAM, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(PROGRAM, &error.to_string()),
    }
}

fn run(args: &UtilArgs) -> Result<()> {
    let mut form = OutputFormat::Table;
    let report = match &args.command {
        Command::NicsToBridge(args) => {
            let options = args.options()?;
            let plan = transaction::plan_attach(&args.interfaces, &options)?;
            if options.dry_run {
                return show(&plan, &options);
            }
            allow(&plan, &options)?;
            form = options.form;
            transaction::nics_to_bridge(&plan, &options)?
        }
        Command::BridgeToNics(args) => {
            let options = args.options()?;
            let plan = transaction::plan_detach(&args.bridges, &options)?;
            if options.dry_run {
                return show(&plan, &options);
            }
            allow(&plan, &options)?;
            form = options.form;
            transaction::bridge_to_nics(&plan, &options)?
        }
        Command::Recover(place) => recover::recover(&place.options()?)?,
        Command::Confirm(place) => {
            confirm::confirm(&Folder::below(&place.folder()?))?;
            TakeoverReport {
                lines: vec!["confirmed; the run has committed".to_owned()],
                ..TakeoverReport::default()
            }
        }
    };
    if form == OutputFormat::Json {
        // It has warnings and times, too.
        cli::print(&cli::json(&report)?);
        return Ok(());
    }
    for warning in &report.warnings {
        cli::note(format!("{PROGRAM}: {warning}"));
    }
    cli::print(&report.lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(())
}

/// `--dry-run`: prints the plan and changes nothing. A refusal is also the command's error.
fn show(plan: &Plan, options: &Options) -> Result<()> {
    let text = match options.form {
        OutputFormat::Table => plan.to_string(),
        OutputFormat::Json => cli::json(plan)?,
    };
    cli::print(&text);
    verdict(plan, options)
}

/// Whether the run would be refused. An earlier run that is still open explains more than what it left.
fn verdict(plan: &Plan, options: &Options) -> Result<()> {
    transaction::nothing_open(options)?;
    plan.verdict(options.force)
}

/// Whether the run may begin; prints its warnings.
fn allow(plan: &Plan, options: &Options) -> Result<()> {
    if let Err(against) = plan.verdict(options.force) {
        transaction::nothing_open(options)?;
        return Err(against);
    }
    for warning in &plan.warnings {
        cli::note(format!("{PROGRAM}: {}: {} ({})", warning.about, warning.what, warning.remedy));
    }
    for refusal in &plan.refusals {
        cli::note(format!("{PROGRAM}: forced: {}: {} ({})", refusal.about, refusal.what, refusal.remedy));
    }
    Ok(())
}
