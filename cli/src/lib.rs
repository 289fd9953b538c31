//! What every command of the product shares.
//!
//! * [`parse`] reads a command line and answers `--help`, `--version` and mistakes the same way everywhere.
//! * [`print()`] and [`note`] write to standard output and standard error, and do not fail on a closed pipe.
//! * [`fail`] ends a command that cannot do what it was asked: one line on standard error, exit status 1.
//! * [`Refusal`] is an error that says what is wrong and what to do instead; [`json`] writes what `--output json` asks for.
//! * [`OutputArgs`], [`StateDirArgs`], [`DatabaseArgs`] and [`interface_name`] are flags that several commands have.
//!
//! Exit status of every command: 0 done; 1 not done, with one line that says why; 2 and above only where the command's
//! `--help` lists them (`doctor`: errors found; `explain --live`: the bridge disagrees with the policy).
//!
//! It never decides anything about the node: it only reads arguments and writes text.

mod flags;

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;

pub use flags::{DatabaseArgs, OutputArgs, OutputFormat, STATE_DIR, StateDirArgs, interface_name};

/// What a command does not do, and what to do instead. Printed as "what (remedy)".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with the value or object it is about.
    pub what: String,
    /// What to do instead.
    pub remedy: String,
}

impl Refusal {
    /// A refusal of these two texts.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// Why a program ends before it does anything.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// `--help` or `--version`: print the text, exit with status 0.
    Help(String),
    /// The command line or a settings file is wrong: print one line, exit with status 1.
    Error(String),
}

impl EarlyExit {
    /// Prints the text where it belongs and returns the exit status.
    pub fn report(self, program: &str) -> ExitCode {
        match self {
            EarlyExit::Help(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            EarlyExit::Error(line) => fail(program, &line),
        }
    }
}

impl From<&clap::Error> for EarlyExit {
    /// Turns an error that clap prints as a paragraph into one line with its remedy.
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return EarlyExit::Help(text);
        }
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let parts = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
        let line = parts
            .map(|line| line.trim_start_matches("error: ").trim_start_matches("tip: "))
            .fold(String::new(), |all, part| if all.is_empty() { part.to_owned() } else { join(all, part) });
        EarlyExit::Error(format!("{line} (--help lists the flags)"))
    }
}

/// Parses a command line, the program's name first. `Err` is the exit status of a command that has already answered.
pub fn parse<A: Parser>(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    A::try_parse_from(args).map_err(|error| EarlyExit::from(&error).report(program))
}

/// Writes to standard output. A reader that closes the pipe early does not make the command fail.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes one line to standard error. Unlike `eprintln!` it does not panic on a closed terminal, which would end a
/// takeover halfway.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints on standard error why the program could not do what it was asked, and returns exit status 1.
pub fn fail(program: &str, line: &str) -> ExitCode {
    note(format!("{program}: {line}"));
    ExitCode::FAILURE
}

/// A value as indented JSON, with a newline at its end.
pub fn json(value: &impl Serialize) -> Result<String, Refusal> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => {
            Err(Refusal::new(format!("cannot write the answer as JSON: {error}"), "use --output table"))
        }
    }
}

/// Joins two lines of an error so that they read as one.
fn join(before: String, part: &str) -> String {
    if before.ends_with(':') { format!("{before} {part}") } else { format!("{before}; {part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_its_remedy() {
        assert_eq!(
            Refusal::new("eth0 is down", "`ip link set eth0 up`").to_string(),
            "eth0 is down (`ip link set eth0 up`)"
        );
    }

    #[test]
    fn json_ends_with_a_newline() {
        assert_eq!(json(&[1, 2]).as_deref(), Ok("[\n  1,\n  2\n]\n"));
    }

    #[test]
    fn a_mistake_becomes_one_line() {
        #[derive(Debug, Parser)]
        struct Args {
            #[command(flatten)]
            output: OutputArgs,
        }
        let error = Args::try_parse_from(["x", "--output=poem"]).unwrap_err();
        let EarlyExit::Error(line) = EarlyExit::from(&error) else { panic!("{error}") };
        assert!(line.contains("poem") && line.contains("table, json"), "{line}");
        assert!(line.ends_with("(--help lists the flags)") && !line.contains('\n'), "{line}");
        let help = Args::try_parse_from(["x", "--help"]).unwrap_err();
        assert!(matches!(EarlyExit::from(&help), EarlyExit::Help(text) if text.contains("--output")));
        assert_eq!(Args::try_parse_from(["x", "-o", "json"]).unwrap().output.format, OutputFormat::Json);
    }
}
