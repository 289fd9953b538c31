//! The flags of `ovn-k8s-util`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{DatabaseArgs, OutputArgs, StateDirArgs};
use ovs::ovsdb::Remote;

use crate::error::{Error, Result};
use crate::names::PROGRAM;
use crate::options::{Datapath, Options};

const EXAMPLES: &str = "\
Examples:
  ovn-k8s-util nics-to-bridge --dry-run eth0
        the plan, and what is refused
  ovn-k8s-util nics-to-bridge eth0
        bridge breth0 with eth0 as its port; addresses and routes move over
  ovn-k8s-util nics-to-bridge --confirm=60 eth0
        the same, undone unless `ovn-k8s-util confirm` (or Enter) comes within a minute
  ovn-k8s-util bridge-to-nics breth0
        the addresses and routes of breth0 move back to eth0

Exit codes:
  0  done, or nothing to do; with --dry-run: the run would not be refused
  1  not done: one line says why and what to do; the node is as before.
     With --dry-run: the run would be refused, also with --force if that is given";

const THERE: &str = "\
Examples:
  ovn-k8s-util nics-to-bridge --dry-run --output=json eth0
  ovn-k8s-util nics-to-bridge eth0 eth1
        both NICs or neither
  ovn-k8s-util nics-to-bridge --verify-cmd='curl -sf -m 5 https://10.0.0.1:6443/healthz' eth0
  ovn-k8s-util nics-to-bridge --confirm eth0
        undone unless `ovn-k8s-util confirm` is run, or Enter is pressed, in time";

const BACK: &str = "\
Examples:
  ovn-k8s-util bridge-to-nics --dry-run breth0
  ovn-k8s-util bridge-to-nics breth0 breth1";

/// Moves the node's management from a NIC onto an OVS bridge and back, while its connections go on.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct UtilArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a bridge for each NIC (eth0: breth0) with the NIC as its port, and move addresses and routes onto it
    #[command(after_help = THERE)]
    NicsToBridge(AttachArgs),
    /// Move addresses and routes from each bridge back to its NIC, and remove the bridge
    #[command(after_help = BACK)]
    BridgeToNics(DetachArgs),
    /// Recover from a run that was interrupted, and restore bridge and ingress filter after a reboot
    Recover(RecoverArgs),
    /// Confirm a takeover that was started with --confirm
    Confirm(LocationArgs),
}

/// `nics-to-bridge`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AttachArgs {
    /// The NICs
    #[arg(value_name = "IFACE", required = true, value_parser = cli::interface_name)]
    pub interfaces: Vec<String>,
    /// The bridge's datapath (default: external_ids:ovn-bridge-datapath-type of table Open_vSwitch, then system)
    #[arg(long, value_name = "TYPE")]
    pub datapath_type: Option<DatapathFlag>,
    /// Skip the next-hop probe before the switchover
    #[arg(long)]
    pub no_probe: bool,
    /// Options of both commands.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `bridge-to-nics`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DetachArgs {
    /// The bridges
    #[arg(value_name = "BRIDGE", required = true, value_parser = cli::interface_name)]
    pub bridges: Vec<String>,
    /// Options of both commands.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of both commands.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Print the plan, change nothing, and exit; with 1 when the plan has refusals
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the plan or report.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Proceed despite refusals that are marked forceable
    #[arg(long)]
    pub force: bool,
    /// Undo a run that is not verified after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub verify_timeout: u64,
    /// A shell command that must succeed after the switchover; everything is undone if it fails
    #[arg(long, value_name = "COMMAND")]
    pub verify_cmd: Option<String>,
    /// Wait for `ovn-k8s-util confirm` or Enter; undo without it after SECONDS [60]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub confirm: Option<u64>,
    /// State folder and database.
    #[command(flatten)]
    pub place: LocationArgs,
}

/// `recover`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecoverArgs {
    /// State folder and database.
    #[command(flatten)]
    pub place: LocationArgs,
}

/// State folder and database.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocationArgs {
    /// Folder of the journal.
    #[command(flatten)]
    pub state_dir: StateDirArgs,
    /// The switch's database.
    #[command(flatten)]
    pub db: DatabaseArgs,
}

/// `--datapath-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatapathFlag {
    /// vswitchd itself, in userspace
    Netdev,
    /// The kernel's openvswitch module
    System,
}

impl AttachArgs {
    /// As a value.
    pub(crate) fn options(&self) -> Result<Options> {
        let datapath = self.datapath_type.map(|flag| match flag {
            DatapathFlag::Netdev => Datapath::Netdev,
            DatapathFlag::System => Datapath::System,
        });
        once(&self.interfaces)?;
        Ok(Options { datapath, probe: !self.no_probe, ..self.run.options()? })
    }
}

impl DetachArgs {
    /// As a value.
    pub(crate) fn options(&self) -> Result<Options> {
        once(&self.bridges)?;
        self.run.options()
    }
}

impl RunArgs {
    /// As a value.
    pub(crate) fn options(&self) -> Result<Options> {
        Ok(Options {
            dry_run: self.dry_run,
            form: self.output.format,
            force: self.force,
            datapath: None,
            probe: true,
            verify_timeout: Duration::from_secs(self.verify_timeout),
            verify_cmd: self.verify_cmd.clone(),
            confirm: self.confirm.map(Duration::from_secs),
            state_dir: self.place.folder()?,
            db: self.place.remote()?,
        })
    }
}

impl RecoverArgs {
    /// As a value: a repeated takeover has no options of its own.
    pub(crate) fn options(&self) -> Result<Options> {
        // The refusals were overruled, or absent, at the first takeover.
        Ok(Options { force: true, ..Options::new(self.place.folder()?, self.place.remote()?) })
    }
}

impl LocationArgs {
    /// Folder for the journal, wherever the process goes.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        absolute("--state-dir", &self.state_dir.path)
    }

    /// The switch's database, wherever the process goes.
    pub(crate) fn remote(&self) -> Result<Remote> {
        match self.db.remote()? {
            remote @ Remote::Ssl(_) => Err(Error::refused(
                format!("--db={remote} is not on this node, or not meant for it"),
                "a NIC is taken over through the node's own switch: write unix:PATH, or tcp:127.0.0.1:PORT",
            )),
            Remote::Unix(path) => absolute("--db", &path).map(Remote::Unix),
            remote => Ok(remote),
        }
    }
}

/// The rollback watchdog has another working directory, and must find the same files.
fn absolute(flag: &'static str, path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::refused(format!("{flag}={}: {error}", path.display()), "write the whole path")
    })
}

/// A name given twice is a mistake for another one.
fn once(names: &[String]) -> Result<()> {
    let twice =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name));
    match twice {
        Some((_, name)) => Err(Error::refused(format!("{name} is named twice"), "name each device once")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<UtilArgs, String> {
        let words = std::iter::once(PROGRAM).chain(line.split_whitespace());
        UtilArgs::try_parse_from(words).map_err(|error| error.to_string())
    }

    fn attach_args(line: &str) -> AttachArgs {
        match parse(&format!("nics-to-bridge {line}")).unwrap().command {
            Command::NicsToBridge(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_take_their_value_with_a_space_or_an_equals_sign() {
        for line in [
            "--verify-timeout=3 --datapath-type=netdev --state-dir=/x --db=unix:/y --output=json eth0 eth1",
            "--verify-timeout 3 --datapath-type netdev --state-dir /x --db unix:/y --output json eth0 eth1",
            "eth0 eth1 --verify-timeout 3 --datapath-type netdev --state-dir /x --db unix:/y -o json",
        ] {
            let args = attach_args(line);
            assert_eq!(args.interfaces, ["eth0", "eth1"], "{line}");
            let options = args.options().unwrap();
            assert_eq!(options.verify_timeout, Duration::from_secs(3));
            assert_eq!((options.datapath, options.form), (Some(Datapath::Netdev), cli::OutputFormat::Json));
            assert_eq!((options.state_dir, options.db), ("/x".into(), Remote::unix("/y")));
        }
    }

    #[test]
    fn confirm_takes_an_optional_timeout() {
        assert_eq!(attach_args("--confirm eth0").options().unwrap().confirm, Some(Duration::from_secs(60)));
        assert_eq!(attach_args("--confirm=5 eth0").options().unwrap().confirm, Some(Duration::from_secs(5)));
        assert_eq!(attach_args("eth0").options().unwrap().confirm, None);
    }

    #[test]
    fn usage_errors_name_the_problem() {
        for (line, text) in [
            ("nics-to-bridge", "<IFACE>"),
            ("bridge-to-nics", "<BRIDGE>"),
            ("nics-to-bridge averyveryverylongname", "longer than 15"),
            ("nics-to-bridge a/b", "ip -br link"),
            ("nics-to-bridge --datapath-type=dpdk eth0", "netdev"),
            ("nics-to-bridge --verify-timeout=0 eth0", "1..=86400"),
            ("nics-to-bridges eth0", "nics-to-bridge"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn a_device_named_twice_is_refused() {
        let text = attach_args("eth0 eth1 eth0").options().unwrap_err().to_string();
        assert!(text.contains("eth0 is named twice"), "{text}");
    }

    #[test]
    fn only_a_local_database_is_accepted() {
        let error = attach_args("--db=ssl:10.0.0.1:6640 eth0").options().unwrap_err().to_string();
        assert!(error.contains("unix:PATH"), "{error}");
        let options = attach_args("--db=unix:x.sock --state-dir=y eth0").options().unwrap();
        assert!(options.state_dir.is_absolute() && options.db.to_string().starts_with("unix:/"));
        assert!(attach_args("--db=pigeon eth0").options().unwrap_err().to_string().contains("--db"));
    }
}
