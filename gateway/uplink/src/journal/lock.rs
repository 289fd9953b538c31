//! One takeover at a time: a process that changes an uplink holds the folder's lock, and a name in its network namespace.
//!
//! The folder's lock excludes processes that share a journal. Takeovers with different folders would still change one
//! network: a lock that each network namespace has once excludes them ([`host::netns_lock`]). The rollback watchdog holds
//! a lock of its own while it watches, so that no takeover begins between the death of a run and its undo.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::netns_lock::{LockAttempt, NetnsLock};
use host::regular_file;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::files;
use super::{Folder, Journal, JournalState, TakeoverRecord};
use crate::error::{Error, Result};
use crate::options::Direction;

/// How often a lock that another process holds is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// The lock of the folder. It ends with the value, or with the process.
#[derive(Debug)]
pub struct Lock {
    folder: Folder,
    /// flock(2) is of the open file: close-on-exec keeps it from the programs we start.
    held: Option<Flock<File>>,
    alone: Alone,
}

/// Whether another process changes an uplink in this network namespace, with whatever folder.
#[derive(Debug)]
enum Alone {
    /// None, as far as is known.
    Yes(#[allow(dead_code, reason = "held until it is dropped")] Option<NetnsLock>),
    /// One, with another folder.
    No,
    /// Unknown, because the folder's lock was not taken.
    Unknown,
}

/// The name of a process that changes an uplink.
const CHANGING: &str = "ovn-k8s-uplink";
/// The name of a rollback watchdog.
const WATCHING: &str = "ovn-k8s-uplink-watchdog";

impl Folder {
    /// Takes the lock; waits for it no longer than `patience`. Makes the folder where it is not there.
    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        let end = Instant::now() + patience;
        let Some(held) = self.try_lock(patience)? else { return Err(Error::Busy { pid: self.holder() }) };
        let alone = match take(CHANGING, end)? {
            LockAttempt::Held(pid) => return Err(Error::Busy { pid }),
            LockAttempt::Acquired(name) => Some(name),
            LockAttempt::OtherUser => None,
        };
        Ok(Lock { folder: self.clone(), held: Some(held), alone: Alone::Yes(alone) })
    }

    /// The same, but goes on without the lock where it cannot be taken: for an undo, while a process that does nothing any
    /// more still holds a copy of the descriptor, or the disk has failed.
    pub(crate) fn lock_or_go_on(&self, patience: Duration) -> Lock {
        let end = Instant::now() + patience;
        let held = self.try_lock(patience).unwrap_or_default();
        let alone = match held.as_ref().map(|_| take(CHANGING, end)) {
            Some(Ok(LockAttempt::Acquired(name))) => Alone::Yes(Some(name)),
            Some(Ok(LockAttempt::Held(_))) => Alone::No,
            Some(Ok(LockAttempt::OtherUser) | Err(_)) => Alone::Yes(None),
            None => Alone::Unknown,
        };
        Lock { folder: self.clone(), held, alone }
    }

    fn try_lock(&self, patience: Duration) -> Result<Option<Flock<File>>> {
        let failed = files::failed("make the folder", self.path());
        DirBuilder::new().recursive(true).mode(0o700).create(self.path()).map_err(failed)?;
        let path = self.lock_path();
        let mut file = files::open_lock(&path)?;
        let end = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut held) => {
                    // For the error of other processes; on a full disk the file stays without a pid.
                    drop(held.set_len(0).and_then(|()| writeln!(held, "{}", std::process::id())));
                    return Ok(Some(held));
                }
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= end => return Ok(None),
                Err((back, Errno::EWOULDBLOCK)) => {
                    file = back;
                    std::thread::sleep(RETRY);
                }
                Err((back, Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(files::failed("lock", &path)(errno.into())),
            }
        }
    }

    /// The process that holds the lock, by its own note.
    fn holder(&self) -> Option<u32> {
        regular_file::read_text(&self.lock_path()).ok()?.trim().parse().ok()
    }
}

/// Takes the name of a rollback watchdog, until the value is dropped. It watches without the name, too.
pub(crate) fn watching() -> Option<NetnsLock> {
    match host::netns_lock::try_acquire(WATCHING) {
        Ok(LockAttempt::Acquired(name)) => Some(name),
        _ => None,
    }
}

fn take(name: &str, end: Instant) -> Result<LockAttempt> {
    loop {
        let taken = host::netns_lock::try_acquire(name);
        match taken.map_err(Error::io(
            "find out whether another takeover is running",
            "raise the limit on open files",
        ))? {
            LockAttempt::Held(_) if Instant::now() < end => std::thread::sleep(RETRY),
            taken => return Ok(taken),
        }
    }
}

impl Lock {
    /// The folder.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Whether this process alone may change an uplink.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some() && matches!(self.alone, Alone::Yes(_))
    }

    /// Whether a process with another folder changes an uplink of this network namespace.
    pub(crate) fn is_held_elsewhere(&self) -> bool {
        matches!(self.alone, Alone::No)
    }

    /// Waits until no rollback watchdog watches any more: it may be about to undo an earlier run.
    pub(crate) fn wait_for_watchdog(&self, patience: Duration) -> Result<()> {
        match take(WATCHING, Instant::now() + patience)? {
            LockAttempt::Held(pid) => Err(Error::Busy { pid }),
            LockAttempt::Acquired(_) | LockAttempt::OtherUser => Ok(()),
        }
    }

    /// Writes a journal, with room for closing it. When this returns, it outlives a loss of power.
    pub fn begin(&self, journal: &Journal) -> Result<()> {
        files::write_and_reserve(&self.folder.journal_path(), journal)
    }

    /// Changes a journal's state, on the disk and then in `journal`. To commit it also writes what is to be kept.
    pub fn close(&self, journal: &mut Journal, state: JournalState) -> Result<()> {
        if state == JournalState::Committed && journal.direction == Direction::Attach {
            let kept: Vec<TakeoverRecord> = journal.taken().collect();
            return self.commit(journal, &kept);
        }
        self.change(journal, state)
    }

    /// Commits a takeover, and keeps this of it. Before the commit: a committed takeover without it could not be taken back.
    pub(crate) fn commit(&self, journal: &mut Journal, kept: &[TakeoverRecord]) -> Result<()> {
        kept.iter().try_for_each(|taken| self.keep(taken))?;
        self.change(journal, JournalState::Committed)
    }

    fn change(&self, journal: &mut Journal, state: JournalState) -> Result<()> {
        let path = self.folder.journal_path();
        let changed = Journal { state, ..journal.clone() };
        files::write(&path, &changed)?;
        if !state.is_unfinished() {
            files::release(&path);
        }
        *journal = changed;
        Ok(())
    }

    /// Writes what is to be kept of a bridge.
    pub(crate) fn keep(&self, taken: &TakeoverRecord) -> Result<()> {
        files::write(&self.folder.taken_path(&taken.uplink.bridge), taken)
    }

    /// Removes the record of a bridge: it is not ours any more.
    pub(crate) fn forget(&self, bridge: &str) -> Result<()> {
        files::remove(&self.folder.taken_path(bridge))
    }

    /// Puts a file of ours aside that cannot be read, under a name that says so, and gives that name.
    pub(crate) fn put_aside(&self, path: &Path) -> Result<Option<PathBuf>> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".unreadable");
        // A folder cannot take the place of a file, nor a file that of a folder.
        let more = (2..10).map(|number| {
            let mut name = aside.clone();
            name.push(format!(".{number}"));
            name
        });
        let mut last = ErrorKind::AlreadyExists.into();
        for name in std::iter::once(aside.clone()).chain(more).map(PathBuf::from) {
            match std::fs::rename(path, &name) {
                Ok(()) => return Ok(Some(name)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => last = error,
            }
        }
        Err(files::failed("put aside", path)(last))
    }
}
