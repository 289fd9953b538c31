//! Running a closure inside a network namespace, on a thread of its own.
//!
//! A namespace belongs to a thread (`setns(2)`). The thread ends with the closure, so no other work runs inside by
//! mistake; what the closure opened (sockets, file descriptors) stays in the namespace it was opened in.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result};

/// A network namespace that is held open: it has no name, and ends with its last user.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Creates one.
    pub fn create() -> Result<Self> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
            .map_err(|source| Error::Namespace { attempted: "create a network namespace", source })?;
        Ok(Self { file })
    }

    /// Opens one by a path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|source| Error::Namespace { attempted: "open a network namespace", source })?;
        Ok(Self { file })
    }

    /// A path by which other processes can open it while this value exists.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Runs the closure inside and waits for it. Processes that it starts are inside as well. A panic of the closure
    /// continues in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| {
            let inside = scope.spawn(|| -> io::Result<T> {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Ok(work())
            });
            inside.join()
        });
        match outcome {
            Ok(result) => {
                result.map_err(|source| Error::Namespace { attempted: "enter a network namespace", source })
            }
            Err(cause) => panic::resume_unwind(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<String> {
        let dev = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        dev.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    }

    #[test]
    fn a_new_namespace_holds_the_loopback_only_and_the_caller_stays_outside() {
        let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = here();
        let ns = Namespace::create().unwrap();
        assert_eq!(ns.run(links).unwrap(), ["lo"]);
        assert_eq!(Namespace::open(&ns.path()).unwrap().run(links).unwrap(), ["lo"]);
        assert_eq!(here(), before);
    }

    #[test]
    fn a_panic_inside_is_the_callers() {
        let ns = Namespace::create().unwrap();
        let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| ns.run(|| panic!("inside"))));
        assert!(caught.is_err());
    }
}
