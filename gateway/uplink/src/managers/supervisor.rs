//! Whether somebody starts a DHCP client again when it ends: systemd, a supervisor, a loop in a shell.
//!
//! Such a client cannot be handed over: the one on the bridge goes on, but another comes to life on the NIC and puts its
//! address there. Two things tell: systemd says of which unit a process is the main one, and a client that stays in the
//! foreground has its starter for a parent. One that went into the background has left its starter behind, and whoever
//! watches its pid file alone cannot be seen.

use std::path::Path;
use std::time::Duration;

use host::process::Stat;
use host::regular_file;

use super::{Supervisor, dhclient, udhcpc};
use crate::command::Runner;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a client's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its process id.
    pub pid: u32,
    /// It stays in the foreground.
    pub foreground: bool,
    /// Its parent, and that one's name.
    pub parent: Option<(u32, String)>,
    /// The service it belongs to.
    pub unit: Option<String>,
    /// What systemd says of that: `Key=value` lines.
    pub said: String,
}

impl Standing {
    pub(super) fn supervisor(&self) -> Option<Supervisor> {
        self.by_unit().or_else(|| self.by_parent())
    }

    /// A unit that is started again when its main process ends.
    fn by_unit(&self) -> Option<Supervisor> {
        let unit = self.unit.as_deref()?;
        let value = |key: &str| self.said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let is_main = value("MainPID") == Some(self.pid.to_string().as_str());
        let restart = value("Restart").filter(|how| !how.is_empty() && *how != "no")?;
        is_main.then(|| Supervisor {
            who: format!("systemd ({unit}, Restart={restart})"),
            remedy: format!(
                "have systemd leave it ended (`systemctl edit {unit}`: Restart=no below [Service]), then run this again"
            ),
        })
    }

    /// What it runs below: whoever does not mean to start it again would have sent it into the background.
    fn by_parent(&self) -> Option<Supervisor> {
        let (pid, name) = self.parent.as_ref().filter(|_| self.foreground)?;
        // PID 1, or the manager of a user's session, to which orphans fall.
        if *pid <= 1 || ["systemd", "init"].contains(&name.as_str()) {
            return None;
        }
        let within = self.unit.as_ref().map(|unit| format!(" of {unit}")).unwrap_or_default();
        let remedy = match (name.as_str(), &self.unit) {
            ("runsv", _) => {
                "`sv once` its service, so that it is not started again, and then --force".to_owned()
            }
            ("s6-supervise", _) => {
                "`s6-svc -O` its service, so that it is not started again, and then --force".to_owned()
            }
            (_, Some(unit)) => {
                format!("stop {unit} and start the client by itself, in the background, then run this again")
            }
            (_, None) => format!(
                "end {name} and leave the client alone (`kill -9 {pid}`), or start the client in the background; then run this again"
            ),
        };
        Some(Supervisor {
            who: format!("{name} (pid {pid}{within}), below which it runs in the foreground"),
            remedy,
        })
    }
}

/// What there is to know of a client.
pub(super) fn standing(root: &Path, pid: u32, arguments: &[String], runner: &mut dyn Runner) -> Standing {
    let folder = root.join("proc").join(pid.to_string());
    let text = |file: &str| regular_file::read_text(&folder.join(file)).unwrap_or_default();
    let parent = parent(root, &folder);
    let unit = unit_of(&text("cgroup"));
    let said = unit.as_ref().map(|unit| ask(unit, runner)).unwrap_or_default();
    let foreground = dhclient::stays(arguments) || udhcpc::stays(arguments);
    Standing { pid, foreground, parent, unit, said }
}

/// A process's parent and that one's name, by the process's folder.
pub(super) fn parent(root: &Path, folder: &Path) -> Option<(u32, String)> {
    let pid = Stat::parse(&regular_file::read_text(&folder.join("stat")).ok()?)?.parent;
    let name = regular_file::read_text(&root.join(format!("proc/{pid}/comm"))).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

fn ask(unit: &str, runner: &mut dyn Runner) -> String {
    let command = ["systemctl", "show", "--property=MainPID", "--property=Restart", "--", unit];
    // Without systemd nobody but the parent can be asked.
    runner.run(&command.map(str::to_owned), PATIENCE).map(|answer| answer.output).unwrap_or_default()
}

/// The service of a process by its control groups (cgroups(7)): the unified hierarchy's, or systemd's own of before.
fn unit_of(cgroup: &str) -> Option<String> {
    let path = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        (hierarchy == "0" || controllers == "name=systemd").then(|| path.to_owned())
    };
    let paths: Vec<_> = cgroup.lines().filter_map(path).collect();
    // The innermost: a service may keep groups below its own.
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

    fn standing(foreground: bool, parent: (u32, &str), unit: Option<&str>, said: &str) -> Option<Supervisor> {
        let parent = Some((parent.0, parent.1.to_owned()));
        let (unit, said) = (unit.map(str::to_owned), said.to_owned());
        Standing { pid: 700, foreground, parent, unit, said }.supervisor()
    }

    #[test]
    fn who_starts_it_again() {
        let unit = Some("dhclient@eth0.service");
        for (what, foreground, parent, unit, said, who) in [
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
            ("a loop's", true, (650, "sh"), None, "", Some("sh (pid 650)")),
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
            let found = standing(foreground, parent, unit, said);
            assert_eq!(found.is_some(), who.is_some(), "{what}: {found:?}");
            assert!(
                found.is_none_or(|it| it.who.contains(who.unwrap_or_default()) && !it.remedy.is_empty()),
                "{what}"
            );
        }
    }

    #[test]
    fn units_of_control_groups() {
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
    fn which_clients_stay_in_the_foreground() {
        let stays = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            dhclient::stays(&words) || udhcpc::stays(&words)
        };
        for line in [
            "udhcpc -f -i eth0",
            "/bin/busybox udhcpc -i eth0 --foreground",
            "udhcpc -fi eth0",
            "udhcpc -Rf -ieth0",
            "dhclient -d eth0",
            "/sbin/dhclient -4 -d -lf /x eth0",
        ] {
            assert!(stays(line), "{line}");
        }
        for line in [
            "udhcpc -b -i eth0",
            "udhcpc -i if0",
            "udhcpc -iff0",
            "dhclient -nw eth0",
            "dhclient -lf -d eth0",
        ] {
            assert!(!stays(line), "{line}");
        }
    }
}
