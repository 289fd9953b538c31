//! The machine that runs OVN's northbound and southbound databases and ovn-northd.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    address::{self, mac, mac_text},
    identity::Identity,
    netns::Namespace,
    process::{Program, Register, RunningProgram, wait_until},
    world::{World, interfaces},
};

/// OVN central: databases at tcp 6641 (northbound) and 6642 (southbound) of 172.18.0.2.
#[derive(Debug)]
pub struct Central {
    _daemons: [RunningProgram; 3],
    dir: PathBuf,
    namespace: Namespace,
}

impl Central {
    /// Starts the databases and northd.
    pub(super) fn start(identity: &Identity, world: &World) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-cen", identity.name()))?;
        world.plug(&namespace, "central", &mac_text(mac(0xac, 0, 20)))?;
        namespace.ip(interfaces(&[("eth0", 24, &[address::central()])]))?;
        let dir = identity.dir().join("cen");
        std::fs::create_dir_all(&dir)?;
        let register = identity.register();
        let north = database(&dir, "nb", "/usr/share/ovn/ovn-nb.ovsschema", 6641, &namespace, &register)?;
        let south = database(&dir, "sb", "/usr/share/ovn/ovn-sb.ovsschema", 6642, &namespace, &register)?;
        let northd = Program::new("ovn-northd")
            .args([
                format!("--ovnnb-db=unix:{}/nb.sock", dir.display()),
                format!("--ovnsb-db=unix:{}/sb.sock", dir.display()),
                "-vconsole:off".to_owned(),
                format!("--unixctl={}/northd.ctl", dir.display()),
                format!("--pidfile={}/northd.pid", dir.display()),
                format!("--log-file={}/northd.log", dir.display()),
                "--no-chdir".to_owned(),
            ])
            .inside(&namespace)
            .hold(&dir.join("northd.out"), &register)?;
        Ok(Self { _daemons: [northd, south, north], dir, namespace })
    }

    /// Its folder: databases, sockets, logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// `ovn-nbctl` with these words; `--` separates commands of one transaction.
    pub fn nbctl<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        Program::new("ovn-nbctl").arg(format!("--db=unix:{}/nb.sock", self.dir.display())).args(words).run()
    }

    /// `ovn-sbctl` with these words.
    pub fn sbctl<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        Program::new("ovn-sbctl").arg(format!("--db=unix:{}/sb.sock", self.dir.display())).args(words).run()
    }

    /// Waits until every chassis has taken up what the northbound database says now.
    pub fn settle(&self) -> Result<()> {
        self.nbctl(["--timeout=30", "--wait=hv", "sync"]).map(drop)
    }
}

fn database(
    dir: &Path,
    name: &str,
    schema: &str,
    port: u16,
    namespace: &Namespace,
    register: &Register,
) -> Result<RunningProgram> {
    let file = |suffix: &str| format!("{}/{name}.{suffix}", dir.display());
    Program::new("ovsdb-tool").args(["create", &file("db"), schema]).run()?;
    let mut server = Program::new("ovsdb-server")
        .args([
            file("db"),
            format!("--remote=punix:{}", file("sock")),
            format!("--remote=ptcp:{port}:{}", address::central().v4),
            "-vconsole:off".to_owned(),
            format!("--unixctl={}", file("ctl")),
            format!("--pidfile={}", file("pid")),
            format!("--log-file={}", file("log")),
            "--no-chdir".to_owned(),
        ])
        .inside(namespace)
        .hold(&dir.join(format!("{name}.out")), register)?;
    let socket = file("sock");
    wait_until(&format!("{socket} to answer"), || {
        server.expect_alive()?;
        Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok())
    })?;
    Ok(server)
}
