//! What a takeover is asked for, as a value.

use std::path::PathBuf;
use std::time::Duration;

use cli::OutputFormat;
use ovs::ovsdb::Remote;
use serde::{Deserialize, Serialize};

/// Which way management goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the NIC onto the bridge.
    #[serde(rename = "there")]
    Attach,
    /// From the bridge back to the NIC.
    #[serde(rename = "back")]
    Detach,
}

/// What carries the bridge's frames (column `datapath_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// vswitchd itself: `netdev`. A port is a tap; the guard turns the ears.
    Netdev,
    /// The kernel's openvswitch module: `system`. The port's addition turns the ears.
    System,
}

/// What holds for a whole run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Print what would be done and change nothing.
    pub dry_run: bool,
    /// Form of what is printed.
    pub form: OutputFormat,
    /// Do what is only dangerous.
    pub force: bool,
    /// The bridge's datapath, where somebody says it; else the switch's own setting.
    pub datapath: Option<Datapath>,
    /// Whether a next hop must answer through the bridge before anything is turned.
    pub probe: bool,
    /// How long it may take from the start until it is verified.
    pub verify_timeout: Duration,
    /// A command of the operator's that must succeed after the turn.
    pub verify_cmd: Option<String>,
    /// How long to wait for the operator's word after the turn, where it is wanted.
    pub confirm: Option<Duration>,
    /// Folder of the journal.
    pub state_dir: PathBuf,
    /// The switch's database.
    pub db: Remote,
}

impl Datapath {
    /// As column `datapath_type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Datapath::Netdev => "netdev",
            Datapath::System => "system",
        }
    }

    /// From the column; an empty one is the kernel's.
    pub fn of(column: &str) -> Option<Self> {
        match column {
            "netdev" => Some(Datapath::Netdev),
            "system" | "" => Some(Datapath::System),
            _ => None,
        }
    }
}

impl std::fmt::Display for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
