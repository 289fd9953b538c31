//! Whether a DHCP client is restarted when it ends: by systemd, a supervisor, a loop in a shell.
//!
//! The handover of such a client does not last: besides the client on the bridge, a new one starts on the NIC and puts the
//! address there. Two facts show a supervisor: the process is the main one of a systemd unit, or it runs in the
//! foreground, and then its parent started it. A daemonized client has lost that parent; a supervisor that watches only
//! its pidfile is not detected.

use std::path::Path;
use std::time::Duration;

use host::process::Stat;
use host::regular_file;

use super::{Supervisor, dhclient, udhcpc};
use crate::command::Runner;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientProcess {
    /// Its process id.
    pub pid: u32,
    /// It runs in the foreground.
    pub foreground: bool,
    /// Its parent's process id and name.
    pub parent: Option<(u32, String)>,
    /// The service it belongs to.
    pub unit: Option<String>,
    /// Properties of that service, as `systemctl show` prints them: lines `Key=value`.
    pub unit_properties: String,
}

impl ClientProcess {
    pub(super) fn supervisor(&self) -> Option<Supervisor> {
        self.by_unit().or_else(|| self.by_parent())
    }

    /// A unit that systemd restarts when its main process ends.
    fn by_unit(&self) -> Option<Supervisor> {
        let unit = self.unit.as_deref()?;
        let value = |key: &str| {
            self.unit_properties.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let is_main = value("MainPID") == Some(self.pid.to_string().as_str());
        let restart = value("Restart").filter(|how| !how.is_empty() && *how != "no")?;
        is_main.then(|| Supervisor {
            name: format!("systemd ({unit}, Restart={restart})"),
            remedy: format!(
                "turn off its restart (`systemctl edit {unit}`: Restart=no below [Service]), then run this again"
            ),
        })
    }

    /// Its parent: a client in the foreground has a parent that waits for its end.
    fn by_parent(&self) -> Option<Supervisor> {
        let (pid, name) = self.parent.as_ref().filter(|_| self.foreground)?;
        // PID 1 or the manager of a user's session: it adopts orphans.
        if *pid <= 1 || ["systemd", "init"].contains(&name.as_str()) {
            return None;
        }
        let within = self.unit.as_ref().map(|unit| format!(" of {unit}")).unwrap_or_default();
        let remedy = match (name.as_str(), &self.unit) {
            ("runsv", _) => "`sv once` for its service, so that it is not restarted, then --force".to_owned(),
            ("s6-supervise", _) => {
                "`s6-svc -O` for its service, so that it is not restarted, then --force".to_owned()
            }
            (_, Some(unit)) => {
                format!("stop {unit} and start the client by itself, in the background, then run this again")
            }
            (_, None) => format!(
                "kill only {name} (`kill -9 {pid}`), not the client, or start the client in the background; then run this again"
            ),
        };
        Some(Supervisor { name: format!("{name} (pid {pid}{within}), its parent"), remedy })
    }
}

/// Observes a client's process.
pub(super) fn client_process(
    root: &Path,
    pid: u32,
    arguments: &[String],
    runner: &mut dyn Runner,
) -> ClientProcess {
    let folder = root.join("proc").join(pid.to_string());
    let text = |file: &str| regular_file::read_text(&folder.join(file)).unwrap_or_default();
    let parent = parent(root, &folder);
    let unit = unit_of(&text("cgroup"));
    let unit_properties = unit.as_ref().map(|unit| unit_properties(unit, runner)).unwrap_or_default();
    let foreground = dhclient::is_foreground(arguments) || udhcpc::is_foreground(arguments);
    ClientProcess { pid, foreground, parent, unit, unit_properties }
}

/// The parent's process id and name, from the process's folder in /proc.
pub(super) fn parent(root: &Path, folder: &Path) -> Option<(u32, String)> {
    let pid = Stat::parse(&regular_file::read_text(&folder.join("stat")).ok()?)?.parent;
    let name = regular_file::read_text(&root.join(format!("proc/{pid}/comm"))).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

fn unit_properties(unit: &str, runner: &mut dyn Runner) -> String {
    let command = ["systemctl", "show", "--property=MainPID", "--property=Restart", "--", unit];
    // Without systemd only the parent is known.
    runner.run(&command.map(str::to_owned), PATIENCE).map(|answer| answer.output).unwrap_or_default()
}

/// The service of a process by its control groups (cgroups(7)): in the unified hierarchy, or in systemd's of cgroup v1.
fn unit_of(cgroup: &str) -> Option<String> {
    let path = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        (hierarchy == "0" || controllers == "name=systemd").then(|| path.to_owned())
    };
    let paths: Vec<_> = cgroup.lines().filter_map(path).collect();
    // The innermost: a service may have groups below its own.
    let service = |path: &String| {
        let unit =
            path.rsplit('/').find(|part| [".service", ".scope"].iter().any(|end| part.ends_with(end)))?;
        unit.ends_with(".service").then(|| unit.to_owned())
    };
    paths.iter().find_map(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(
        foreground: bool,
        parent: (u32, &str),
        unit: Option<&str>,
        properties: &str,
    ) -> Option<Supervisor> {
        let parent = Some((parent.0, parent.1.to_owned()));
        let (unit, unit_properties) = (unit.map(str::to_owned), properties.to_owned());
        ClientProcess { pid: 700, foreground, parent, unit, unit_properties }.supervisor()
    }

    #[test]
    fn a_unit_with_restart_or_a_parent_in_the_foreground_is_a_supervisor() {
        let unit = Some("dhclient@eth0.service");
        for (what, foreground, parent, unit, properties, name) in [
            ("on its own", false, (1, "systemd"), None, "", None),
            (
                "of ifupdown",
                false,
                (1, "systemd"),
                Some("networking.service"),
                "MainPID=0\nRestart=no\n",
                None,
            ),
            (
                "started over SSH",
                false,
                (1, "init"),
                Some("ssh.service"),
                "MainPID=612\nRestart=on-failure\n",
                None,
            ),
            (
                "a unit's",
                true,
                (1, "systemd"),
                unit,
                "Restart=always\nMainPID=700\n",
                Some("dhclient@eth0.service, Restart=always"),
            ),
            (
                "a forking unit's",
                false,
                (1, "systemd"),
                unit,
                "MainPID=700\nRestart=on-failure\n",
                Some("Restart=on-failure"),
            ),
            (
                "a unit's that is not started again",
                true,
                (1, "systemd"),
                unit,
                "MainPID=700\nRestart=no\n",
                None,
            ),
            ("systemd does not answer", true, (1, "systemd"), unit, "", None),
            ("a shell loop's", true, (650, "sh"), None, "", Some("sh (pid 650)")),
            (
                "a loop's within a unit",
                true,
                (650, "sh"),
                unit,
                "MainPID=650\nRestart=no\n",
                Some("sh (pid 650 of dhclient@eth0.service)"),
            ),
            ("runit's", true, (650, "runsv"), None, "", Some("runsv (pid 650)")),
            ("an orphan of a session", true, (650, "systemd"), None, "", None),
            ("in the background of a subreaper", false, (650, "tini"), None, "", None),
        ] {
            let found = supervisor(foreground, parent, unit, properties);
            assert_eq!(found.is_some(), name.is_some(), "{what}: {found:?}");
            assert!(
                found.is_none_or(|it| it.name.contains(name.unwrap_or_default()) && !it.remedy.is_empty()),
                "{what}"
            );
        }
    }

    #[test]
    fn the_service_is_read_from_the_control_groups() {
        for (cgroup, unit) in [
            ("0::/system.slice/dhclient@eth0.service\n", Some("dhclient@eth0.service")),
            (
                "0::/system.slice/system-dhclient.slice/dhclient@eth0.service/payload\n",
                Some("dhclient@eth0.service"),
            ),
            ("12:pids:/x\n1:name=systemd:/system.slice/udhcpc.service\n0::/\n", Some("udhcpc.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/user.slice/user-0.slice/user@0.service/tmux-spawn-1.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(cgroup).as_deref(), unit, "{cgroup}");
        }
    }

    #[test]
    fn foreground_flags_of_dhclient_and_udhcpc() {
        let is_foreground = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            dhclient::is_foreground(&words) || udhcpc::is_foreground(&words)
        };
        for line in [
            "udhcpc -f -i eth0",
            "/bin/busybox udhcpc -i eth0 --foreground",
            "udhcpc -fi eth0",
            "udhcpc -Rf -ieth0",
            "dhclient -d eth0",
            "/sbin/dhclient -4 -d -lf /x eth0",
        ] {
            assert!(is_foreground(line), "{line}");
        }
        for line in [
            "udhcpc -b -i eth0",
            "udhcpc -i if0",
            "udhcpc -iff0",
            "dhclient -nw eth0",
            "dhclient -lf -d eth0",
        ] {
            assert!(!is_foreground(line), "{line}");
        }
    }
}
