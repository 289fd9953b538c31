//! What the command line asks for, as a value.

use std::path::PathBuf;
use std::time::Duration;

use cli::OutputFormat;
use ovs::ovsdb::Remote;
use serde::{Deserialize, Serialize};

/// To which device management goes.
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
    /// vswitchd itself: `netdev`. A port is a tap; the ingress filter decides which device the host accepts frames from.
    Netdev,
    /// The kernel's openvswitch module: `system`. A port's frames go to the bridge alone.
    System,
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Print the plan and change nothing.
    pub dry_run: bool,
    /// Form of what is printed.
    pub form: OutputFormat,
    /// Proceed despite forceable refusals.
    pub force: bool,
    /// The bridge's datapath; by default the switch's own setting.
    pub datapath: Option<Datapath>,
    /// Whether a next hop must answer through the bridge before the switchover.
    pub probe: bool,
    /// How long it may take from the start until it is verified.
    pub verify_timeout: Duration,
    /// A command of the operator's that must succeed after the switchover.
    pub verify_cmd: Option<String>,
    /// How long to wait for the operator's confirmation after the switchover; `None` for no confirmation.
    pub confirm: Option<Duration>,
    /// Folder of the journal.
    pub state_dir: PathBuf,
    /// The switch's database.
    pub db: Remote,
}

impl Options {
    /// The options of a command line without flags, with this state folder and database.
    #[must_use]
    pub fn new(state_dir: PathBuf, db: Remote) -> Self {
        Self {
            dry_run: false,
            form: OutputFormat::Table,
            force: false,
            datapath: None,
            probe: true,
            verify_timeout: Duration::from_secs(15),
            verify_cmd: None,
            confirm: None,
            state_dir,
            db,
        }
    }
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
