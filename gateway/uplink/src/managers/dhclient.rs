//! ISC's dhclient: killed without release, started on the bridge with a copy of its leases (dhclient(8)).
//!
//! It requests its previous address (INIT-REBOOT, RFC 2131 section 3.2) with the same MAC and client identifier. Before
//! the first renewal its script does not extend the lifetime of an existing address, so the address gets an unlimited
//! lifetime first; dhclient itself removes it when the lease ends.

use std::path::PathBuf;

use super::{Act, Client, Handover, HandoverRequest, Impossible, Manager};

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

/// Flags about how to start.
const START_FLAGS: [&str; 6] = ["-d", "-nw", "-w", "-1", "-n", "-q"];

/// A parsed command line of dhclient.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// Flags with their values, without those about the start, lease file and pidfile.
    flags: Vec<String>,
    leases: Option<PathBuf>,
    pid: Option<PathBuf>,
    pub(super) devices: Vec<String>,
    pub(super) v6: bool,
}

impl CommandLine {
    pub(super) fn read(arguments: &[String]) -> Self {
        let mut line = Self::default();
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let value = if WITH_VALUE.contains(&word.as_str()) { words.next() } else { None };
            match (word.as_str(), value) {
                ("-lf", Some(path)) => line.leases = Some(PathBuf::from(path)),
                ("-pf", Some(path)) => line.pid = Some(PathBuf::from(path)),
                (flag, None) if START_FLAGS.contains(&flag) => {}
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

/// Whether a command line is one of dhclient in the foreground.
pub(super) fn is_foreground(arguments: &[String]) -> bool {
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

pub(super) fn handover(request: &HandoverRequest<'_>, client: &Client) -> Result<Handover, Impossible> {
    let line = CommandLine::read(&client.arguments);
    if line.devices.len() != 1 {
        return Err((
            "one process holds the leases of several devices".to_owned(),
            format!("run one dhclient for {} alone", request.nic),
        ));
    }
    if line.v6 {
        return Err((
            "its script removes all static IPv6 addresses from the device at the start".to_owned(),
            request.make_static(&request.leased6),
        ));
    }
    let (leases, pid) = (line.leases(), line.pid());
    let (new_leases, new_pid) = (
        leases.with_file_name(format!("dhclient.{}.leases", request.bridge)),
        pid.with_file_name(format!("dhclient.{}.pid", request.bridge)),
    );
    let copy = |from: &PathBuf, to: &PathBuf, old: &str, new: &str| Act::CopyLeases {
        from: from.clone(),
        to: to.clone(),
        old: old.to_owned(),
        new: new.to_owned(),
    };
    let mut complete = request.keep(request.bridge);
    complete.extend([
        Act::Kill { client: client.clone() },
        copy(&leases, &new_leases, request.nic, request.bridge),
        Act::Start { command: line.command(client, &new_leases, &new_pid, request.bridge), unless: None },
    ]);
    let mut take_back = vec![
        Act::KillByPidFile { path: new_pid, program: "dhclient".to_owned() },
        copy(&new_leases, &leases, request.bridge, request.nic),
    ];
    take_back.extend(request.keep(request.nic));
    // A supervisor has restarted it already.
    if client.supervisor.is_none() {
        take_back.push(Act::Start {
            command: line.command(client, &leases, &pid, request.nic),
            unless: Some(client.clone()),
        });
    }
    Ok(Handover { complete, take_back, ..request.with(Manager::Dhclient) })
}
