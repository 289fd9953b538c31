//! The watcher: waits for the end of the one at work, or for the timer, and undoes what is open then.

use std::io::Write;
use std::time::{Duration, Instant};

use host::pidfd::PidFd;

use super::log::Log;
use super::{WatchdogConfig, detach};
use crate::error::{Error, Result};
use crate::journal::{self, Folder, Journal, JournalState};
use crate::undo;

/// How long one who was killed may take to end.
const END: Duration = Duration::from_secs(2);
/// How long a lock is waited for whose holder is dead.
const LOCK: Duration = Duration::from_secs(2);

/// Watches. An error means that it never began.
pub(super) fn watch(duty: &WatchdogConfig) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(duty.milliseconds);
    detach::take_no_orders();
    let parent = PidFd::open(duty.parent, duty.started)?;
    let mut log = Log::open(&duty.folder, &duty.run);
    detach::leave_group().iter().for_each(|trouble| log.note(trouble));
    let folder = Folder::at(&duty.folder);
    let known = match folder.journal()? {
        Some(journal) if journal.run == duty.run && journal.state == JournalState::Open => journal,
        _ => {
            return Err(Error::failed(
                "watch over this run",
                "its journal is not there, or not open",
                "is another ovn-k8s-util at work with the same --state-dir?",
            ));
        }
    };
    let _watching = journal::watching();
    // One at work who is gone already cannot hear it, and that is seen at once.
    let _ = writeln!(std::io::stdout(), "armed {}", std::process::id());
    detach::close_pipe();
    log.note(&format!("armed for process {}, {} ms", duty.parent, duty.milliseconds));

    let why = match parent.wait(Some(deadline)) {
        Ok(true) => "the one at work has ended",
        Ok(false) if open(&folder, &known).is_none() => {
            log.note("closed in time");
            return Ok(());
        }
        Ok(false) => {
            log.tell("it was not done in time: ending the one at work");
            if let Err(error) = parent.kill().and_then(|()| parent.wait(Some(Instant::now() + END))) {
                log.tell(&error.to_string());
            }
            "it was not done in time"
        }
        Err(error) => {
            log.tell(&error.to_string());
            "the one at work cannot be watched any more"
        }
    };
    finish(&folder, &known, why, &mut log);
    Ok(())
}

/// Undoes what is open, once nobody else is at it.
fn finish(folder: &Folder, known: &Journal, why: &str, log: &mut Log) {
    if open(folder, known).is_none() {
        log.note(&format!("{why}; nothing is open"));
        return;
    }
    let lock = folder.lock_or_go_on(LOCK);
    if !lock.is_held() {
        log.tell("the lock is still held, or cannot be had: going on without it");
    }
    // Somebody else may have been at work until now.
    let Some(mut journal) = open(folder, known) else {
        log.note(&format!("{why}; somebody else has closed it"));
        return;
    };
    log.note(&format!("{why}: undoing"));
    let begun = Instant::now();
    let undone = undo::run(&lock, &mut journal);
    for trouble in &undone.troubles {
        log.tell(trouble);
    }
    let rest = if undone.pending { "; the switch's database comes later: ovn-k8s-util recover" } else { "" };
    log.tell(&format!("{why}: undone in {} ms{rest}", begun.elapsed().as_millis()));
}

/// The run's journal, while it is open. One that cannot be read any more is taken as it was: management on the NIC is
/// the safe end.
fn open(folder: &Folder, known: &Journal) -> Option<Journal> {
    match folder.journal() {
        Ok(Some(journal)) => {
            (journal.run == known.run && journal.state == JournalState::Open).then_some(journal)
        }
        // Nobody of ours takes one away that can be read.
        Ok(None) | Err(_) => Some(known.clone()),
    }
}
