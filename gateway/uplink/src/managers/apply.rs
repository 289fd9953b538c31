//! Executes the acts of a handover, and goes on when one of them fails.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::pidfd;
use host::regular_file;
use host::rtnl::address::Address;
use host::rtnl::{Device, DeviceMapping, Kind, Request, Socket};
use serde_json::Value;

use super::{Act, Client, Handover, MARK};
use crate::command::{Runner, System};

/// How long one program may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(2);

/// Where handovers are done.
pub struct HandoverExecutor<'r> {
    root: PathBuf,
    runner: Box<dyn Runner + 'r>,
    /// A file of ours has changed since the last reload.
    changed: bool,
}

impl std::fmt::Debug for HandoverExecutor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandoverExecutor").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The handovers in a journal. What is of another version is left out: its files are below /run, or marked.
#[must_use]
pub fn from_journal(values: &[Value]) -> Vec<Handover> {
    values.iter().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

impl<'r> HandoverExecutor<'r> {
    /// This host.
    #[must_use]
    pub fn host() -> Self {
        Self::at("/", System)
    }

    /// Files below another root, programs by another runner.
    pub fn at(root: impl Into<PathBuf>, runner: impl Runner + 'r) -> Self {
        Self { root: root.into(), runner: Box::new(runner), changed: false }
    }

    /// Before anything is built. Gives what did not come out.
    pub fn prepare(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.prepare)
    }

    /// When the way by the bridge is verified.
    pub fn complete(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.complete)
    }

    /// When it is undone, or the bridge has gone; after any part of the others, and again.
    pub fn take_back(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.take_back)
    }

    fn each(&mut self, handovers: &[Handover], acts: impl Fn(&Handover) -> &Vec<Act>) -> Vec<String> {
        let mut troubles = Vec::new();
        for handover in handovers {
            self.changed = false;
            for act in acts(handover) {
                if let Err(why) = self.act(act) {
                    troubles.push(format!("{}: cannot {act}: {why}", handover.manager));
                }
            }
        }
        troubles
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Write { path, content, executable } => self.write(path, content, *executable),
            Act::Remove { path } => self.remove(path),
            Act::Reload { command } if self.changed => {
                self.changed = false;
                self.run(command)
            }
            Act::Reload { .. } => Ok(()),
            Act::Keep { address, device } => keep(*address, device),
            Act::HearRouters { device } => {
                // 2: also where packets are forwarded (Documentation/networking/ip-sysctl.rst).
                let heard = host::interface_sysctls::write(device, "ipv6/conf/accept_ra", "2");
                heard.map_err(|error| error.to_string())
            }
            Act::Kill { client } => kill(client.pid, Some(client.started)),
            Act::KillByPidFile { path, program } => self.kill_by_file(path, program),
            Act::CopyLeases { from, to, old, new } => self.copy(from, to, old, new),
            Act::Start { unless: Some(client), .. } if lives(client) => Ok(()),
            Act::Start { command, .. } | Act::Run { command } => self.run(command),
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn write(&mut self, path: &Path, content: &str, executable: bool) -> Result<(), String> {
        let path = self.below(path);
        match regular_file::read_text(&path) {
            Ok(there) if there == content => return Ok(()),
            Ok(there) if !is_ours(&there) => return Err("the file exists and is not ours".to_owned()),
            Err(error) if regular_file::is_invalid(&error) => return Err(said(error)),
            _ => {}
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(said)?;
        // Whole or not at all; hidden, so that nobody reads it for a configuration before it has its name.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.ovn-k8s"));
        let drafted = regular_file::open(fs::File::options().write(true).create(true).truncate(true), &draft);
        drafted.and_then(|mut file| file.write_all(content.as_bytes())).map_err(said)?;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).map_err(said)?;
        fs::rename(&draft, &path).map_err(said)?;
        self.changed = true;
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), String> {
        let path = self.below(path);
        match regular_file::read_text(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(said(error)),
            Ok(there) if !is_ours(&there) => Err("the file exists and is not ours".to_owned()),
            Ok(_) => {
                fs::remove_file(&path).map_err(said)?;
                self.changed = true;
                Ok(())
            }
        }
    }

    fn run(&mut self, command: &[String]) -> Result<(), String> {
        let answer = self.runner.run(command, PATIENCE).map_err(|error| error.to_string())?;
        if answer.success {
            return Ok(());
        }
        let text = if answer.stderr.trim().is_empty() { &answer.output } else { &answer.stderr };
        Err(text.trim().lines().last().unwrap_or("it failed without an error message").to_owned())
    }

    fn kill_by_file(&self, path: &Path, program: &str) -> Result<(), String> {
        let path = self.below(path);
        let Some(pid) = regular_file::read_text(&path).ok().and_then(|text| text.trim().parse().ok()) else {
            return Ok(());
        };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        // The file may be older than the process that has its number now.
        if line.split('\0').take(2).any(|word| word.ends_with(program)) {
            kill(pid, None)?;
        }
        let _ = fs::remove_file(&path);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path, old: &str, new: &str) -> Result<(), String> {
        let text = match regular_file::read_text(&self.below(from)) {
            // The client that would have written it never came to run.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            outcome => outcome.map_err(said)?,
        };
        let text = text.replace(&format!("interface \"{old}\""), &format!("interface \"{new}\""));
        let copy =
            regular_file::open(fs::File::options().write(true).create(true).truncate(true), &self.below(to));
        copy.and_then(|mut file| file.write_all(text.as_bytes())).map_err(said)
    }
}

fn is_ours(content: &str) -> bool {
    content.lines().take(2).any(|line| line.contains(MARK))
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

/// Whether it runs; one that has ended and was not waited for does not.
fn lives(client: &Client) -> bool {
    let process = pidfd::PidFd::open(client.pid, Some(client.started));
    process.is_ok_and(|process| !process.has_ended().unwrap_or(true))
}

fn kill(pid: u32, started: Option<u64>) -> Result<(), String> {
    let Ok(process) = pidfd::PidFd::open(pid, started) else { return Ok(()) };
    process.kill().map_err(|error| error.to_string())?;
    match process.wait(Some(Instant::now() + DYING)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("process {pid} does not end")),
        Err(error) => Err(error.to_string()),
    }
}

fn keep(address: ipnet::IpNet, device: &str) -> Result<(), String> {
    let Some(index) = host::devices::index_of(device) else { return Err(format!("{device} is not there")) };
    let socket = Socket::open().map_err(|error| error.to_string())?;
    let rows = socket.dump_all(Kind::Address).map_err(|error| error.to_string())?;
    let row = rows.iter().filter_map(Address::of).find(|row| {
        row.device() == index && row.local() == Some(address.addr()) && row.prefix() == address.prefix_len()
    });
    // Gone already: then there is nothing to keep, and the client will say so.
    let Some(row) = row else { return Ok(()) };
    if row.valid().is_none() {
        return Ok(());
    }
    let here = Device { index, name: device.to_owned() };
    let forever = row.without_lifetime().for_device(&DeviceMapping { from: here.clone(), to: here });
    socket.apply(&Request::replace(forever)).map_err(|error| error.to_string())
}
