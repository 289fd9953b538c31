//! An Open vSwitch of a test's own: ovsdb-server and ovs-vswitchd with the dummy datapath, in a directory that goes
//! with it. Needs no privileges and touches nothing of the machine's own switch.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Long enough for any machine; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Switch {
    dir: TempDir,
    database: Child,
    vswitchd: Option<Child>,
}

impl Switch {
    /// Starts both daemons and makes bridge `br0` with ports `p1` and `p2`, whose numbers are 1 and 2.
    pub fn start() -> Switch {
        let dir = tempfile::Builder::new().prefix("of").tempdir().unwrap();
        let path = dir.path();
        let schema =
            ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"]
                .into_iter()
                .find(|path| Path::new(path).exists())
                .expect("Open vSwitch is not installed: apt-get install openvswitch-switch");
        succeed(command(path, "ovsdb-tool").arg("create").arg(path.join("conf.db")).arg(schema));
        let database = command(path, "ovsdb-server")
            .arg(path.join("conf.db"))
            .arg(format!("--remote=punix:{}/db.sock", path.display()))
            .arg(format!("--unixctl={}/ovsdb.ctl", path.display()))
            .arg("--log-file=/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut switch = Switch { dir, database, vswitchd: None };
        switch.until("the database's socket", |switch| switch.path().join("db.sock").exists());
        switch.vsctl(&["--no-wait", "init"]);
        switch.start_vswitchd();
        switch.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=dummy",
            "fail-mode=secure",
        ]);
        for (port, number) in [("p1", "1"), ("p2", "2")] {
            let request = format!("ofport_request={number}");
            switch.vsctl(&["add-port", "br0", port, "--", "set", "interface", port, "type=dummy", &request]);
        }
        switch
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The OpenFlow socket of the bridge.
    pub fn socket(&self) -> PathBuf {
        self.path().join("br0.mgmt")
    }

    /// The address of that socket, as a connection takes it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub fn start_vswitchd(&mut self) {
        let child = command(self.path(), "ovs-vswitchd")
            .arg(format!("unix:{}/db.sock", self.path().display()))
            .args(["--enable-dummy=override", "--disable-system", "--log-file=/dev/null"])
            .arg(format!("--unixctl={}/vswitchd.ctl", self.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.vswitchd = Some(child);
    }

    /// Ends the switch as a crash would.
    pub fn kill_vswitchd(&mut self) {
        if let Some(mut child) = self.vswitchd.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn vsctl(&self, args: &[&str]) {
        let database = format!("--db=unix:{}/db.sock", self.path().display());
        succeed(command(self.path(), "ovs-vsctl").arg(database).arg("--timeout=30").args(args));
    }

    /// What `ovs-ofctl` with OpenFlow 1.4 prints.
    pub fn ofctl(&self, args: &[&str]) -> String {
        succeed(command(self.path(), "ovs-ofctl").args(["-O", "OpenFlow14"]).args(args))
    }

    /// What `ovs-ofctl` with OpenFlow 1.0 prints.
    pub fn ofctl_1_0(&self, args: &[&str]) -> String {
        succeed(command(self.path(), "ovs-ofctl").args(args))
    }

    /// What `ovs-appctl` gets from the switch.
    pub fn vswitchd_ctl(&self, args: &[&str]) -> String {
        let target = format!("--target={}/vswitchd.ctl", self.path().display());
        succeed(command(self.path(), "ovs-appctl").arg(target).args(args))
    }

    /// Waits for something that will happen soon.
    pub fn until(&self, what: &str, happened: impl Fn(&Switch) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in self.vswitchd.iter_mut().chain([&mut self.database]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program of the OVS family that finds its files in the test's directory only.
fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, dir);
    }
    command.current_dir(dir);
    command
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
