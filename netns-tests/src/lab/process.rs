//! Programs the lab runs: short ones whose output is wanted, and held ones that live as long as their owner.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{machine::scaled, netns::Namespace};

/// How long the lab waits for something that must happen before it calls it a failure.
///
/// Generous on purpose: a loaded machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same, on this machine.
pub fn patience() -> Duration {
    scaled(PATIENCE)
}

/// A program to run: its words, its environment, the namespace it runs in.
#[derive(Debug)]
pub struct Program<'a> {
    command: Command,
    namespace: Option<&'a Namespace>,
    input: Option<String>,
    words: String,
}

impl<'a> Program<'a> {
    /// A program found on the `PATH`.
    pub fn new(name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        let mut command = Command::new(name);
        command.stdin(Stdio::null());
        Self { command, namespace: None, input: None, words: name.display().to_string() }
    }

    /// One more argument.
    pub fn arg(mut self, word: impl AsRef<str>) -> Self {
        self.words.push(' ');
        self.words.push_str(word.as_ref());
        self.command.arg(word.as_ref());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<str>>(self, words: impl IntoIterator<Item = S>) -> Self {
        words.into_iter().fold(self, Program::arg)
    }

    /// Arguments written as one line, split at white space.
    pub fn line(self, words: &str) -> Self {
        self.args(words.split_whitespace())
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Environment variables.
    pub fn envs(mut self, pairs: &[(String, String)]) -> Self {
        self.command.envs(pairs.iter().map(|(name, value)| (name, value)));
        self
    }

    /// The network namespace to run in.
    pub fn inside(mut self, namespace: &'a Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Makes it the leader of a process group of its own, so that the group can be signalled.
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// What the program reads from its standard input.
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Runs to the end and gives what was printed; a non-zero exit is an error that quotes it.
    pub fn run(self) -> Result<String> {
        let (ok, printed, complaint, words) = self.run_any()?;
        if !ok {
            bail!("`{words}` failed: {}{}", complaint.trim(), printed.trim());
        }
        Ok(printed)
    }

    /// Runs to the end: whether it exited with zero, its output, its error output, and its words.
    fn run_any(mut self) -> Result<(bool, String, String, String)> {
        let words = std::mem::take(&mut self.words);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = spawn_inside(self.namespace, &mut self.command, &words)?;
        let feeder = self.input.take().zip(child.stdin.take()).map(|(text, mut pipe)| {
            // A program that exits early closes the pipe; its exit code says why, not the write.
            std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())))
        });
        let output = child.wait_with_output().with_context(|| format!("waiting for `{words}`"))?;
        if let Some(feeder) = feeder {
            drop(feeder.join());
        }
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            words,
        ))
    }

    /// Runs to the end and gives (exit was zero, output, error output).
    pub fn outcome(self) -> Result<(bool, String, String)> {
        self.run_any().map(|(ok, printed, complaint, _)| (ok, printed, complaint))
    }

    /// Starts the program and holds it: it ends when the returned value is dropped.
    ///
    /// `log` receives both outputs; `register` is the lab's list of processes to sweep when the owner dies.
    pub fn hold(mut self, log: &Path, register: &Register) -> Result<RunningProgram> {
        let words = std::mem::take(&mut self.words);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let twin = file.try_clone().context("duplicating the log's descriptor")?;
        self.command.stdout(file).stderr(twin);
        let child = spawn_inside(self.namespace, &mut self.command, &words)?;
        register.note(child.id())?;
        Ok(RunningProgram { child, words, log: log.to_owned() })
    }
}

/// A child takes the namespace of the thread that forks it, so the thread moves there first.
fn spawn_inside(namespace: Option<&Namespace>, command: &mut Command, words: &str) -> Result<Child> {
    let spawned = match namespace {
        None => command.spawn(),
        Some(namespace) => namespace.enter(|| command.spawn())?,
    };
    spawned.with_context(|| format!("starting `{words}`: is it installed?"))
}

/// A process that is ours until dropped.
#[derive(Debug)]
pub struct RunningProgram {
    child: Child,
    words: String,
    log: PathBuf,
}

impl RunningProgram {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs; an error when that cannot be told.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().with_context(|| format!("looking at `{}`", self.words))?.is_none())
    }

    /// An error with the end of its log when it has ended.
    pub fn expect_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!(
                "`{}` ended ({status}); the end of {}:\n{}",
                self.words,
                self.log.display(),
                tail.join("\n")
            );
        }
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id beyond i32")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("signalling `{}`", self.words))
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub fn terminate(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        wait_until(&format!("`{}` to end", self.words), || Ok(self.child.try_wait()?.is_some()))
    }

    /// Ends it at once (SIGKILL) and waits for that.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing `{}`", self.words))?;
        self.child.wait().with_context(|| format!("waiting for `{}`", self.words))?;
        Ok(())
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The list of a lab's processes, kept on disk so that a later run can end what a killed owner left.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
}

impl Register {
    /// The register of the lab that lives in `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { path: dir.join("processes") }
    }

    /// Notes a process, with its start time: ids are used again, the pair is not.
    pub fn note(&self, id: u32) -> Result<()> {
        let Some(started) = start_time(id) else { return Ok(()) };
        let mut file: File = OpenOptions::new().create(true).append(true).open(&self.path)?;
        // In one piece: parts of two lines that are written at once would be neither.
        file.write_all(format!("{id} {started}\n").as_bytes()).context("writing the register of processes")
    }

    /// Ends every process noted that still is the one noted.
    pub fn end_all(&self) {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        for (id, started) in text.lines().filter_map(|line| line.split_once(' ')) {
            let (Ok(number), Ok(raw)) = (id.parse::<u32>(), id.parse::<i32>()) else { continue };
            if start_time(number).as_deref() == Some(started) {
                let _ = kill(Pid::from_raw(raw), Signal::SIGKILL);
            }
        }
    }
}

/// Field 22 of `/proc/PID/stat` (proc(5)), counted behind the parenthesised name, which may hold blanks.
fn start_time(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

/// Polls until `ready` says yes, for at most half a minute (more where `LAB_SLOWNESS` says so).
pub fn wait_until(what: &str, ready: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(what, PATIENCE, ready)
}

/// Polls until `ready` says yes, for at most `bound` (more where `LAB_SLOWNESS` says so).
pub fn wait_within(what: &str, bound: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let (start, bound) = (Instant::now(), scaled(bound));
    let mut pause = Duration::from_micros(500);
    loop {
        let last = ready();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if start.elapsed() > bound {
            return match last {
                Err(error) => Err(error.context(format!("waited {bound:?} for {what}"))),
                Ok(_) => bail!("waited {bound:?} for {what}"),
            };
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Checks for `time` (more where `LAB_SLOWNESS` says so), again and again, that something does not happen.
pub fn holds_for(what: &str, time: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + scaled(time);
    loop {
        check().with_context(|| format!("{what} did not hold for {time:?}"))?;
        if Instant::now() > end {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
