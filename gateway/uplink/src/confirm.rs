//! The operator's confirmation: a run that waits for it (`--confirm`), and the command that gives it.
//!
//! The waiting run writes a file with its run's name beside the journal; `ovn-k8s-util confirm` writes another one with the
//! same name. A confirmation that is older than the wait, or names another run, does not count.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::regular_file;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{getpgrp, tcgetpgrp};

use super::error::{Error, Result};
use super::journal::{Folder, JournalState};

/// How often the file of the confirmation is checked.
const LOOK: Duration = Duration::from_millis(50);
/// How long a run may take from the confirmation to its commit.
const COMMIT: Duration = Duration::from_secs(10);
const REMEDY: &str = "--state-dir names the folder; it must be one that can be written";

/// Waits for `ovn-k8s-util confirm`, or for Enter at a terminal. `go_on` is called all the time; its error ends the wait.
pub(crate) fn wait(
    folder: &Folder,
    run: &str,
    limit: Duration,
    go_on: impl Fn() -> Result<()>,
) -> Result<()> {
    let (waiting, confirmed) = (waiting(folder), confirmed(folder));
    remove(&confirmed);
    put(&waiting, run)?;
    let outcome = until(&confirmed, run, limit, go_on);
    remove(&waiting);
    remove(&confirmed);
    outcome
}

/// Confirms the run that waits, and waits until it is committed.
pub(crate) fn confirm(folder: &Folder) -> Result<()> {
    let nobody = || {
        Error::refused(
            "no run waits for a confirmation",
            "only a run with --confirm does, until its time is over",
        )
    };
    let journal =
        folder.journal()?.filter(|journal| journal.state == JournalState::Open).ok_or_else(nobody)?;
    if read(&waiting(folder)).as_deref() != Some(journal.run.as_str()) {
        return Err(nobody());
    }
    put(&confirmed(folder), &journal.run)?;
    let end = Instant::now() + COMMIT;
    while Instant::now() < end {
        match folder.journal()? {
            Some(now) if now.run == journal.run && now.state == JournalState::Open => {
                std::thread::sleep(LOOK / 5)
            }
            Some(now) if now.run == journal.run && now.state != JournalState::Committed => {
                return Err(Error::failed(
                    "confirm the takeover",
                    "the run was undone meanwhile",
                    "its terminal says why; run it again, with a longer --confirm if the time was too short",
                ));
            }
            _ => return Ok(()),
        }
    }
    Err(Error::failed(
        "confirm the takeover",
        "confirmed, but not committed after 10 s",
        "it rolls back at its timeout; its terminal says more",
    ))
}

fn until(confirmed: &Path, run: &str, limit: Duration, go_on: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + limit;
    let mut terminal = at_a_terminal();
    let way =
        if terminal { "press Enter, or run `ovn-k8s-util confirm`" } else { "run `ovn-k8s-util confirm`" };
    cli::note(format!("verified; {way} within {} s, or everything is undone", limit.as_secs()));
    while Instant::now() < end {
        if read(confirmed).as_deref() == Some(run) {
            return Ok(());
        }
        go_on()?;
        let pause = LOOK.min(end.saturating_duration_since(Instant::now()));
        // Reading a terminal from the background would stop us.
        if terminal && at_a_terminal() {
            match enter(pause) {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => terminal = false,
            }
        } else {
            std::thread::sleep(pause);
        }
    }
    Err(Error::failed(
        "commit the takeover",
        format!("it was not confirmed within {} s", limit.as_secs()),
        "run it again and confirm in time; --confirm=SECONDS gives more time",
    ))
}

/// Whether Enter is pressed within the time; `None` when the terminal is gone.
fn enter(pause: Duration) -> Option<bool> {
    let input = std::io::stdin();
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(_) => Some(false),
        Ok(_) => match input.lock().read_line(&mut String::new()) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(true),
        },
    }
}

/// Whether standard input is a terminal with this process in its foreground.
fn at_a_terminal() -> bool {
    let input = std::io::stdin();
    input.is_terminal() && tcgetpgrp(input.as_fd()).is_ok_and(|group| group == getpgrp())
}

fn waiting(folder: &Folder) -> PathBuf {
    folder.path().join("waiting")
}

fn confirmed(folder: &Folder) -> PathBuf {
    folder.path().join("confirmed")
}

fn read(path: &Path) -> Option<String> {
    regular_file::read_text(path).ok()
}

/// Writes the file whole.
fn put(path: &Path, run: &str) -> Result<()> {
    let beside = path.with_extension("new");
    remove(&beside);
    let mut options = File::options();
    let made = regular_file::open(options.write(true).create(true).truncate(true), &beside);
    let written = made.and_then(|mut file| file.write_all(run.as_bytes()));
    let written = written.and_then(|()| std::fs::rename(&beside, path));
    written.map_err(Error::io(format!("write {}", path.display()), REMEDY))
}

fn remove(path: &Path) {
    // A missing file is fine, and the run's name in it identifies an old one.
    drop(std::fs::remove_file(path));
}

#[cfg(test)]
mod tests {
    use ovs::ovsdb::Remote;

    use super::super::journal::{Journal, Lock};
    use super::super::options::Direction;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn begun() -> (tempfile::TempDir, Lock, Journal) {
        // Tests run side by side, and one run holds the lock of a network namespace.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lock = Folder::below(dir.path()).lock(Duration::ZERO).unwrap();
        let journal = Journal::begin(Direction::Attach, &Remote::unix("/x"), Vec::new()).unwrap();
        lock.begin(&journal).unwrap();
        (dir, lock, journal)
    }

    #[test]
    fn a_confirmation_ends_the_wait() {
        let (_dir, lock, mut journal) = begun();
        let folder = lock.folder().clone();
        assert!(confirm(&folder).unwrap_err().to_string().contains("no run waits"));
        let giver = std::thread::spawn({
            let folder = folder.clone();
            move || {
                let end = Instant::now() + PATIENCE;
                while confirm(&folder).is_err() {
                    assert!(Instant::now() < end);
                    std::thread::sleep(LOOK / 10);
                }
            }
        });
        wait(&folder, &journal.run, PATIENCE, || Ok(())).unwrap();
        lock.close(&mut journal, JournalState::Committed).unwrap();
        giver.join().unwrap();
        assert!(!waiting(&folder).exists() && !confirmed(&folder).exists());
        assert!(confirm(&folder).unwrap_err().to_string().contains("no run waits"));
    }

    #[test]
    fn a_missing_or_old_confirmation_does_not_count() {
        let (_dir, lock, journal) = begun();
        let folder = lock.folder();
        put(&confirmed(folder), &journal.run).unwrap();
        let text = wait(folder, &journal.run, LOOK, || Ok(())).unwrap_err().to_string();
        assert!(text.contains("not confirmed within"), "{text}");
        put(&waiting(folder), "another").unwrap();
        assert!(confirm(folder).is_err());
    }

    #[test]
    fn anything_but_a_regular_file_is_no_confirmation() {
        let (_dir, lock, journal) = begun();
        let folder = lock.folder();
        for name in ["waiting", "waiting.new", "confirmed", "confirmed.new"] {
            nix::unistd::mkfifo(&folder.path().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        assert!(confirm(folder).unwrap_err().to_string().contains("no run waits"));
        let text = wait(folder, &journal.run, LOOK, || Ok(())).unwrap_err().to_string();
        assert!(text.contains("not confirmed within"), "{text}");
    }

    #[test]
    fn an_error_ends_the_wait() {
        let (_dir, lock, journal) = begun();
        let text = wait(lock.folder(), &journal.run, PATIENCE, || Err(Error::refused("x", "y")));
        assert!(text.unwrap_err().to_string().contains('x'));
    }
}
