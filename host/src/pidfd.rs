//! A process by a descriptor instead of its id: it cannot become another process, and its end can be waited for.
//!
//! pidfd_open(2), Linux 5.3. The kernel reuses ids; [`PidFd::open`] compares the [`start_time`] where it is known, so
//! that another process with the same id is refused.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::process::start_time;

/// A process, running or ended.
#[derive(Debug)]
pub struct PidFd {
    pid: u32,
    descriptor: OwnedFd,
}

impl PidFd {
    /// The process with this id; `started` is its [`start_time`], where it is known.
    pub fn open(pid: u32, started: Option<u64>) -> Result<Self> {
        let process = Self::opened(pid, 0)?;
        // Compared after the descriptor is open: from here on it is the same process or none.
        if started.is_some() && start_time(pid) != started {
            let source = io::Error::from_raw_os_error(libc::ESRCH);
            return Err(Error::Process { attempted: "watch", pid, source });
        }
        Ok(process)
    }

    /// One thread of a process, by its thread id (Linux 6.9).
    pub fn of_thread(thread: u32) -> Result<Self> {
        // PIDFD_THREAD is O_EXCL (linux/pidfd.h).
        Self::opened(thread, libc::O_EXCL)
    }

    fn opened(pid: u32, flags: i32) -> Result<Self> {
        let failed = |source| Error::Process { attempted: "watch", pid, source };
        let number = i32::try_from(pid).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        #[allow(unsafe_code, reason = "no safe wrapper at hand")]
        // SAFETY: pidfd_open takes two numbers and gives a new descriptor (close-on-exec) or -1.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, number, flags) };
        let raw = i32::try_from(raw).unwrap_or(-1);
        if raw < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        #[allow(unsafe_code, reason = "a descriptor from the kernel gets its owner")]
        // SAFETY: the descriptor is new and has no other owner.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { pid, descriptor })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end until the deadline, or without limit; `false` when it still runs. Not for own children: it does
    /// not reap them.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up: a poll that ends early would spin through the last millisecond.
                let millis = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => {
                    return Err(Error::Process {
                        attempted: "wait for",
                        pid: self.pid,
                        source: errno.into(),
                    });
                }
            }
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> Result<bool> {
        self.wait(Some(Instant::now()))
    }

    /// Kills it (SIGKILL), also when it is stopped; succeeds when it has ended already. The end may take some milliseconds
    /// more: [`PidFd::wait`].
    pub fn kill(&self) -> Result<()> {
        let info: *const libc::siginfo_t = std::ptr::null();
        #[allow(unsafe_code, reason = "no safe wrapper at hand")]
        // SAFETY: pidfd_send_signal takes a descriptor, a number, and a pointer that may be null.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.descriptor.as_raw_fd(),
                libc::SIGKILL,
                info,
                0_u32,
            )
        };
        let source = io::Error::last_os_error();
        if sent == 0 || source.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(Error::Process { attempted: "end", pid: self.pid, source })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Keeps every descriptor but the first three from the programs that this process starts, also those that it inherited
/// (close_range(2), Linux 5.11). `false` where the kernel does not support it.
#[must_use]
pub fn keep_descriptors() -> bool {
    const CLOEXEC: u32 = 1 << 2;
    #[allow(unsafe_code, reason = "no safe wrapper at hand")]
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, only marked; three numbers are all it takes.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOEXEC) };
    result == 0
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn later() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(30))
    }

    #[test]
    fn a_process_is_killed_and_its_end_is_waited_for() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = PidFd::open(child.id(), start_time(child.id())).unwrap();
        assert!(!process.has_ended().unwrap());
        assert!(!process.wait(Some(Instant::now() + Duration::from_millis(20))).unwrap());
        process.kill().unwrap();
        assert!(process.wait(later()).unwrap());
        child.wait().unwrap();
        assert!(process.has_ended().unwrap());
        process.kill().unwrap();
        assert_eq!(process.pid(), child.id());
    }

    #[test]
    fn another_process_with_the_same_id_is_refused() {
        let own = std::process::id();
        assert!(PidFd::open(own, start_time(own)).is_ok());
        let error = PidFd::open(own, Some(1)).unwrap_err().to_string();
        assert!(error.contains(&own.to_string()), "{error}");
        assert!(PidFd::open(u32::MAX, None).is_err());
    }

    #[test]
    fn descriptors_are_kept_from_children() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // A duplicate without close-on-exec, as a careless parent would leave it.
        let leaked = nix::unistd::dup(&file).unwrap();
        let path = format!("/proc/self/fd/{}", leaked.as_raw_fd());
        let is_open =
            || Command::new("test").args(["-e", &path]).stdin(Stdio::null()).status().unwrap().success();
        assert!(is_open());
        assert!(keep_descriptors());
        assert!(!is_open());
    }
}
