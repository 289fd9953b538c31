//! `--verify-cmd`: the operator's own check.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// Between two checks whether the command has ended.
const POLL: Duration = Duration::from_millis(1);
/// How much of what it printed is shown when it fails.
const SHOWN: u64 = 400;

/// Runs a shell command, until the deadline at most. It has a process group of its own, which is killed at the deadline,
/// and none of our descriptors: its output goes to a file in memory, so a child that keeps it open does not delay the end.
pub(crate) fn run(line: &str, deadline: Instant) -> Result<()> {
    let attempted = "verify by --verify-cmd";
    let failed = |what: String| Error::failed(attempted, what, "run it by hand to see why");
    let system = Error::io(attempted, "is there a shell, /bin/sh?");
    let mut printed = std::fs::File::from(
        memfd_create(c"verify-cmd", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| failed(format!("no memory for its output: {errno}")))?,
    );
    let copies = (|| Ok::<_, std::io::Error>((printed.try_clone()?, printed.try_clone()?)))();
    let (output, errors) = copies.map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(system)?;
    match wait(&mut child, deadline) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("it {}{}", ended(status), tail(&mut printed)))),
        None => {
            if let Ok(group) = i32::try_from(child.id()) {
                // All that it has started and that did not leave its group.
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            drop(child.wait());
            Err(failed(format!("it was not done in time and was ended{}", tail(&mut printed))))
        }
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if Instant::now() >= deadline => return None,
            _ => std::thread::sleep(POLL),
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn tail(printed: &mut std::fs::File) -> String {
    let mut text = Vec::new();
    let length = printed.metadata().map_or(0, |data| data.len());
    let read = printed
        .seek(SeekFrom::Start(length.saturating_sub(SHOWN)))
        .and_then(|_| printed.take(SHOWN).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match text.trim() {
        "" => String::new(),
        _ if read.is_err() => String::new(),
        text => format!(": {}", text.replace('\n', " / ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn output_and_exit_status_are_in_the_error() {
        run("true", within(30)).unwrap();
        let error = run("echo no way out >&2; exit 3", within(30)).unwrap_err().to_string();
        assert!(error.contains("exited with 3") && error.contains("no way out"), "{error}");
        let error = run("kill -9 $$", within(30)).unwrap_err().to_string();
        assert!(error.contains("signal 9"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let line = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let soon = Instant::now() + Duration::from_millis(500);
        assert!(run(&line, soon).unwrap_err().to_string().contains("not done in time"));
        let pid = std::fs::read_to_string(&file).unwrap();
        let end = within(30);
        // A signal is on its way for a moment.
        while is_alive(pid.trim()) {
            assert!(Instant::now() < end, "the child is alive");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn a_child_that_keeps_the_output_open_delays_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        // It ends, its child has its output for much longer.
        run(&format!("sleep 600 & echo $! > {}; exit 0", file.display()), within(500)).unwrap();
        let pid = std::fs::read_to_string(&file).unwrap();
        assert!(is_alive(pid.trim()));
        nix::sys::signal::kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    fn is_alive(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z") && !state.contains(") X")
    }
}
