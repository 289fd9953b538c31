//! Detects the network managers and DHCP clients of a NIC, by their files and processes.

use std::fs;
use std::path::{Path, PathBuf};

use host::regular_file;

use super::{Client, Details, DetectedManager, Manager, dhclient, supervisor, udhcpc};
use crate::command::System;

/// DHCP clients that cannot be handed over.
const OTHER_CLIENTS: [&str; 5] = ["dhcpcd", "dhcp6c", "odhcp6c", "wickedd-dhcp4", "wickedd-dhcp6"];

/// The managers of these NICs (name and index); files are below `root`.
#[must_use]
pub(crate) fn detect(root: &Path, nics: &[(String, u32)]) -> Vec<DetectedManager> {
    let mut found = Vec::new();
    let processes = clients(root);
    for (nic, index) in nics {
        found.extend(networkd(root, nic, *index));
        found.extend(network_manager(root, nic, *index));
        found.extend(ifupdown(root, nic));
        found.extend(netplan(root, nic));
        found.extend(processes.iter().filter_map(|client| of_client(client, nic)));
    }
    found
}

/// systemd-networkd has a state file for each link (`networkctl status` reads it, too).
fn networkd(root: &Path, nic: &str, index: u32) -> Option<DetectedManager> {
    let state = read(root, &format!("run/systemd/netif/links/{index}"))?;
    let value = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("ADMIN_STATE")
        .is_none_or(|state| ["unmanaged", "linger", "initialized", "pending"].contains(&state))
    {
        return None;
    }
    let file = value("NETWORK_FILE")?;
    let mut content = read(root, file)?;
    for more in
        value("NETWORK_FILE_DROPINS").unwrap_or_default().split([' ', ':']).filter(|path| !path.is_empty())
    {
        content += "\n";
        content += &read(root, more.trim_matches('"')).unwrap_or_default();
    }
    let lease = read(root, &format!("run/systemd/netif/leases/{index}")).unwrap_or_default();
    let client_id = lease.lines().find_map(|line| line.strip_prefix("CLIENTID=")).map(str::to_owned);
    Some(DetectedManager {
        manager: Manager::Networkd,
        nic: nic.to_owned(),
        evidence: file.to_owned(),
        details: Details::Configuration { content, client_id },
    })
}

fn network_manager(root: &Path, nic: &str, index: u32) -> Option<DetectedManager> {
    let state = read(root, &format!("run/NetworkManager/devices/{index}"))?;
    let managed = state.lines().any(|line| ["managed=true", "managed=1"].contains(&line.trim()));
    let connection = state.lines().find_map(|line| line.strip_prefix("connection-uuid="));
    let connection = connection.filter(|_| managed)?;
    Some(DetectedManager {
        manager: Manager::NetworkManager,
        nic: nic.to_owned(),
        evidence: format!("connection {connection}"),
        details: Details::Configuration { content: state.clone(), client_id: None },
    })
}

fn ifupdown(root: &Path, nic: &str) -> Option<DetectedManager> {
    let mut files = vec![PathBuf::from("etc/network/interfaces")];
    let folder = root.join("etc/network/interfaces.d");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    files.extend(entries.map(|entry| PathBuf::from("etc/network/interfaces.d").join(entry.file_name())));
    files.sort();
    for file in files {
        let content = read(root, &file.to_string_lossy()).unwrap_or_default();
        let names = content.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some("iface") && words.next() == Some(nic)
        });
        if names {
            return Some(DetectedManager {
                manager: Manager::Ifupdown,
                nic: nic.to_owned(),
                evidence: format!("/{}", file.display()),
                details: Details::Configuration { content, client_id: None },
            });
        }
    }
    None
}

fn netplan(root: &Path, nic: &str) -> Option<DetectedManager> {
    let entries = fs::read_dir(root.join("etc/netplan")).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for file in
        files.into_iter().filter(|path| path.extension().is_some_and(|it| it == "yaml" || it == "yml"))
    {
        let content = regular_file::read_text(&file).unwrap_or_default();
        let names = content.lines().any(|line| {
            let word = line.trim().trim_end_matches(':').trim_matches(['"', '\'']);
            line.trim_end().ends_with(':') && word == nic
        });
        if names {
            let file = file.strip_prefix(root).unwrap_or(&file);
            return Some(DetectedManager {
                manager: Manager::Netplan,
                nic: nic.to_owned(),
                evidence: format!("/{}", file.display()),
                details: Details::Configuration { content, client_id: None },
            });
        }
    }
    None
}

fn of_client(client: &Client, nic: &str) -> Option<DetectedManager> {
    let name = client.program.file_name()?.to_string_lossy().into_owned();
    let called = client.arguments.first().map(String::as_str).unwrap_or_default();
    let found = |manager, details| DetectedManager {
        manager,
        nic: nic.to_owned(),
        evidence: format!("{} (pid {})", client.arguments.join(" "), client.pid),
        details,
    };
    if name == "dhclient" {
        let line = dhclient::CommandLine::read(&client.arguments);
        // Without a device argument it serves all devices.
        let mine = line.devices.is_empty() || line.devices.iter().any(|device| device == nic);
        return mine.then(|| found(Manager::Dhclient, Details::Process(client.clone())));
    }
    let is_udhcpc = called.ends_with("udhcpc")
        || (name.starts_with("busybox") && client.arguments.get(1).is_some_and(|word| word == "udhcpc"));
    if is_udhcpc {
        let device = udhcpc::CommandLine::read(&client.arguments).device;
        let mine = device.as_deref().unwrap_or("eth0") == nic;
        return mine.then(|| found(Manager::Udhcpc, Details::Process(client.clone())));
    }
    let mine = OTHER_CLIENTS.contains(&name.as_str()) && serves(&client.arguments, nic);
    let why = "it cannot keep its lease on another device".to_owned();
    mine.then(|| found(Manager::OtherClient, Details::Opaque { why }))
}

/// Whether a client of another kind serves a NIC: its arguments name the NIC, or no device.
pub(super) fn serves(arguments: &[String], nic: &str) -> bool {
    // dhcpcd sets a process title: `dhcpcd: eth0 [ip4]`, `dhcpcd: [manager] [ip4] [ip6]`, and those of its helpers.
    if let Some(title) = arguments.first().and_then(|first| first.strip_prefix("dhcpcd: ")) {
        let first = title.split(' ').next().unwrap_or_default();
        return first == nic || ["[manager]", "[master]"].contains(&first);
    }
    let mut devices = arguments.iter().skip(1).filter(|word| !word.starts_with('-')).peekable();
    devices.peek().is_none() || devices.any(|device| device == nic)
}

/// The DHCP clients in this network namespace, except those that NetworkManager started.
fn clients(root: &Path) -> Vec<Client> {
    let namespace = fs::read_link(root.join("proc/thread-self/ns/net")).ok();
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("proc")).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let folder = entry.path();
        let Ok(line) = fs::read(folder.join("cmdline")) else { continue };
        let arguments: Vec<_> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let Some(program) = fs::read_link(folder.join("exe")).ok() else { continue };
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A process title is the first argument; the rest are remains of the command line.
        let title = arguments.first().is_some_and(|first| first.starts_with("dhcpcd: "));
        let arguments: Vec<_> = if title { arguments.into_iter().take(1).collect() } else { arguments };
        let udhcpc = arguments.iter().take(2).any(|word| word.ends_with("udhcpc"));
        if name != "dhclient" && !udhcpc && !OTHER_CLIENTS.contains(&name.as_str()) {
            continue;
        }
        if namespace.is_some() && fs::read_link(folder.join("ns/net")).ok() != namespace {
            continue;
        }
        if supervisor::parent(root, &folder).is_some_and(|(_, name)| name == "NetworkManager") {
            continue;
        }
        let started = host::process::start_time(pid).unwrap_or(0);
        let supervisor = supervisor::client_process(root, pid, &arguments, &mut System).supervisor();
        found.push(Client { pid, started, program, arguments, supervisor });
    }
    found
}

fn read(root: &Path, path: &str) -> Option<String> {
    regular_file::read_text(&root.join(path.trim_start_matches('/'))).ok()
}
