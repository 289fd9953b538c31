//! What every command of the product shares.
//!
//! * [`parse`] reads a command line and answers `--help`, `--version` and mistakes the same way everywhere,
//! * [`print()`] and [`note`] write to standard output and standard error without failing on a closed pipe,
//! * [`fail`] is how a command ends when it cannot do what it was asked: one line, exit status 1,
//! * [`OutputFormat`], [`STATE_DIR`], [`database`] and [`interface_name`] are flags that several commands have.
//!
//! It never decides anything about the node: it only reads arguments and writes text.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use ovs::ovsdb::Remote;
use ovs::paths::Paths;

/// Default of `--state-dir`: the folder for state that outlives a process.
pub const STATE_DIR: &str = "/var/lib/ovn-k8s";

/// Format of what a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

impl OutputFormat {
    /// As the flag and the helper's commands spell it.
    pub fn name(self) -> &'static str {
        match self {
            OutputFormat::Table => "table",
            OutputFormat::Json => "json",
        }
    }
}

/// A program that ends before it does anything.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Help or the version was asked for: print the text, exit with status 0.
    Help(String),
    /// The command line or a settings file is wrong: print one line, exit with status 1.
    Error(String),
}

impl EarlyExit {
    /// Prints the text where it belongs and gives the exit status.
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
    /// Makes one line, with its remedy, of an error that clap prints as a paragraph.
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return EarlyExit::Help(text);
        }
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let said = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
        let line = said
            .map(|line| line.trim_start_matches("error: ").trim_start_matches("tip: "))
            .fold(String::new(), |all, part| if all.is_empty() { part.to_owned() } else { join(all, part) });
        EarlyExit::Error(format!("{line} (--help lists the flags)"))
    }
}

/// Reads a command line, the program's name first. `Err` is the exit status of a program that has answered already.
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

/// Says on standard error why the program could not do what it was asked, and gives exit status 1.
pub fn fail(program: &str, line: &str) -> ExitCode {
    note(format!("{program}: {line}"));
    ExitCode::FAILURE
}

/// The local Open_vSwitch database: what `--db` names, or the socket of this node's ovsdb-server.
pub fn database(flag: Option<&str>) -> Result<Remote, String> {
    match flag {
        None => Ok(Remote::unix(Paths::from_env().db_sock())),
        Some(text) => text.parse().map_err(|error| format!("--db: {error}")),
    }
}

/// Checks a name that a Linux interface can have (`dev_valid_name()` in the kernel).
pub fn interface_name(text: &str) -> Result<String, String> {
    let well_formed = !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    let fault = match text.len() {
        0 => "is empty, ",
        16.. => "is longer than 15 bytes, ",
        _ if well_formed => return Ok(text.to_owned()),
        _ => "is ",
    };
    Err(format!(
        "\"{}\" {fault}not the name of an interface (1 to 15 characters, no blank, slash or colon); `ip -br link` lists \
         the interfaces",
        text.escape_debug()
    ))
}

/// Joins two lines of an error so that they read as one.
fn join(before: String, part: &str) -> String {
    if before.ends_with(':') { format!("{before} {part}") } else { format!("{before}; {part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for name in ["eth0", "enp0s31f6", "a", "fifteen-bytes-x"] {
            assert_eq!(interface_name(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\u{7}"] {
            assert!(interface_name(name).is_err_and(|said| said.contains("ip -br link")), "{name:?}");
        }
    }

    #[test]
    fn a_database_that_cannot_be_read_names_its_flag() {
        assert!(database(None).is_ok());
        assert_eq!(database(Some("unix:/run/db.sock")), Ok(Remote::unix("/run/db.sock")));
        assert!(database(Some("pigeon")).is_err_and(|said| said.starts_with("--db: ")));
    }
}
