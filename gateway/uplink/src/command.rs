//! Programs of the host, run to their end with a timeout and without inherited descriptors.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long to wait for the rest of the output once a program has ended: what it left running may hold the pipe.
const LEFT_OVER: Duration = Duration::from_millis(100);

/// The outcome of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It ended with 0.
    pub success: bool,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub stderr: String,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no such program.
    #[error("{0} is not installed")]
    Missing(String),
    /// It did not end in time, and was killed.
    #[error("{0} did not end in {1:?}")]
    Late(String, Duration),
    /// It could not be run.
    #[error("{0} cannot be run: {1}")]
    Failed(String, std::io::Error),
}

/// Runs programs; tests have their own.
pub(crate) trait Runner {
    /// Runs one to its end.
    fn run(&mut self, command: &[String], limit: Duration) -> Result<Answer, NoAnswer>;
}

/// Runs programs of this host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System;

impl Runner for System {
    fn run(&mut self, command: &[String], limit: Duration) -> Result<Answer, NoAnswer> {
        run(command, limit)
    }
}

/// Runs a program to its end: without input, in a process group of its own, killed with all of it when time is up.
pub fn run(command: &[String], limit: Duration) -> Result<Answer, NoAnswer> {
    let (program, arguments) = command.split_first().ok_or_else(|| NoAnswer::Missing(String::new()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NoAnswer::Missing(program.clone()),
            _ => NoAnswer::Failed(program.clone(), error),
        })?;
    let output = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let deadline = Instant::now() + limit;
    let mut nap = Duration::from_micros(200);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => {
                thread::sleep(nap);
                nap = (nap * 2).min(Duration::from_millis(10));
            }
            Ok(None) => {
                if let Ok(group) = i32::try_from(child.id()) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                let _ = child.wait();
                return Err(NoAnswer::Late(program.clone(), limit));
            }
            Err(error) => return Err(NoAnswer::Failed(program.clone(), error)),
        }
    };
    Ok(Answer { success: status.success(), output: collect(output), stderr: collect(stderr) })
}

/// Reads in a thread of its own: a pipe that is full would stop the program.
fn read_all(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length) = pipe.read(&mut chunk) {
            if length == 0 || tell.send(chunk[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    told
}

fn collect(told: Option<mpsc::Receiver<Vec<u8>>>) -> String {
    let mut bytes = Vec::new();
    if let Some(told) = told {
        while let Ok(chunk) = told.recv_timeout(LEFT_OVER) {
            bytes.extend(chunk);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Answer, NoAnswer> {
        run(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], limit)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn output_and_exit_status_are_returned() {
        let answer = sh("echo out; echo err >&2; exit 3", LONG).unwrap();
        assert_eq!(answer, Answer { success: false, output: "out\n".into(), stderr: "err\n".into() });
        let much = sh("head -c 300000 /dev/zero | tr '\\0' x", LONG).unwrap();
        assert!(much.success && much.output.len() == 300_000);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let error = sh("sleep 1000 & sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, NoAnswer::Late(..)), "{error}");
    }

    #[test]
    fn a_child_left_running_does_not_delay_the_result() {
        let answer = sh("sleep 20 & echo done", LONG).unwrap();
        assert_eq!(answer.output, "done\n");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&["/no/such/program".to_owned()], LONG).unwrap_err();
        assert!(error.to_string().contains("not installed"), "{error}");
    }
}
