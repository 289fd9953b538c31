//! Errors of the node's kernel and of the tools that change it, with what the reader can do.

use std::io;
use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What was attempted, on what, and what came back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The netlink socket could not be opened or was closed by the kernel.
    #[error(
        "cannot open a netlink socket: {source}; it needs a Linux kernel with rtnetlink, and no seccomp filter in front"
    )]
    NetlinkSocket {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A netlink request was refused.
    #[error("cannot {attempted}: {message}{}", remedy_of(*.errno))]
    Netlink {
        /// What was attempted, with its object (`add route 10.96.0.0/12 via ...`).
        attempted: String,
        /// The kernel's answer as text.
        message: String,
        /// The kernel's answer as errno, 0 when there was none.
        errno: i32,
    },
    /// The nft tool is not installed.
    #[error(
        "cannot {attempted}: the command `nft` was not found; install it (Debian and Ubuntu: apt-get install nftables) and make sure it is in PATH"
    )]
    NftMissing {
        /// What was attempted.
        attempted: String,
    },
    /// The nft tool could not be run.
    #[error("cannot {attempted}: running `nft` failed: {source}")]
    NftRun {
        /// What was attempted.
        attempted: String,
        /// What the system answered.
        source: io::Error,
    },
    /// nft refused.
    #[error("cannot {attempted}: nft says: {message}{}", nft_remedy(.message))]
    NftRefused {
        /// What was attempted.
        attempted: String,
        /// nft's own message.
        message: String,
    },
    /// nft printed something unexpected.
    #[error("cannot {attempted}: nft printed something unexpected ({detail}); is this nft 1.0.2 or later?")]
    NftOutput {
        /// What was attempted.
        attempted: String,
        /// Where the reading ended.
        detail: String,
    },
    /// A sysctl could not be read or written.
    #[error("cannot {action} sysctl {key}: {source}{}", sysctl_remedy(.source))]
    Sysctl {
        /// `read` or `write`.
        action: &'static str,
        /// The sysctl's path below /proc/sys.
        key: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A sysctl holds something unexpected.
    #[error("sysctl {key} holds {value:?}, expected {expected}; left as it is")]
    SysctlValue {
        /// The sysctl's path below /proc/sys.
        key: String,
        /// What it holds.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The record of what we added could not be read or written; without it nothing is changed.
    #[error("cannot {action} {}: {source}; check --state-dir (it must be a writable directory)", .path.display())]
    Record {
        /// `read`, `write` or `remove`.
        action: &'static str,
        /// The record's file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The sockets could not be listed.
    #[error(
        "cannot list the sockets of this node ({detail}): {source}; sock_diag needs CONFIG_INET_DIAG and no seccomp filter in front"
    )]
    Sockets {
        /// Which step.
        detail: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A namespace could not be made or entered.
    #[error("cannot {attempted}: {source}; this needs CAP_SYS_ADMIN")]
    Namespace {
        /// What was attempted.
        attempted: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {attempted}: {source}{}", remedy_of(.source.raw_os_error().unwrap_or_default()))]
    Kernel {
        /// What was attempted, with its object.
        attempted: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A process could not be watched or ended.
    #[error(
        "cannot {attempted} process {pid}: {source}; this needs Linux 5.3 or later, and root for others' processes"
    )]
    Process {
        /// What was attempted.
        attempted: &'static str,
        /// The process.
        pid: u32,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's answer is that the object does not exist: success for a removal.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Netlink { errno: libc::ESRCH | libc::ENOENT | libc::ENODEV, .. })
    }

    /// The kernel's answer is that the object exists already.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Netlink { errno: libc::EEXIST, .. })
    }
}

fn remedy_of(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => "; this needs CAP_NET_ADMIN (run as root)",
        libc::ENETUNREACH | libc::EHOSTUNREACH => {
            "; the gateway is not on a network of that device (does it have its address, and is it up?)"
        }
        libc::ENODEV | libc::ENXIO => "; the device does not exist",
        libc::EINVAL => "; is the source address on the device and past duplicate address detection?",
        _ => "",
    }
}

fn nft_remedy(message: &str) -> &'static str {
    if message.contains("Operation not permitted") {
        "; this needs CAP_NET_ADMIN (run as root)"
    } else if message.contains("Operation not supported") || message.contains("cache initialization failed") {
        "; does this kernel have nf_tables, nft_nat and nft_socket?"
    } else {
        ""
    }
}

fn sysctl_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; run as root with a writable /proc/sys (in a container: privileged)"
        }
        _ => "",
    }
}
