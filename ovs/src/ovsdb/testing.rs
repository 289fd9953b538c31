//! Real ovsdb-servers in private directories, for tests. They end with the value, also after a panic.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Backoff, Config, Db, MonitorTable, Remote, Status};

pub(crate) const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
pub(crate) const NB_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Bound for anything a test waits for; reached only when it is broken.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One ovsdb-server, running or not.
pub(crate) struct Server {
    dir: PathBuf,
    name: String,
    /// More `--remote` and other options.
    pub(crate) options: Vec<String>,
    child: Option<Child>,
    _owned: Option<TempDir>,
}

impl Server {
    /// A server of a fresh database, listening on a unix socket.
    pub(crate) fn standalone(schema: &str) -> Self {
        let mut server = Self::stopped(schema);
        server.start();
        server
    }

    /// The same, not started.
    pub(crate) fn stopped(schema: &str) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let mut server = Self::in_directory(owned.path(), "db");
        tool("ovsdb-tool", &["create", &server.path("db"), schema]);
        server._owned = Some(owned);
        server
    }

    /// A member of a cluster whose database file `NAME.db` was made before.
    pub(crate) fn in_directory(dir: &Path, name: &str) -> Self {
        Self { dir: dir.to_owned(), name: name.to_owned(), options: Vec::new(), child: None, _owned: None }
    }

    pub(crate) fn path(&self, extension: &str) -> String {
        self.dir.join(format!("{}.{extension}", self.name)).display().to_string()
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::unix(self.path("sock"))
    }

    pub(crate) fn start(&mut self) {
        let listeners = [self.path("sock"), self.path("ctl")];
        listeners.iter().for_each(|path| _ = std::fs::remove_file(path));
        let child = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", self.path("sock")))
            .arg(format!("--unixctl={}", self.path("ctl")))
            .arg(format!("--log-file={}", self.path("log")))
            .args(["-vconsole:off", "-vsyslog:off"])
            .args(&self.options)
            .arg(self.path("db"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server is installed");
        self.child = Some(child);
        let answers = |path: &String| std::os::unix::net::UnixStream::connect(path).is_ok();
        until("the server listens", || listeners.iter().all(answers));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Runs a command of the OVS tools against this server.
    pub(crate) fn ctl(&self, tool_name: &str, arguments: &[&str]) -> String {
        let db = format!("--db={}", self.remote());
        let mut all = vec![db.as_str(), "--timeout=20"];
        if tool_name == "ovs-vsctl" {
            all.push("--no-wait");
        }
        tool(tool_name, &[&all[..], arguments].concat())
    }

    pub(crate) fn appctl(&self, arguments: &[&str]) -> String {
        self.try_appctl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_appctl(&self, arguments: &[&str]) -> Result<String, String> {
        let target = self.path("ctl");
        try_tool("ovs-appctl", &[&["-t", &target, "-T", "20"], arguments].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a tool to its end and gives what it prints.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> String {
    try_tool(name, arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn try_tool(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() {
        true => Ok(out.trim().to_owned()),
        false => Err(format!("{name} {arguments:?}: {out}{err}")),
    }
}

/// A configuration that does not wait long between attempts.
pub(crate) fn config(remotes: &[Remote], database: &str, monitors: Vec<MonitorTable>) -> Config {
    let backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(160) };
    Config { monitors, backoff, ..Config::new(remotes.to_vec(), database) }
}

/// Waits for something outside of our tasks.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the handle shows something; checks again after each change it reports.
pub(crate) async fn until_db(db: &Db, what: &str, mut holds: impl FnMut(&Db, &Status) -> bool) {
    let mut changes = db.subscribe();
    let look = async {
        loop {
            let status = changes.borrow_and_update().clone();
            if holds(db, &status) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    if tokio::time::timeout(TIMEOUT, look).await.is_err() {
        panic!("waited in vain: {what}; {:?}", db.status());
    }
}

/// A bound for a future that must end.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
