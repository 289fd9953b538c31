//! ISC's dhclient: ended without release, started again on the bridge with a copy of its leases (dhclient(8)).
//!
//! It asks for the address it had (INIT-REBOOT, RFC 2131 section 3.2) by the same MAC and identifier. Its script does
//! not prolong the lifetime of an address that is there already until the first renewal, so the address is given one
//! without end before; dhclient itself ends it with the lease.

use std::path::PathBuf;

use super::{Act, Asked, Client, Handover, Manager, Not};

/// Flags that are followed by a value.
const WITH_VALUE: [&str; 14] = [
    "-p",
    "-s",
    "-g",
    "-D",
    "-e",
    "-lf",
    "-pf",
    "-cf",
    "-sf",
    "-df",
    "--prefix-len-hint",
    "--decline-wait-time",
    "--address-prefix-len",
    "--dad-wait-time",
];

/// Flags that say how to start, not what to do.
const HOW: [&str; 6] = ["-d", "-nw", "-w", "-1", "-n", "-q"];

/// A command line of dhclient, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Flags with their values, without those that say how to start, and without lease and pid file.
    flags: Vec<String>,
    leases: Option<PathBuf>,
    pid: Option<PathBuf>,
    pub(super) devices: Vec<String>,
    pub(super) v6: bool,
}

impl Line {
    pub(super) fn read(arguments: &[String]) -> Self {
        let mut line = Self::default();
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let value = if WITH_VALUE.contains(&word.as_str()) { words.next() } else { None };
            match (word.as_str(), value) {
                ("-lf", Some(path)) => line.leases = Some(PathBuf::from(path)),
                ("-pf", Some(path)) => line.pid = Some(PathBuf::from(path)),
                (how, None) if HOW.contains(&how) => {}
                (flag, value) if flag.starts_with('-') => {
                    line.v6 |= flag == "-6";
                    line.flags.push(flag.to_owned());
                    line.flags.extend(value.cloned());
                }
                (device, _) => line.devices.push(device.to_owned()),
            }
        }
        line
    }

    fn leases(&self) -> PathBuf {
        self.leases.clone().unwrap_or_else(|| PathBuf::from("/var/lib/dhcp/dhclient.leases"))
    }

    fn pid(&self) -> PathBuf {
        self.pid.clone().unwrap_or_else(|| PathBuf::from("/run/dhclient.pid"))
    }

    fn command(&self, client: &Client, leases: &PathBuf, pid: &PathBuf, device: &str) -> Vec<String> {
        let mut command = vec![client.program.to_string_lossy().into_owned(), "-nw".to_owned()];
        command.extend(self.flags.iter().cloned());
        for (flag, path) in [("-lf", leases), ("-pf", pid)] {
            command.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
        }
        command.push(device.to_owned());
        command
    }
}

/// Whether a command line is one of dhclient that stays in the foreground.
pub(super) fn stays(arguments: &[String]) -> bool {
    let is_dhclient = arguments.first().is_some_and(|name| name.ends_with("dhclient"));
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next().filter(|_| is_dhclient) {
        if word == "-d" {
            return true;
        }
        if WITH_VALUE.contains(&word.as_str()) {
            words.next();
        }
    }
    false
}

pub(super) fn handover(asked: &Asked<'_>, client: &Client) -> Result<Handover, Not> {
    let line = Line::read(&client.arguments);
    if line.devices.len() != 1 {
        return Err((
            "one process holds the leases of several devices".to_owned(),
            format!("run one dhclient for {} alone", asked.nic),
        ));
    }
    if line.v6 {
        return Err((
            "on its start its script takes all static IPv6 addresses off the device".to_owned(),
            asked.stay(&asked.leased6),
        ));
    }
    let (leases, pid) = (line.leases(), line.pid());
    let (new_leases, new_pid) = (
        leases.with_file_name(format!("dhclient.{}.leases", asked.bridge)),
        pid.with_file_name(format!("dhclient.{}.pid", asked.bridge)),
    );
    let copy = |from: &PathBuf, to: &PathBuf, old: &str, new: &str| Act::CopyLeases {
        from: from.clone(),
        to: to.clone(),
        old: old.to_owned(),
        new: new.to_owned(),
    };
    let mut complete = asked.keep(asked.bridge);
    complete.extend([
        Act::Kill { client: client.clone() },
        copy(&leases, &new_leases, asked.nic, asked.bridge),
        Act::Start { command: line.command(client, &new_leases, &new_pid, asked.bridge), unless: None },
    ]);
    let mut take_back = vec![
        Act::KillByPidFile { path: new_pid, program: "dhclient".to_owned() },
        copy(&new_leases, &leases, asked.bridge, asked.nic),
    ];
    take_back.extend(asked.keep(asked.nic));
    // Whoever starts it again has done so.
    if client.supervisor.is_none() {
        take_back.push(Act::Start {
            command: line.command(client, &leases, &pid, asked.nic),
            unless: Some(client.clone()),
        });
    }
    Ok(Handover { complete, take_back, ..asked.with(Manager::Dhclient) })
}
