//! Daemons by their pidfiles and control sockets.

use std::path::Path;
use std::time::Duration;

use host::process::Stat;
use ovs::ovsdb::Remote;
use ovs::paths::Paths;
use ovs::pidfile;
use ovs::unixctl::{Client, UnixctlError};

use super::super::snapshot::{DaemonSnapshot, DaemonsSnapshot};

/// Timeout of a command that a daemon answers without work.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The directories of the switch that this database belongs to: its daemons' sockets are beside the database's.
pub(super) fn paths(db: &Remote) -> Paths {
    let mut paths = Paths::from_env();
    if let Remote::Unix(socket) = db
        && let Some(folder) = socket.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        paths.rundir = folder.to_owned();
    }
    paths
}

/// The switch's two daemons.
pub(super) fn switch(paths: &Paths) -> DaemonsSnapshot {
    let pid = |program: &str| running(&paths.pidfile(program, ""), program);
    DaemonsSnapshot {
        stopped_database: pid("ovsdb-server").filter(|pid| is_stopped(*pid)),
        vswitchd: pid("ovs-vswitchd")
            .map(|pid| daemon(pid, &paths.ctl("ovs-vswitchd", pid), "version", TIMEOUT)),
    }
}

/// The process that a pidfile names, when it runs under that name. A pidfile outlives a daemon that is killed.
pub(super) fn running(pidfile: &Path, program: &str) -> Option<u32> {
    let pid = pidfile::read_pid(pidfile).ok()?;
    is_called(pid, program).then_some(pid)
}

/// Whether a live process has this name, of which the kernel keeps 15 bytes. A zombie does not count.
pub(super) fn is_called(pid: u32, program: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim_end();
    Stat::read(pid).is_some_and(|stat| !stat.has_ended())
        && !name.is_empty()
        && program.starts_with(name)
        && name.len() >= program.len().min(15)
}

/// Whether a signal or a debugger stopped the process.
pub(super) fn is_stopped(pid: u32) -> bool {
    Stat::read(pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}

/// A running daemon with its answer to one command.
pub(super) fn daemon(pid: u32, socket: &Path, command: &str, timeout: Duration) -> DaemonSnapshot {
    let answer = runtime().and_then(|runtime| runtime.block_on(call(socket, command, &[], timeout)));
    DaemonSnapshot { pid, stopped: is_stopped(pid), answer }
}

/// A runtime on the calling thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// One command over a control socket; the timeout includes connecting.
pub(super) async fn call(
    socket: &Path,
    command: &str,
    words: &[&str],
    timeout: Duration,
) -> Result<String, String> {
    let answer = async {
        let client = Client::connect(socket).await?;
        client.with_timeout(timeout).call(command, words).await
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(UnixctlError::Refused(what))) => Err(format!("it refuses: {what}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", timeout.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pidfile_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        assert_eq!(running(&file, "x"), None);
        let own = std::process::id();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        std::fs::write(&file, format!("{own}\n")).unwrap();
        assert_eq!(running(&file, name.trim()), Some(own));
        assert_eq!(running(&file, "ovs-vswitchd"), None, "another process has the number now");
        std::fs::write(&file, "0").unwrap();
        assert_eq!(running(&file, "ovs-vswitchd"), None);
        assert!(!is_stopped(own));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while !Stat::read(child.id()).is_some_and(|stat| stat.has_ended()) {
            std::thread::yield_now();
        }
        assert!(!is_called(child.id(), "true"), "it has ended");
        child.wait().unwrap();
    }

    #[test]
    fn the_directory_is_that_of_the_database() {
        let of = |db: &str| paths(&db.parse().unwrap()).rundir;
        assert_eq!(of("unix:/n1/run/db.sock"), Path::new("/n1/run"));
        assert_eq!(of("tcp:10.0.0.1:6640"), Paths::from_env().rundir);
    }
}
