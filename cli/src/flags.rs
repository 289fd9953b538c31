//! Flags that several commands have: flattened into their argument structs, so that each has one name, one default and
//! one help text.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ovs::ovsdb::Remote;
use ovs::paths::Paths;

use crate::Refusal;

/// Default of `--state-dir`: the folder for state that outlives a process.
pub const STATE_DIR: &str = "/var/lib/ovn-k8s";

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct OutputArgs {
    /// Format of the output
    #[arg(id = "output", long = "output", short = 'o', value_name = "FORMAT", default_value = "table")]
    pub format: OutputFormat,
}

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

/// `--state-dir`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct StateDirArgs {
    /// Folder for state that outlives the process: journal, takeover records, caches
    #[arg(id = "state_dir", long = "state-dir", value_name = "DIR", default_value = STATE_DIR)]
    pub path: PathBuf,
}

/// `--db`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct DatabaseArgs {
    /// The local Open_vSwitch database (default: unix:RUNDIR/db.sock)
    #[arg(long, value_name = "DATABASE")]
    pub db: Option<String>,
}

impl DatabaseArgs {
    /// The database that `--db` names, or the socket of this node's ovsdb-server.
    pub fn remote(&self) -> Result<Remote, Refusal> {
        match &self.db {
            None => Ok(Remote::unix(Paths::from_env().db_sock())),
            Some(text) => text.parse().map_err(|error| {
                Refusal::new(format!("--db: {error}"), "leave it out to use this node's own ovsdb-server")
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for name in ["eth0", "enp0s31f6", "a", "fifteen-bytes-x"] {
            assert_eq!(interface_name(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\u{7}"] {
            assert!(interface_name(name).is_err_and(|error| error.contains("ip -br link")), "{name:?}");
        }
    }

    #[test]
    fn a_database_that_cannot_be_read_names_its_flag() {
        let of = |text: &str| DatabaseArgs { db: Some(text.to_owned()) }.remote();
        assert!(DatabaseArgs::default().remote().is_ok());
        assert_eq!(of("unix:/run/db.sock"), Ok(Remote::unix("/run/db.sock")));
        assert!(of("pigeon").is_err_and(|refusal| refusal.what.starts_with("--db: ")));
    }
}
