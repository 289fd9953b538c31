//! The rollback watchdog, whatever becomes of the one at work: killed, hung up, stopped, leaky, or simply done.
//!
//! The one at work is this very test program, started again as [`the_one_at_work`]; the rollback watchdog is the built binary.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this is test code")]

use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use uplink::journal::{Folder, Journal, JournalState};
use uplink::options::Direction;
use uplink::watchdog;

const BINARY: &str = env!("CARGO_BIN_EXE_ovn-k8s");
/// Bound for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);

const ROLE: &str = "TEST_ROLE";
const FOLDER: &str = "TEST_FOLDER";
const TIMEOUT: &str = "TEST_TIMEOUT_MS";

/// Not a test but the other side of all of them: arms a rollback watchdog, says its number, and does what its role is.
#[test]
fn the_one_at_work() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = Folder::at(Path::new(&std::env::var(FOLDER).unwrap()));
    let timeout = Duration::from_millis(std::env::var(TIMEOUT).unwrap().parse().unwrap());
    // Tests run side by side, and there is one at work in a network namespace.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let lock = folder.lock(PATIENCE).unwrap();
    let nowhere = "unix:/nonexistent/db.sock".parse().unwrap();
    let mut journal = Journal::begin(Direction::Attach, &nowhere, Vec::new()).unwrap();
    lock.begin(&journal).unwrap();
    // As a careless caller would leave it: open for whoever is started.
    let _leaked = nix::unistd::dup(File::open("/dev/zero").unwrap()).unwrap();
    let armed = watchdog::arm_by(Path::new(BINARY), &folder, &journal, timeout).unwrap();
    assert!(armed.is_alive());
    if role == "leak" {
        let child = leak_lock();
        fs::write(folder.path().join("child"), child.to_string()).unwrap();
    }
    if role == "commit" || role == "dismiss" {
        lock.close(&mut journal, JournalState::Committed).unwrap();
    }
    let said = folder.path().join("said.new");
    fs::write(&said, armed.pid().to_string()).unwrap();
    fs::rename(said, folder.path().join("said")).unwrap();
    match role.as_str() {
        "commit" => {}
        "dismiss" => {
            armed.dismiss(&journal);
            std::thread::sleep(NEVER);
        }
        "watch" => {
            assert!(armed.watch().wait(Some(Instant::now() + PATIENCE)).unwrap());
            assert!(!armed.is_alive());
            fs::write(folder.path().join("noticed"), "").unwrap();
        }
        _ => std::thread::sleep(NEVER),
    }
}

/// Starts a program that inherits the lock.
#[allow(clippy::zombie_processes, reason = "it is to outlive its parent")]
fn leak_lock() -> u32 {
    let lock = fs::read_dir("/proc/self/fd").unwrap().flatten().find(|entry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.file_name().is_some_and(|name| name == "lock"))
    });
    let number: i32 = lock.unwrap().file_name().to_str().unwrap().parse().unwrap();
    #[allow(unsafe_code, reason = "the descriptor is hidden, as it should be")]
    // SAFETY: the descriptor is open as long as the lock lives, which is beyond this function.
    let lock = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let child = Command::new("sleep").arg("600").stdin(Stdio::null()).process_group(0).spawn().unwrap();
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    child.id()
}

/// One at work with its rollback watchdog. Both are gone when it is dropped.
struct Work {
    _dir: TempDir,
    folder: Folder,
    child: Child,
    watchdog: u32,
}

impl Work {
    fn start(role: &str, timeout: Duration) -> Self {
        Self::start_by(role, timeout, |program| {
            let mut command = Command::new(program);
            command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
            command
        })
    }

    fn start_by(role: &str, timeout: Duration, command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path());
        let mut command = command(&std::env::current_exe().unwrap());
        command.args(["--exact", "the_one_at_work", "--nocapture"]);
        command.env(ROLE, role).env(FOLDER, folder.path()).env(TIMEOUT, timeout.as_millis().to_string());
        let child = command.spawn().unwrap();
        let mut work = Self { _dir: dir, folder, child, watchdog: 0 };
        until("a rollback watchdog is armed", || {
            assert!(work.file("said").exists() || work.child.try_wait().unwrap().is_none(), "it ended early");
            work.file("said").exists()
        });
        work.watchdog = fs::read_to_string(work.file("said")).unwrap().parse().unwrap();
        work
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("watchdog.log")).unwrap_or_default()
    }

    fn state(&self) -> JournalState {
        self.folder.journal().unwrap().unwrap().state
    }

    /// The end of it: undone by the rollback watchdog, which then leaves.
    fn is_undone(&mut self, why: &str) {
        until("the rollback watchdog leaves", || !lives(self.watchdog));
        assert!(
            matches!(self.state(), JournalState::Undone | JournalState::UndoneOvsdbPending),
            "{}",
            self.log()
        );
        assert!(self.log().contains(why), "{}", self.log());
        self.child.wait().unwrap();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let child = fs::read_to_string(self.file("child")).unwrap_or_default();
        if let Ok(child) = child.parse() {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.watchdog != 0 && std::thread::panicking() {
            let _ = kill(Pid::from_raw(i32::try_from(self.watchdog).unwrap()), Signal::SIGKILL);
        }
    }
}

/// Whether a process lives; one that nobody reaped does not.
fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed() {
    let mut work = Work::start("hold", NEVER);
    assert_eq!(work.state(), JournalState::Open);
    kill(work.pid(), Signal::SIGKILL).unwrap();
    work.is_undone("has ended");
}

#[test]
fn killed_with_its_process_group() {
    let mut work = Work::start("hold", NEVER);
    killpg(work.pid(), Signal::SIGKILL).unwrap();
    work.is_undone("has ended");
}

#[test]
fn its_terminal_is_closed() {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let flags = OFlag::O_NOCTTY.bits();
    let slave = ptsname_r(&master).unwrap();
    let slave = File::options().read(true).write(true).custom_flags(flags).open(slave).unwrap();
    let mut work = Work::start_by("hold", NEVER, |program| {
        // Whoever started the tests may ignore the signal (nohup), and that is inherited.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", "setsid", "--ctty"]).arg(program);
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        command
    });
    drop((master, slave));
    work.is_undone("has ended");
}

#[test]
fn stopped_until_the_timer() {
    let mut work = Work::start("hold", Duration::from_millis(300));
    kill(work.pid(), Signal::SIGSTOP).unwrap();
    work.is_undone("was not verified in time: killing its process");
    // The test harness is ended by a signal, not by itself.
    assert!(work.child.wait().unwrap().code().is_none());
}

#[test]
fn killed_with_its_control_group() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(root) = unified.and_then(|line| line.split(' ').nth(4)) else {
        eprintln!("skipped: no unified control groups are mounted here");
        return;
    };
    let group = Path::new(root).join(format!("ovn-k8s-test-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&group) {
        eprintln!("skipped: control groups cannot be made here: {error}");
        return;
    }
    let mut work = Work::start_by("hold", NEVER, |program| {
        let mut command = Command::new("sh");
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.display());
        command.args(["-c", &enter]).arg(program).process_group(0).stdout(Stdio::null());
        command
    });
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert!(members.lines().any(|pid| pid == work.child.id().to_string()), "{members}");
    assert!(!members.lines().any(|pid| pid == work.watchdog.to_string()), "{members}");
    match fs::write(group.join("cgroup.kill"), "1") {
        Ok(()) => {}
        // Linux 5.14. One by one is what ends a group before that.
        Err(_) => kill(work.pid(), Signal::SIGKILL).unwrap(),
    }
    work.is_undone("has ended");
    until("the control group is empty", || fs::remove_dir(&group).is_ok());
}

#[test]
fn committed_and_ended() {
    let mut work = Work::start("commit", NEVER);
    work.child.wait().unwrap();
    until("the rollback watchdog leaves", || !lives(work.watchdog));
    assert_eq!(work.state(), JournalState::Committed);
    assert!(work.log().contains("nothing is open"), "{}", work.log());
}

#[test]
fn committed_and_still_there_at_the_timer() {
    let work = Work::start("dismiss", Duration::from_millis(300));
    until("the rollback watchdog leaves", || !lives(work.watchdog));
    assert_eq!(work.state(), JournalState::Committed);
}

#[test]
fn committed_and_dismissed() {
    let work = Work::start("dismiss", NEVER);
    until("the rollback watchdog leaves", || !lives(work.watchdog));
    assert_eq!(work.state(), JournalState::Committed);
}

#[test]
fn a_child_has_inherited_the_lock() {
    let mut work = Work::start("leak", NEVER);
    kill(work.pid(), Signal::SIGKILL).unwrap();
    work.is_undone("going on without it");
}

#[test]
fn the_dead_man_dies_and_that_is_noticed() {
    let mut work = Work::start("watch", NEVER);
    kill(Pid::from_raw(i32::try_from(work.watchdog).unwrap()), Signal::SIGKILL).unwrap();
    assert!(work.child.wait().unwrap().success());
    assert!(work.file("noticed").exists());
    assert_eq!(work.state(), JournalState::Open, "the one at work has to undo now");
}

#[test]
fn nobody_tells_it_to_go() {
    let mut work = Work::start("hold", NEVER);
    let watchdog = Pid::from_raw(i32::try_from(work.watchdog).unwrap());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGPIPE] {
        kill(watchdog, signal).unwrap();
    }
    assert!(lives(work.watchdog));
    kill(work.pid(), Signal::SIGKILL).unwrap();
    work.is_undone("has ended");
}

#[test]
fn it_has_nothing_of_the_one_at_work() {
    let work = Work::start("hold", NEVER);
    let proc = PathBuf::from(format!("/proc/{}", work.watchdog));
    // Armed is said just before the pipe is closed.
    let open = || -> Vec<PathBuf> {
        let entries = fs::read_dir(proc.join("fd")).unwrap().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
    };
    until("the pipe is closed", || !open().iter().any(|path| path.starts_with("pipe:")));
    let allowed = ["/dev/null", "anon_inode:[pidfd]", "pidfd:"];
    // Its own name; that of the one at work would be a second one.
    let (names, others): (Vec<_>, Vec<_>) =
        open().into_iter().partition(|path| path.to_string_lossy().starts_with("socket:"));
    assert_eq!(names.len(), 1, "{names:?}");
    let strange: Vec<PathBuf> = others
        .into_iter()
        .filter(|path| !path.ends_with("watchdog.log"))
        .filter(|path| !allowed.iter().any(|prefix| path.to_string_lossy().starts_with(prefix)))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    // Field 5 is the process group, 6 the session, 7 the terminal (proc(5)).
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = |stat: &str| -> Vec<String> {
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').skip(2).take(3).map(str::to_owned).collect()
    };
    let (own, other) = (fields(&stat(work.watchdog)), fields(&stat(work.child.id())));
    assert!(own[0] != other[0] && own[1] != other[1] && own[2] == "0", "{own:?} {other:?}");
}

#[test]
fn without_an_open_journal_it_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::below(dir.path());
    // Tests run side by side, and there is one at work in a network namespace.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let lock = folder.lock(PATIENCE).unwrap();
    let nowhere = "unix:/nonexistent/db.sock".parse().unwrap();
    let mut journal = Journal::begin(Direction::Attach, &nowhere, Vec::new()).unwrap();
    let arm = |program: &str, journal: &Journal| {
        watchdog::arm_by(Path::new(program), &folder, journal, NEVER).unwrap_err().to_string()
    };
    assert!(arm(BINARY, &journal).contains("not there, or not open"));
    lock.begin(&journal).unwrap();
    lock.close(&mut journal, JournalState::Undone).unwrap();
    assert!(arm(BINARY, &journal).contains("not there, or not open"));
    assert!(arm("/nonexistent", &journal).contains("start the rollback watchdog"));
    assert!(arm("/bin/true", &journal).contains("it ended without an error message"));
}

#[test]
fn by_hand_it_says_what_it_is() {
    let output = Command::new(BINARY).arg("ovn-k8s-uplink-watchdog").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nics-to-bridge"), "{output:?}");
}
