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

/// Where `ip netns` keeps its names; ours stand there too, so that `ip -n NAME` finds them.
const NAMES: &str = "/run/netns";

/// A network namespace of the lab. It goes when this value is dropped (and nothing runs in it any more).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    handle: File,
    mounts: Option<File>,
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
        Ok(Self { name: name.to_owned(), path, handle, mounts: None })
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
                    self.move_here()?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("work inside namespace {} broke", self.name))?
        })
    }

    /// Moves the calling thread here for good. A thread made for it is what [`Namespace::enter`] is for.
    pub fn move_here(&self) -> Result<()> {
        let entered = || format!("entering namespace {}", self.name);
        setns(&self.handle, CloneFlags::CLONE_NEWNET).with_context(entered)?;
        if let Some(mounts) = &self.mounts {
            // setns(2): root and working folder must not be shared with other threads.
            unshare(CloneFlags::CLONE_FS).with_context(entered)?;
            setns(mounts, CloneFlags::CLONE_NEWNS).with_context(entered)?;
        }
        Ok(())
    }

    /// Gives the namespace file systems of its own, for programs that read and write the host's configuration: `/sys`
    /// shows its devices, `/etc` is a copy on write, `/sys/fs/cgroup` is the unified hierarchy.
    pub fn own_file_systems(&mut self) -> Result<()> {
        let made = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<File> {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
                    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
                    mount_own()?;
                    File::open("/proc/thread-self/ns/mnt").context("keeping the mount namespace")
                })
                .join()
        });
        let made = made.map_err(|_| anyhow!("the thread that mounted for {} broke", self.name))?;
        self.mounts = Some(made.with_context(|| format!("own file systems of {}", self.name))?);
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
}

/// What a namespace with file systems of its own sees in other places than the machine does.
fn mount_own() -> Result<()> {
    let on = |kind: &str, at: &str, options: Option<&str>| {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("mounting {kind} on {at}"))
    };
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("parting from the machine's mounts")?;
    // The copies lie in memory, on a folder that every machine has and that nothing here uses.
    on("tmpfs", "/mnt", None)?;
    for folder in ["/mnt/upper", "/mnt/work"] {
        fs::create_dir(folder).with_context(|| format!("making {folder}"))?;
    }
    if on("overlay", "/etc", Some("lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work")).is_err() {
        // A kernel without it: what a takeover may write to is empty at least, where it is there.
        for folder in ["/etc/network", "/etc/netplan", "/etc/systemd/network", "/etc/NetworkManager"] {
            if Path::new(folder).exists() {
                on("tmpfs", folder, None)?;
            }
        }
    }
    on("sysfs", "/sys", None)?;
    // Not everywhere allowed, and few tests need it.
    let _ = on("cgroup2", "/sys/fs/cgroup", None);
    Ok(())
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
