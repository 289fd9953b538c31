//! Where the tools of Open vSwitch and OVN keep their sockets, pidfiles and logs.
//!
//! Each directory is the one its environment variable names, else the packaged default, so that several nodes
//! can live on one machine (ovs-vswitchd(8), ovn-nbctl(8), "ENVIRONMENT"). Nothing here touches the disk but
//! [`Paths::from_env`], which looks whether OVS was installed under `/usr` or `/usr/local`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of one installation, or of one node of several on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Sockets and pidfiles of OVS: `OVS_RUNDIR`, else `/var/run/openvswitch`.
    pub rundir: PathBuf,
    /// Logs: `OVS_LOGDIR`, else `/var/log/openvswitch`.
    pub logdir: PathBuf,
    /// Databases of OVS: `OVS_DBDIR`, else `<sysconfdir>/openvswitch`.
    pub dbdir: PathBuf,
    /// Settings: `OVS_SYSCONFDIR`, else `/etc`.
    pub sysconfdir: PathBuf,
    /// Sockets and pidfiles of OVN: `OVN_RUNDIR`, else `/var/run/ovn`.
    pub ovn_rundir: PathBuf,
}

impl Paths {
    /// The directories that the environment names.
    pub fn from_env() -> Self {
        let local =
            !Path::new("/usr/bin/ovs-vsctl").exists() && Path::new("/usr/local/bin/ovs-vsctl").exists();
        Self::from_lookup(|name| std::env::var_os(name), if local { "/usr/local" } else { "" })
    }

    /// The same with the environment as an argument; `prefix` goes before each default under `/var`.
    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, prefix: &str) -> Self {
        let named = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let or =
            |name: &str, default: &str| named(name).unwrap_or_else(|| format!("{prefix}{default}").into());
        let sysconfdir = named("OVS_SYSCONFDIR").unwrap_or_else(|| format!("{prefix}/etc").into());
        Self {
            rundir: or("OVS_RUNDIR", "/var/run/openvswitch"),
            logdir: or("OVS_LOGDIR", "/var/log/openvswitch"),
            dbdir: named("OVS_DBDIR").unwrap_or_else(|| sysconfdir.join("openvswitch")),
            ovn_rundir: or("OVN_RUNDIR", "/var/run/ovn"),
            sysconfdir,
        }
    }

    /// The socket of the local `Open_vSwitch` database, as ovs-vsctl finds it.
    pub fn db_sock(&self) -> PathBuf {
        self.rundir.join("db.sock")
    }

    /// The OpenFlow socket on which ovs-vswitchd lets a bridge be managed.
    pub fn bridge_mgmt(&self, bridge: &str) -> PathBuf {
        self.rundir.join(format!("{bridge}.mgmt"))
    }

    /// The socket of the northbound database on this machine, as ovn-nbctl finds it. An OVN from before its
    /// split from OVS kept it in the rundir of OVS: that one is named when it alone is there.
    pub fn nb_sock(&self) -> PathBuf {
        let own = self.ovn_rundir.join("ovnnb_db.sock");
        let old = self.rundir.join("ovnnb_db.sock");
        if !own.exists() && old.exists() { old } else { own }
    }

    /// A pidfile: `name` under the rundir unless it is an absolute path; `<program>.pid` when it is empty.
    pub fn pidfile(&self, program: &str, name: &str) -> PathBuf {
        match name {
            "" => self.rundir.join(format!("{program}.pid")),
            name => self.rundir.join(name),
        }
    }

    /// A log file: `name` under the logdir unless it is an absolute path; `<program>.log` when it is empty.
    pub fn log_file(&self, program: &str, name: &str) -> PathBuf {
        match name {
            "" => self.logdir.join(format!("{program}.log")),
            name => self.logdir.join(name),
        }
    }

    /// The control socket of a running daemon, where ovs-appctl looks for it.
    pub fn ctl(&self, program: &str, pid: u32) -> PathBuf {
        self.rundir.join(format!("{program}.{pid}.ctl"))
    }

    /// The settings file shared by all programs: `<sysconfdir>/openvswitch/ovn_k8s.conf`.
    pub fn ovn_k8s_conf(&self) -> PathBuf {
        self.sysconfdir.join("openvswitch/ovn_k8s.conf")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Paths {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.to_string(), OsString::from(v))).collect();
        Paths::from_lookup(
            |name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
            "",
        )
    }

    #[test]
    fn defaults_are_those_of_the_packages() {
        let paths = with(&[]);
        assert_eq!(paths.db_sock(), Path::new("/var/run/openvswitch/db.sock"));
        assert_eq!(paths.bridge_mgmt("breth0"), Path::new("/var/run/openvswitch/breth0.mgmt"));
        assert_eq!(paths.dbdir, Path::new("/etc/openvswitch"));
        assert_eq!(paths.ovn_k8s_conf(), Path::new("/etc/openvswitch/ovn_k8s.conf"));
        assert_eq!(paths.log_file("x", ""), Path::new("/var/log/openvswitch/x.log"));
        assert_eq!(paths.ctl("x", 7), Path::new("/var/run/openvswitch/x.7.ctl"));
    }

    #[test]
    fn the_environment_names_another_node() {
        let paths = with(&[("OVS_RUNDIR", "/n1/run"), ("OVN_RUNDIR", "/n1/ovn"), ("OVS_LOGDIR", "")]);
        assert_eq!(paths.db_sock(), Path::new("/n1/run/db.sock"));
        assert_eq!(paths.nb_sock(), Path::new("/n1/ovn/ovnnb_db.sock"));
        assert_eq!(paths.logdir, Path::new("/var/log/openvswitch"), "an empty variable counts as unset");
        assert_eq!(with(&[("OVS_SYSCONFDIR", "/n1/etc")]).dbdir, Path::new("/n1/etc/openvswitch"));
    }

    #[test]
    fn names_of_files_are_relative_to_their_directory() {
        let paths = with(&[("OVS_RUNDIR", "/r")]);
        assert_eq!(paths.pidfile("p", ""), Path::new("/r/p.pid"));
        assert_eq!(paths.pidfile("p", "q.pid"), Path::new("/r/q.pid"));
        assert_eq!(paths.pidfile("p", "/abs/q.pid"), Path::new("/abs/q.pid"));
    }

    #[test]
    fn the_older_place_of_the_northbound_socket_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("ovnnb_db.sock"), "").unwrap();
        let paths = with(&[("OVS_RUNDIR", run.to_str().unwrap()), ("OVN_RUNDIR", "/nowhere")]);
        assert_eq!(paths.nb_sock(), run.join("ovnnb_db.sock"));
    }
}
