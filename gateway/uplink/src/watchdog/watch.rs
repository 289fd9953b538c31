//! The watcher: waits for the end of the run's process, or for the timer, and undoes what is open then.

use std::io::Write;
use std::time::{Duration, Instant};

use host::pidfd::PidFd;

use super::log::Log;
use super::{WatchdogConfig, detach};
use crate::error::{Error, Result};
use crate::journal::{self, Folder, Journal, JournalState};
use crate::undo;

/// How long a killed process may take to end.
const END: Duration = Duration::from_secs(2);
/// How long a lock is waited for whose holder is dead.
const LOCK: Duration = Duration::from_secs(2);

/// Watches. An error means that it never began.
pub(super) fn watch(config: &WatchdogConfig) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(config.milliseconds);
    detach::block_signals();
    let parent = PidFd::open(config.parent, config.started)?;
    let mut log = Log::open(&config.folder, &config.run);
    detach::leave_group().iter().for_each(|trouble| log.note(trouble));
    let folder = Folder::at(&config.folder);
    let known = match folder.journal()? {
        Some(journal) if journal.run == config.run && journal.state == JournalState::Open => journal,
        _ => {
            return Err(Error::failed(
                "watch over this run",
                "its journal is not there, or not open",
                "does another ovn-k8s-util run with the same --state-dir?",
            ));
        }
    };
    let _watching = journal::watching();
    // A run that is gone already cannot read it, which is noticed at once.
    let _ = writeln!(std::io::stdout(), "armed {}", std::process::id());
    detach::close_pipe();
    log.note(&format!("armed for process {}, {} ms", config.parent, config.milliseconds));

    let why = match parent.wait(Some(deadline)) {
        Ok(true) => "the process of the run has ended",
        Ok(false) if open(&folder, &known).is_none() => {
            log.note("closed in time");
            return Ok(());
        }
        Ok(false) => {
            log.report("the run was not verified in time: killing its process");
            if let Err(error) = parent.kill().and_then(|()| parent.wait(Some(Instant::now() + END))) {
                log.report(&error.to_string());
            }
            "the run was not verified in time"
        }
        Err(error) => {
            log.report(&error.to_string());
            "the process of the run cannot be watched any more"
        }
    };
    finish(&folder, &known, why, &mut log);
    Ok(())
}

/// Undoes what is open, under the lock.
fn finish(folder: &Folder, known: &Journal, why: &str, log: &mut Log) {
    if open(folder, known).is_none() {
        log.note(&format!("{why}; nothing is open"));
        return;
    }
    let lock = folder.lock_or_go_on(LOCK);
    if !lock.is_held() {
        log.report("the lock is still held, or cannot be taken: going on without it");
    }
    // Another process may have changed it until now.
    let Some(mut journal) = open(folder, known) else {
        log.note(&format!("{why}; another process has closed the journal"));
        return;
    };
    log.note(&format!("{why}: undoing"));
    let begun = Instant::now();
    let undone = undo::run(&lock, &mut journal);
    for trouble in &undone.troubles {
        log.report(trouble);
    }
    let rest =
        if undone.pending { "; run `ovn-k8s-util recover` when the switch's database answers" } else { "" };
    log.report(&format!("{why}: undone in {} ms{rest}", begun.elapsed().as_millis()));
}

/// The run's journal, while it is open. One that cannot be read any more is taken as it was: management on the NIC is
/// the safe end.
fn open(folder: &Folder, known: &Journal) -> Option<Journal> {
    match folder.journal() {
        Ok(Some(journal)) => {
            (journal.run == known.run && journal.state == JournalState::Open).then_some(journal)
        }
        // The product removes no journal that can be read.
        Ok(None) | Err(_) => Some(known.clone()),
    }
}
