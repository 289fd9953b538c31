//! Executes the actions of a handover, and continues when one of them fails.

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
/// How long a killed process may take to end.
const END_OF_PROCESS: Duration = Duration::from_secs(2);

/// Executes handovers on a host.
pub(crate) struct HandoverExecutor<'r> {
    root: PathBuf,
    runner: Box<dyn Runner + 'r>,
    /// A file changed since the last reload.
    changed: bool,
}

impl std::fmt::Debug for HandoverExecutor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandoverExecutor").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The handovers in a journal. Those of another version are left out: their files are below /run, or have the mark.
#[must_use]
pub(crate) fn from_journal(values: &[Value]) -> Vec<Handover> {
    values.iter().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

impl<'r> HandoverExecutor<'r> {
    /// This host.
    #[must_use]
    pub(crate) fn host() -> Self {
        Self::at("/", System)
    }

    /// Files below another root, programs by another runner.
    pub(crate) fn at(root: impl Into<PathBuf>, runner: impl Runner + 'r) -> Self {
        Self { root: root.into(), runner: Box::new(runner), changed: false }
    }

    /// Before the bridge is made. Returns the failures.
    pub(crate) fn prepare(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.prepare)
    }

    /// When the switchover is verified. Returns the failures.
    pub(crate) fn complete(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.complete)
    }

    /// On undo, or when the bridge is removed; also after a part of the others, and repeatedly. Returns the failures.
    pub(crate) fn take_back(&mut self, handovers: &[Handover]) -> Vec<String> {
        self.each(handovers, |handover| &handover.take_back)
    }

    fn each(&mut self, handovers: &[Handover], acts: impl Fn(&Handover) -> &Vec<Act>) -> Vec<String> {
        let mut failures = Vec::new();
        for handover in handovers {
            self.changed = false;
            for act in acts(handover) {
                if let Err(why) = self.act(act) {
                    failures.push(format!("{}: cannot {act}: {why}", handover.manager));
                }
            }
        }
        failures
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
            Act::AcceptRouterAdvertisements { device } => {
                // 2: also where packets are forwarded (Documentation/networking/ip-sysctl.rst).
                let written = host::interface_sysctls::write(device, "ipv6/conf/accept_ra", "2");
                written.map_err(|error| error.to_string())
            }
            Act::Kill { client } => kill(client.pid, Some(client.started)),
            Act::KillByPidFile { path, program } => self.kill_by_file(path, program),
            Act::CopyLeases { from, to, old, new } => self.copy(from, to, old, new),
            Act::Start { unless: Some(client), .. } if is_running(client) => Ok(()),
            Act::Start { command, .. } | Act::Run { command } => self.run(command),
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn write(&mut self, path: &Path, content: &str, executable: bool) -> Result<(), String> {
        let path = self.below(path);
        match regular_file::read_text(&path) {
            Ok(existing) if existing == content => return Ok(()),
            Ok(existing) if !is_ours(&existing) => {
                return Err("the file exists and was not written by a takeover".to_owned());
            }
            Err(error) if regular_file::is_invalid(&error) => return Err(to_text(error)),
            _ => {}
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(to_text)?;
        // Atomic; the draft is hidden, so that no manager reads it as a configuration.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.ovn-k8s"));
        let drafted = regular_file::open(fs::File::options().write(true).create(true).truncate(true), &draft);
        drafted.and_then(|mut file| file.write_all(content.as_bytes())).map_err(to_text)?;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).map_err(to_text)?;
        fs::rename(&draft, &path).map_err(to_text)?;
        self.changed = true;
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), String> {
        let path = self.below(path);
        match regular_file::read_text(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(to_text(error)),
            Ok(existing) if !is_ours(&existing) => {
                Err("the file exists and was not written by a takeover".to_owned())
            }
            Ok(_) => {
                fs::remove_file(&path).map_err(to_text)?;
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
        // The pidfile may be stale, and its pid reused.
        if line.split('\0').take(2).any(|word| word.ends_with(program)) {
            kill(pid, None)?;
        }
        let _ = fs::remove_file(&path);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path, old: &str, new: &str) -> Result<(), String> {
        let text = match regular_file::read_text(&self.below(from)) {
            // The client that would have written it never ran.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            outcome => outcome.map_err(to_text)?,
        };
        let text = text.replace(&format!("interface \"{old}\""), &format!("interface \"{new}\""));
        let copy =
            regular_file::open(fs::File::options().write(true).create(true).truncate(true), &self.below(to));
        copy.and_then(|mut file| file.write_all(text.as_bytes())).map_err(to_text)
    }
}

fn is_ours(content: &str) -> bool {
    content.lines().take(2).any(|line| line.contains(MARK))
}

fn to_text(error: std::io::Error) -> String {
    error.to_string()
}

/// Whether it runs; a zombie does not.
fn is_running(client: &Client) -> bool {
    let process = pidfd::PidFd::open(client.pid, Some(client.started));
    process.is_ok_and(|process| !process.has_ended().unwrap_or(true))
}

fn kill(pid: u32, started: Option<u64>) -> Result<(), String> {
    let Ok(process) = pidfd::PidFd::open(pid, started) else { return Ok(()) };
    process.kill().map_err(|error| error.to_string())?;
    match process.wait(Some(Instant::now() + END_OF_PROCESS)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("process {pid} does not end within {} s", END_OF_PROCESS.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

fn keep(address: ipnet::IpNet, device: &str) -> Result<(), String> {
    let Some(index) = host::devices::index_of(device) else { return Err(format!("{device} does not exist")) };
    let socket = Socket::open().map_err(|error| error.to_string())?;
    let rows = socket.dump_all(Kind::Address).map_err(|error| error.to_string())?;
    let row = rows.iter().filter_map(Address::of).find(|row| {
        row.device() == index && row.local() == Some(address.addr()) && row.prefix() == address.prefix_len()
    });
    // Without the address there is nothing to keep; the client reports that.
    let Some(row) = row else { return Ok(()) };
    if row.valid().is_none() {
        return Ok(());
    }
    let device = Device { index, name: device.to_owned() };
    let forever = row.without_lifetime().for_device(&DeviceMapping { from: device.clone(), to: device });
    socket.apply(&Request::replace(forever)).map_err(|error| error.to_string())
}
