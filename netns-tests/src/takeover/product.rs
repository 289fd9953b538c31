//! The built binary on a site: `ovn-k8s-util` with its files in the site's folder, and faults on the way.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::Site;
use crate::lab::{
    helper::binary,
    process::{Program, RunningProgram, wait_until},
};

/// What a run of the program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// It exited with zero.
    pub ok: bool,
    /// Its output.
    pub printed: String,
    /// Its error output.
    pub said: String,
}

impl Outcome {
    /// An error unless it succeeded.
    pub fn expect_ok(self) -> Result<Self> {
        if self.ok { Ok(self) } else { bail!("it failed: {}{}", self.said.trim(), self.printed.trim()) }
    }

    /// Its output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.printed).with_context(|| format!("not JSON: {}", self.printed.trim()))
    }
}

impl Site {
    /// The folder given as `--state-dir`.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The journal.
    pub fn journal_path(&self) -> PathBuf {
        self.state_dir().join("uplink/journal.json")
    }

    /// `ovn-k8s-util` with a line of words; the first is the sub-command.
    pub fn util(&self, line: &str) -> Result<Program<'_>> {
        self.util_in(&self.state_dir(), line)
    }

    /// The same with another folder for journal and lock.
    pub fn util_in(&self, state: &Path, line: &str) -> Result<Program<'_>> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let program = self.program(self.called("ovn-k8s-util")?).arg(command);
        let database = format!("--db=unix:{}", self.switch().socket().display());
        Ok(program.args([database, format!("--state-dir={}", state.display())]).line(rest))
    }

    /// Runs `ovn-k8s-util` to its end.
    pub fn run(&self, line: &str) -> Result<Outcome> {
        outcome(self.util(line)?)
    }

    /// Runs `ovn-k8s-util` to its end with faults, e.g. `ears:kill`.
    pub fn run_with_fault(&self, line: &str, faults: &str) -> Result<Outcome> {
        outcome(self.util(line)?.env("OVN_K8S_FAULT", faults))
    }

    /// Starts `ovn-k8s-util` and returns when it is held after a step. Other faults may be given beside.
    pub fn run_until_held(&self, line: &str, step: &str, others: &str) -> Result<Halted> {
        let faults = if others.is_empty() { format!("{step}:hold") } else { format!("{step}:hold,{others}") };
        let log = self.dir().join("held.out");
        drop(fs::remove_file(&log));
        let program = self.util(line)?.env("OVN_K8S_FAULT", faults).own_group();
        let mut held = program.hold(&log, &self.register())?;
        let mark = format!("held {step}");
        wait_until(&format!("`{line}` to be held after {step}"), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains(&mark) {
                return Ok(true);
            }
            held.expect_alive()?;
            Ok(false)
        })?;
        Ok(Halted { held })
    }

    /// What the journal says its state is; `none` where there is no journal.
    pub fn journal_state(&self) -> Result<String> {
        let path = self.journal_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok("none".to_owned()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let journal: Value =
            serde_json::from_str(&text).with_context(|| format!("{}: {text}", path.display()))?;
        let state = journal.get("state").and_then(Value::as_str).context("a journal without a state")?;
        Ok(state.to_owned())
    }

    /// Waits until no journal is open.
    pub fn wait_until_closed(&self) -> Result<()> {
        wait_until("the journal to be closed", || {
            let state = self.journal_state()?;
            if state == "open" {
                bail!("it is open");
            }
            Ok(true)
        })
    }

    /// Process ids inside the node whose command line holds a word: not of the machine's, nor of other sites.
    pub fn processes(&self, word: &str) -> Result<Vec<u32>> {
        let own = self.node().enter(|| fs::read_link("/proc/thread-self/ns/net"))??;
        let here = |id: &u32| {
            let folder = Path::new("/proc").join(id.to_string());
            let line = fs::read(folder.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word)
                && fs::read_link(folder.join("ns/net")).is_ok_and(|namespace| namespace == own)
        };
        let all = fs::read_dir("/proc").context("listing processes")?.flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(ids.filter(here).collect())
    }

    /// Waits until no rollback watchdog runs.
    pub fn wait_until_disarmed(&self) -> Result<()> {
        wait_until("the rollback watchdog to leave", || Ok(self.processes("uplink-watchdog")?.is_empty()))
    }

    /// The built binary under one of its names.
    pub fn called(&self, name: &str) -> Result<PathBuf> {
        let link = self.dir().join(name);
        match std::os::unix::fs::symlink(binary()?, &link) {
            // Another thread, or an earlier call, made it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(link),
            made => made.map(|()| link.clone()).with_context(|| format!("linking {}", link.display())),
        }
    }
}

/// Runs a program to its end.
pub fn outcome(program: Program<'_>) -> Result<Outcome> {
    let (ok, printed, said) = program.outcome()?;
    Ok(Outcome { ok, printed, said })
}

/// A run that waits after a step.
#[derive(Debug)]
pub struct Halted {
    held: RunningProgram,
}

impl Halted {
    /// Its process id, which is its process group's as well.
    pub fn id(&self) -> u32 {
        self.held.id()
    }

    /// Kills it and waits for its end.
    pub fn kill(self) -> Result<()> {
        self.held.kill()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.held.signal(signal)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        self.held.is_alive()
    }
}
