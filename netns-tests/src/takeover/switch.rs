//! The node's ovsdb-server and ovs-vswitchd: started, killed, stopped and started again as a test wants it.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use crate::lab::{
    netns::Namespace,
    node::Stop,
    process::{Program, Register, RunningProgram, wait_until},
};

/// One of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// ovsdb-server.
    Database,
    /// ovs-vswitchd.
    Switch,
}

impl Daemon {
    /// Both, in the order they are started.
    pub const BOTH: [Self; 2] = [Self::Database, Self::Switch];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "ovsdb-server",
            Self::Switch => "ovs-vswitchd",
        }
    }
}

/// The daemons of one node, with a folder of their own.
#[derive(Debug)]
pub struct Switch {
    held: Mutex<[Option<RunningProgram>; 2]>,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    register: Register,
}

impl Switch {
    /// Makes the database and starts both daemons inside the namespace.
    pub(super) fn start(dir: &Path, register: Register, namespace: &Namespace) -> Result<Self> {
        let environment = ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"]
            .iter()
            .flat_map(|what| [format!("OVS_{what}"), format!("OVN_{what}")])
            .map(|variable| (variable, dir.display().to_string()))
            .collect();
        let switch = Self { held: Mutex::default(), dir: dir.to_owned(), environment, register };
        let file = dir.join("conf.db").display().to_string();
        Program::new("ovsdb-tool")
            .args(["create", &file, "/usr/share/openvswitch/vswitch.ovsschema"])
            .run()?;
        for daemon in Daemon::BOTH {
            switch.launch(daemon, namespace)?;
        }
        Ok(switch)
    }

    /// The environment under which OVS's programs find these daemons.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The database's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("db.sock")
    }

    /// The process id of a running daemon.
    pub fn id(&self, daemon: Daemon) -> Result<u32> {
        self.with(daemon, |slot| slot.as_ref().map(RunningProgram::id))?
            .with_context(|| format!("{} does not run", daemon.name()))
    }

    /// Whether it was started and not ended by us.
    pub fn is_up(&self, daemon: Daemon) -> Result<bool> {
        self.with(daemon, |slot| slot.is_some())
    }

    /// Starts a daemon that does not run; returns when it answers.
    pub fn launch(&self, daemon: Daemon, namespace: &Namespace) -> Result<()> {
        let (dir, name) = (self.dir.display(), daemon.name());
        let program = Program::new(name).envs(&self.environment).inside(namespace);
        let program = match daemon {
            Daemon::Database => {
                program.args([format!("{dir}/conf.db"), format!("--remote=punix:{dir}/db.sock")])
            }
            Daemon::Switch => program.arg(format!("unix:{dir}/db.sock")),
        };
        let held = program
            .args([
                "-vconsole:off".to_owned(),
                format!("--pidfile={dir}/{name}.pid"),
                format!("--log-file={dir}/{name}.log"),
                "--no-chdir".to_owned(),
            ])
            .hold(&self.dir.join(format!("{name}.out")), &self.register)?;
        let socket = match daemon {
            Daemon::Database => self.socket(),
            Daemon::Switch => self.dir.join(format!("{name}.{}.ctl", held.id())),
        };
        self.with(daemon, |slot| *slot = Some(held))?;
        wait_until(&format!("{name} to answer"), || {
            self.with(daemon, |slot| slot.as_mut().map_or(Ok(()), RunningProgram::expect_alive))??;
            Ok(UnixStream::connect(&socket).is_ok())
        })
    }

    /// Ends a daemon; one that does not run is fine.
    pub fn end(&self, daemon: Daemon, how: Stop) -> Result<()> {
        let held = self.with(daemon, Option::take)?;
        held.map_or(Ok(()), |held| how.end(held))
    }

    /// Kills a daemon without waiting for the kernel to have taken it down (which takes vswitchd tens of milliseconds).
    pub fn strike(&self, daemon: Daemon) -> Result<()> {
        self.signal(daemon, Signal::SIGKILL)
    }

    /// Sends a signal to a daemon.
    pub fn signal(&self, daemon: Daemon, signal: Signal) -> Result<()> {
        self.with(daemon, |slot| slot.as_ref().map(|held| held.signal(signal)))?
            .with_context(|| format!("{} does not run", daemon.name()))?
    }

    fn with<T>(&self, daemon: Daemon, work: impl FnOnce(&mut Option<RunningProgram>) -> T) -> Result<T> {
        let mut held = self.held.lock().map_err(|_| anyhow!("a thread broke while it held the daemons"))?;
        let [database, switch] = &mut *held;
        Ok(work(match daemon {
            Daemon::Database => database,
            Daemon::Switch => switch,
        }))
    }
}
