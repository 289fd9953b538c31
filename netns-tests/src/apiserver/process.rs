//! Running the programs of the fixture.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A server that ends when this is dropped, and when this process ends.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Start a program, in a network namespace if one is named. What it says goes to a file.
    pub(super) fn start(netns: Option<&str>, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log).context("opening a log")?;
        let mut command = command(netns, program.as_os_str());
        // It reads its standard input to the end, which comes when we are gone.
        command.args(args).env("KUBE_TEST_SERVER_ENDS_WITH_STDIN", "1").stdin(Stdio::piped());
        command.stdout(out.try_clone().context("a second handle of a log")?).stderr(out);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self(child))
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    pub(super) fn kill(mut self) -> Result<()> {
        self.end().context("killing a server")
    }

    fn end(&mut self) -> std::io::Result<()> {
        if !self.has_ended() {
            self.0.kill()?;
        }
        self.0.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing more can be done about one that will not die.
        let _ = self.end();
    }
}

/// Run a program to its end. Gives what it printed; what it complained about is in the error.
pub(super) fn run(
    netns: Option<&str>,
    program: &Path,
    args: &[String],
    input: Option<&[u8]>,
) -> Result<String> {
    let what = || format!("{} {}", program.display(), args.first().map_or("", String::as_str));
    let mut command = command(netns, program.as_os_str());
    command.args(args).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(what)?;
    let feeder = match (child.stdin.take(), input) {
        // From a thread of its own: the program may print before it has read everything.
        (Some(mut pipe), Some(input)) => {
            let input = input.to_vec();
            Some(std::thread::spawn(move || pipe.write_all(&input)))
        }
        _ => None,
    };
    let output = child.wait_with_output().with_context(what)?;
    if let Some(feeder) = feeder {
        let _ = feeder.join();
    }
    if !output.status.success() {
        bail!("{}: {}: {}", what(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn command(netns: Option<&str>, program: &OsStr) -> Command {
    match netns {
        None => Command::new(program),
        // nsenter becomes the program: the process id is the program's.
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
            command
        }
    }
}
