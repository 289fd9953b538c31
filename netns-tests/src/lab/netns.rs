//! Network namespaces: made, entered by a thread, taken away.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::process::Program;

/// Where `ip netns` keeps its names; ours stand there too, so that `ip -n NAME` finds them.
const NAMES: &str = "/run/netns";

/// A network namespace of the lab. It goes when this value is dropped (and nothing runs in it any more).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    handle: File,
}

impl Namespace {
    /// Makes a namespace with a name that nothing else on the machine has. Its loopback is up; addresses are usable
    /// at once (no duplicate address detection: the lab gives every address out once).
    pub fn create(name: &str) -> Result<Self> {
        fs::create_dir_all(NAMES).with_context(|| format!("making {NAMES}"))?;
        let path = Path::new(NAMES).join(name);
        File::create_new(&path).with_context(|| format!("making {}: are you root?", path.display()))?;
        let made = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<()> {
                    unshare(CloneFlags::CLONE_NEWNET)
                        .context("making a network namespace: CAP_SYS_ADMIN is needed")?;
                    // A bind mount keeps the namespace when this thread ends, as ip-netns(8) does.
                    mount(
                        Some("/proc/thread-self/ns/net"),
                        &path,
                        None::<&str>,
                        MsFlags::MS_BIND,
                        None::<&str>,
                    )
                    .with_context(|| format!("mounting {}", path.display()))?;
                    for family in ["all", "default"] {
                        write_sysctl(&format!("net/ipv6/conf/{family}/accept_dad"), "0")?;
                    }
                    Ok(())
                })
                .join()
        });
        made.map_err(|_| anyhow!("the thread that made namespace {name} broke"))??;
        let handle = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { name: name.to_owned(), path, handle })
    }

    /// Its name, as `ip -n` and `ip netns exec` take it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, as `nsenter --net=` takes it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread inside the namespace and waits for it.
    ///
    /// Sockets made and programs started there stay in the namespace; the calling thread never moves.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| -> Result<T> {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("entering namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("work inside namespace {} broke", self.name))?
        })
    }

    /// Several `ip` commands in one process, one a line (`ip -batch`).
    pub fn ip(&self, lines: impl Into<String>) -> Result<()> {
        Program::new("ip").args(["-n", &self.name, "-batch", "-"]).input(lines).run()?;
        Ok(())
    }

    /// Loads an nft script.
    pub fn nft(&self, script: impl Into<String>) -> Result<()> {
        Program::new("nft").args(["-f", "-"]).inside(self).input(script).run()?;
        Ok(())
    }

    /// Writes a sysctl, named by its path below `/proc/sys`, e.g. `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.enter(|| write_sysctl(name, value))?
    }

    /// Reads a sysctl.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let path = format!("/proc/sys/{name}");
        let text = self.enter(|| fs::read_to_string(&path))?.with_context(|| format!("reading {path}"))?;
        Ok(text.trim().to_owned())
    }

    /// Lets the device finish checksums itself: a packet socket (an OVS port of the userspace datapath) at the other
    /// end of a veth sees a frame as it was sent, a checksum left to the device included.
    pub fn finish_checksums(&self, device: &str) -> Result<()> {
        Program::new("ethtool").args(["-K", device, "tx", "off"]).inside(self).run()?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Takes a namespace's name away; what cannot be removed is left for the next sweep.
pub(super) fn remove(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    drop(fs::remove_file(path));
}

/// The names under which namespaces are kept, of this lab and of others.
pub(super) fn names() -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(NAMES) else { return Vec::new() };
    entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
}
