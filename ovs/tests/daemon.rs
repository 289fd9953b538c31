//! Detaching, pidfile, supervision and control socket, on a real process, asked by the real ovs-appctl.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = "demo_daemon";

/// A directory in which the demo daemon runs. What still runs in it is killed at the end, by its pid.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("OVS_RUNDIR", self.dir.path()).env("OVS_LOGDIR", self.dir.path());
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs the daemon until its caller's process ends.
    fn start(&self, args: &[&str]) -> Output {
        self.command(&demo_daemon(), args).arg("-vsyslog:off").output().unwrap()
    }

    fn started(&self, args: &[&str]) -> Pid {
        let output = self.start(args);
        assert!(output.status.success(), "{output:?}");
        self.pid().unwrap()
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path("demo_daemon.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn appctl(&self, args: &[&str]) -> Output {
        let program = Path::new("ovs-appctl");
        self.command(program, &["-t", PROGRAM]).args(args).output().unwrap()
    }

    /// Looks until `found` finds something.
    fn eventually<T>(&self, what: &str, found: impl Fn() -> Option<T>) -> T {
        let patience = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(value) = found() {
                return value;
            }
            assert!(Instant::now() < patience, "{what} did not happen; log: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("demo_daemon.log")).unwrap_or_default()
    }

    /// Every process whose environment names this directory.
    fn processes(&self) -> Vec<Pid> {
        let wanted = format!("OVS_RUNDIR={}", self.dir.path().display());
        let ids = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|id| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
        })
        .map(Pid::from_raw)
        .filter(|&pid| runs(pid))
        .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A monitor first: it would start its daemon again.
        let mut left = self.processes();
        left.sort();
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The example beside this test's binary.
fn demo_daemon() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(PROGRAM);
    assert!(path.exists(), "build it first: cargo build -p ovs --example {PROGRAM}");
    path
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Whether a process runs. One that nobody has waited for does not: not every first process of a container reaps.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn alive(pid: Pid) -> Option<()> {
    runs(pid).then_some(())
}

fn dead(pid: Pid) -> Option<()> {
    (!runs(pid)).then_some(())
}

#[test]
fn ready_when_the_caller_returns() {
    let place = Place::new();
    let pid = place.started(&["--pidfile", "--detach", "--log-file", "-vconsole:emer"]);
    // No waiting: all of it must be there by now.
    let version = place.appctl(&["version"]);
    assert_eq!(text(&version.stdout), "demo_daemon 0.1\n", "{version:?}");
    assert_eq!(text(&place.appctl(&["cwd"]).stdout), "/\n");
    assert!(place.path(&format!("demo_daemon.{pid}.ctl")).exists());
    for fd in 0..3 {
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap(), Path::new("/dev/null"));
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: i32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, pid.as_raw(), "it leads a session of its own");

    assert!(place.appctl(&["exit"]).status.success());
    place.eventually("the end", || dead(pid));
    place.eventually("a clean directory", || {
        (std::fs::read_dir(place.dir.path()).unwrap().count() == 1).then_some(())
    });
    let log = place.log();
    assert!(log.contains("|demo|INFO|running\n") && log.contains("|demo|INFO|asked to exit\n"), "{log}");
}

#[test]
fn a_termination_removes_pidfile_and_socket() {
    let place = Place::new();
    let pid = place.started(&["--pidfile", "--detach", "--no-chdir"]);
    assert_eq!(text(&place.appctl(&["cwd"]).stdout).trim(), place.dir.path().to_str().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    place.eventually("a clean directory", || {
        (std::fs::read_dir(place.dir.path()).unwrap().count() == 0).then_some(())
    });
}

#[test]
fn a_second_one_is_refused_and_may_be_forced() {
    let place = Place::new();
    let first = place.started(&["--pidfile", "--detach"]);
    for detach in [&["--pidfile", "--detach"][..], &["--pidfile"][..]] {
        let refused = place.start(detach);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains(&format!("already running as pid {first}, aborting")), "{said}");
    }
    let second = place.started(&["--pidfile", "--detach", "--overwrite-pidfile"]);
    assert_ne!(first, second);
    // The first one leaves the pidfile that is no longer its own.
    kill(first, Signal::SIGTERM).unwrap();
    place.eventually("the end of the first", || dead(first));
    assert_eq!(place.pid(), Some(second));
}

#[test]
fn a_pidfile_left_by_a_killed_daemon_is_no_obstacle() {
    let place = Place::new();
    let first = place.started(&["--pidfile", "--detach"]);
    kill(first, Signal::SIGKILL).unwrap();
    place.eventually("the end of the first", || dead(first));
    assert_eq!(place.pid(), Some(first), "nobody could remove it");
    let second = place.started(&["--pidfile", "--detach"]);
    assert!(alive(second).is_some() && first != second);
}

#[test]
fn of_many_started_at_once_one_wins() {
    let place = Place::new();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            place
                .command(&demo_daemon(), &["--pidfile", "--detach", "-vsyslog:off"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let won = callers
        .into_iter()
        .map(|mut caller| caller.wait().unwrap())
        .filter(|status| status.success())
        .count();
    assert_eq!(won, 1);
    assert!(text(&place.appctl(&["version"]).stdout).starts_with(PROGRAM));
}

#[test]
fn the_caller_exits_with_what_went_wrong() {
    let place = Place::new();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--fail-before", "--detach"], 1, "told to fail before detaching"),
        (&["--fail-starting=7", "--detach"], 7, "told to fail with 7"),
        (&["--fail-starting=7", "--detach", "--monitor"], 7, "told to fail with 7"),
        (&["--abort-starting", "--detach"], 1, "died while starting, killed (SIGABRT)"),
        (&["--detach", "--pidfile=/nonexistent/x.pid"], 1, "/nonexistent/x.pid"),
    ];
    for (args, code, said) in cases {
        let output = place.start(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {output:?}");
    }
    assert!(place.processes().is_empty());
}

#[test]
fn the_monitor_restarts_a_crash_and_not_an_exit() {
    let place = Place::new();
    let first = place.started(&["--pidfile", "--detach", "--monitor", "--log-file", "-vconsole:off"]);
    let monitor = *place.processes().iter().find(|&&pid| pid != first).unwrap();
    // The daemon may be ready before its monitor has taken its name.
    place.eventually("the monitor's name", || {
        (std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap() == "monitor\n").then_some(())
    });

    let _ = place.appctl(&["abort"]);
    let second = place.eventually("a new daemon", || place.pid().filter(|&pid| pid != first));
    place.eventually("its control socket", || place.appctl(&["version"]).status.success().then_some(()));
    let log = place.log();
    assert!(log.contains(&format!("|daemon|EMER|pid {first} died, killed (SIGABRT)")), "{log}");

    let _ = place.appctl(&["end", "1"]);
    place.eventually("the end of the daemon", || dead(second));
    place.eventually("the end of the monitor", || dead(monitor));
    assert!(place.log().contains(&format!("pid {second} died, exit status 1, exiting")), "{}", place.log());
}

#[test]
fn the_monitor_restarts_on_exit_code_five() {
    let place = Place::new();
    let first = place.started(&["--pidfile", "--detach", "--monitor"]);
    let _ = place.appctl(&["end", "5"]);
    place.eventually("a new daemon", || place.pid().filter(|&pid| pid != first));
}

#[test]
fn logrotate_and_levels_at_run_time() {
    let place = Place::new();
    let pid = place.started(&["--pidfile", "--detach", "--log-file", "-vany:console:off"]);
    // A thread of its own writes the log.
    place.eventually("the first lines", || place.log().contains("running").then_some(()));
    std::fs::rename(place.path("demo_daemon.log"), place.path("old.log")).unwrap();
    assert!(place.appctl(&["vlog/reopen"]).status.success());
    assert!(place.appctl(&["vlog/set", "file:dbg"]).status.success());
    assert!(place.appctl(&["vlog/list"]).status.success());
    place.eventually("a debug line", || {
        place.log().contains("|unixctl|DBG|received request vlog/list").then_some(())
    });
    assert!(std::fs::read_to_string(place.path("old.log")).unwrap().contains("running"));
    let wrong = place.appctl(&["vlog/set", "nowhere:dbg"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(alive(pid).is_some());
}

#[test]
fn a_wrong_level_or_log_file_is_said_before_detaching() {
    let place = Place::new();
    for (args, said) in [
        (&["--detach", "-vconsol:dbg"][..], "consol"),
        (&["--detach", "--log-file=/nonexistent/x.log"][..], "/nonexistent/x.log"),
    ] {
        let output = place.start(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(said), "{output:?}");
    }
}
