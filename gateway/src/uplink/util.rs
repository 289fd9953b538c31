//! `ovn-k8s-util`: the takeover's command line.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use super::error::{Error, Result};
use super::transaction;
use crate::helper::flags::Stop;

mod args;

pub use args::{Command, PROGRAM, UtilArgs};

/// Runs `ovn-k8s-util`. `args` begin with its name. Exits 0 when it is done (or was done before), else 1.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match UtilArgs::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => match Stop::from(&error) {
            Stop::Asked(text) => {
                // A reader that closes the pipe early has seen enough.
                let _ = std::io::stdout().write_all(text.as_bytes());
                return ExitCode::SUCCESS;
            }
            Stop::Wrong(line) => return refuse(&line),
        },
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("{PROGRAM}: {line}");
    ExitCode::FAILURE
}

fn run(args: &UtilArgs) -> Result<()> {
    let report = match &args.command {
        Command::NicsToBridge(there) => transaction::nics_to_bridge(&there.interfaces, &there.options()?)?,
        Command::BridgeToNics(back) => transaction::bridge_to_nics(&back.bridges, &back.run.options()?)?,
        Command::Settle(_) => {
            return Err(Error::refused("settle is not built into this version", "use a later one"));
        }
        Command::Confirm(_) => {
            return Err(Error::refused("confirm is not built into this version", "use a later one"));
        }
    };
    for warning in &report.warnings {
        eprintln!("{PROGRAM}: {warning}");
    }
    for line in &report.lines {
        println!("{line}");
    }
    Ok(())
}
