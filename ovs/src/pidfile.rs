//! A pidfile as the OVS family keeps it: its number is believed only while its maker holds a lock on it.
//!
//! A temporary file is written, locked with `fcntl` and linked into place (`lib/daemon-unix.c`), so that the file is
//! never seen empty or unlocked. ovs-appctl asks the lock's owner with `F_GETLK`; open file description locks
//! would show it pid -1, so it has to be a classic one. **A classic lock vanishes when the process closes any
//! descriptor of the file**: nothing else in the process may open its own pidfile.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Why a pidfile could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// Another process holds it.
    #[error("{path}: already running as pid {pid}, aborting (stop it first, or give --overwrite-pidfile)")]
    AlreadyRunning {
        /// The pidfile.
        path: PathBuf,
        /// Who holds its lock.
        pid: u32,
    },
    /// The file system refused.
    #[error(
        "cannot {what} the pidfile {path}: {error} (is the directory there and writable? OVS_RUNDIR names another)"
    )]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
}

/// A pidfile this process has made and holds the lock of. Dropping it removes the file.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    file: File,
}

impl Pidfile {
    /// Makes `path` with this process's id in it. `overwrite` takes it from the process that holds it.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, PidfileError> {
        let temporary = temporary_name(path);
        let made = Self::create_from(path, &temporary, overwrite);
        if made.is_err() || !overwrite {
            // After a link both names are there; after a failure nothing may stay behind.
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    fn create_from(path: &Path, temporary: &Path, overwrite: bool) -> Result<Self, PidfileError> {
        let failed = |what| move |error| PidfileError::Io { what, path: path.to_owned(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(temporary)
            .map_err(failed("create"))?;
        lock(&file).map_err(|errno| failed("lock")(errno.into()))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write"))?;
        if overwrite {
            std::fs::rename(temporary, path).map_err(failed("replace"))?;
        } else {
            link_or_replace_stale(temporary, path)?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Fails when a running process holds the pidfile at `path`; for a check before anything is changed.
    pub fn check(path: &Path) -> Result<(), PidfileError> {
        match holder(path) {
            Ok(Some(pid)) => Err(PidfileError::AlreadyRunning { path: path.to_owned(), pid }),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(PidfileError::Io { what: "read", path: path.to_owned(), error }),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // After --overwrite-pidfile by another process the file at this path is not ours any more.
        let ours = self.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let there = std::fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if let (Ok(ours), Ok(there)) = (ours, there)
            && ours == there
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The id a pidfile of **another** process holds, for finding its control socket. It may be stale.
pub fn read_pid(path: &Path) -> io::Result<u32> {
    let mut text = String::new();
    // A hostile or broken file cannot make us wait, or read for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(64).read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("\"{}\" is not a process id", text.trim().escape_debug()),
        )
    })
}

/// Puts the locked temporary file at `path`, replacing a file there only while holding that file's lock, so
/// that of two processes starting at once exactly one wins.
fn link_or_replace_stale(temporary: &Path, path: &Path) -> Result<(), PidfileError> {
    let failed = |what| move |error| PidfileError::Io { what, path: path.to_owned(), error };
    loop {
        match std::fs::hard_link(temporary, path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create")(error)),
        }
        let stale = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("open")(error)),
        };
        if lock(&stale).is_err() {
            let pid = holder_of(&stale).map_err(failed("read"))?;
            match pid {
                Some(pid) => return Err(PidfileError::AlreadyRunning { path: path.to_owned(), pid }),
                None => continue,
            }
        }
        let locked = stale.metadata().map_err(failed("read"))?;
        match std::fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                return std::fs::rename(temporary, path).map_err(failed("replace"));
            }
            // It changed its owner meanwhile: read it again.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error)),
        }
    }
}

/// The process that holds the lock of the file at `path`, if one does.
fn holder(path: &Path) -> io::Result<Option<u32>> {
    holder_of(&File::open(path)?)
}

fn holder_of(file: &File) -> io::Result<Option<u32>> {
    let mut lock = write_lock();
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut lock))?;
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(u32::try_from(lock.l_pid).unwrap_or(0)))
}

fn lock(file: &File) -> Result<(), Errno> {
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&write_lock())).map(drop)
}

/// A write lock on the whole file.
fn write_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp{}", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let pidfile = Pidfile::create(&path, false).unwrap();
        assert_eq!(std::fs::read_to_string(pidfile.path()).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary name is gone");
        drop(pidfile);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_file_is_replaced_and_anothers_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, "1\n").unwrap();
        Pidfile::check(&path).unwrap();
        let first = Pidfile::create(&path, false).unwrap();
        // A file of another process stays when ours ends.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "2\n").unwrap();
        drop(first);
        assert_eq!(read_pid(&path).unwrap(), 2);
    }

    #[test]
    fn a_file_that_holds_no_number_is_refused_with_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, "no\nnumber").unwrap();
        assert!(read_pid(&path).unwrap_err().to_string().contains("no\\nnumber"));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Pidfile::create(Path::new("/nonexistent/x.pid"), false).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x.pid") && error.contains("OVS_RUNDIR"), "{error}");
    }
}
