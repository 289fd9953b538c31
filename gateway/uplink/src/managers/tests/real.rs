//! Real DHCP clients, against a real server, in namespaces of their own: the lease lives on on the bridge and comes back
//! to the NIC, and the address never goes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::command::System;
use host::netns::Namespace;
use host::rtnl::address::Address as AddressRow;
use host::rtnl::{Kind, Socket};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the clients of a test, which went into the background, by the files that name them.
struct Clients(PathBuf);

impl Drop for Clients {
    fn drop(&mut self) {
        for found in detect(Path::new("/"), &[("eth0".to_owned(), 0), ("breth0".to_owned(), 0)]) {
            if let Details::Process(client) = found.details
                && client.arguments.iter().any(|word| word.contains(&*self.0.to_string_lossy()))
                && let Ok(process) = host::pidfd::PidFd::open(client.pid, Some(client.started))
            {
                let _ = process.kill();
            }
        }
    }
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    found.status.success()
}

/// The leased address of a device: itself, and how long it stays.
fn leased(device: &str) -> Option<(String, Option<u32>)> {
    let index = host::devices::index_of(device)?;
    let rows = Socket::open().unwrap().dump_all(Kind::Address).unwrap();
    let mut rows = rows.iter().filter_map(AddressRow::of).filter(|row| row.device() == index);
    let row = rows.find(|row| row.local().is_some_and(|it| it.is_ipv4()))?;
    Some((row.local()?.to_string(), row.valid()))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server at the other end of the wire, in a namespace of its own, with short leases; its log has the clients.
fn server(folder: &Path, name: &str) -> Ends {
    let log = fs::File::create(folder.join("server.log")).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name, "dnsmasq", "--no-daemon", "--port=0", "--log-dhcp", "--no-ping"]);
    command.args(["--interface=wire", "--bind-dynamic", "--dhcp-authoritative", "--conf-file=/dev/null"]);
    command.args(["--dhcp-range=10.77.0.50,10.77.0.99,120", "--dhcp-option=option:router,10.77.0.1"]);
    command.arg(format!("--dhcp-leasefile={}", folder.join("server.leases").display()));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    Ends(command.spawn().unwrap())
}

/// eth0 with a server behind it, and the bridge as a macvlan of it would be on the wire: a Linux bridge stands in for the
/// switch once the NIC's addresses are on it.
struct Lab {
    folder: tempfile::TempDir,
    name: String,
    _server: Ends,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("dhcp-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        sh(&format!(
            "ip netns add {name}; ip link set lo up; ip link add eth0 type veth peer name wire netns {name}
             ip link set eth0 address 02:00:00:00:77:05 up
             ip -n {name} addr add 10.77.0.1/24 dev wire; ip -n {name} link set wire up"
        ));
        let server = server(folder.path(), &name);
        Self { folder, name, _server: server }
    }

    /// As the takeover does: the bridge with the NIC's MAC gets the address as it is, the NIC loses it.
    fn turn(&self) {
        sh("ip link add breth0 address 02:00:00:00:77:05 type bridge; ip link set breth0 up
            set -- $(ip -4 -o addr show dev eth0); address=$4
            left=$(ip -4 -o addr show dev eth0 | sed -n 's/.*valid_lft \\([0-9]*\\)sec.*/\\1/p')
            ip addr add $address dev breth0 valid_lft $left preferred_lft $left
            ip link set eth0 master breth0; ip route replace default via 10.77.0.1 dev breth0; ip addr flush dev eth0");
    }

    fn turn_back(&self) {
        sh("set -- $(ip -4 -o addr show dev breth0); address=$4
            ip link set eth0 nomaster; ip addr add $address dev eth0 valid_lft 60 preferred_lft 60
            ip link del breth0; ip route replace default via 10.77.0.1 dev eth0");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

/// Hands over what was found on eth0, with the address that it holds now.
fn plan(lab: &Lab) -> Vec<Handover> {
    let found = detect(Path::new("/"), &[("eth0".to_owned(), host::devices::index_of("eth0").unwrap())]);
    let (address, _) = leased("eth0").unwrap();
    let (handovers, not) = handovers(
        &found,
        "eth0",
        "breth0",
        &expiring(&[&format!("{address}/24")]),
        &invocation(lab.folder.path()),
    );
    assert_eq!(not, []);
    let clients: Vec<_> = handovers.into_iter().filter(|it| it.manager.is_client()).collect();
    assert_eq!(clients.len(), 1, "{found:?}");
    clients
}

/// There and back: the same address, asked for again by each client, never released, never away.
fn there_and_back(lab: &Lab) {
    let (address, _) = until("a lease on eth0", || leased("eth0"));
    let handovers = plan(lab);
    let mut rim = HandoverExecutor::at("/", System);
    assert_eq!(rim.prepare(&handovers), Vec::<String>::new());
    lab.turn();
    let acks = |log: &str| log.matches("DHCPACK").count();
    let before = acks(&lab.log());
    assert_eq!(rim.complete(&handovers), Vec::<String>::new());
    assert_eq!(leased("breth0"), Some((address.clone(), None)), "the client's alone to end");
    until("the client on breth0 has its lease", || (acks(&lab.log()) > before).then_some(()));
    assert_eq!(leased("breth0").map(|it| it.0), Some(address.clone()));
    assert_eq!(leased("eth0"), None);
    // On its way into the background it is two for a moment.
    let clients = |device: &str| {
        let all = detect(Path::new("/"), &[(device.to_owned(), 0)]);
        all.iter().filter(|it| it.manager.is_client()).count()
    };
    until("one client on breth0", || (clients("breth0") == 1).then_some(()));
    assert_eq!(clients("eth0"), 0);

    lab.turn_back();
    let before = acks(&lab.log());
    assert_eq!(rim.take_back(&handovers), Vec::<String>::new());
    assert_eq!(leased("eth0"), Some((address.clone(), None)));
    until("the client on eth0 has its lease", || (acks(&lab.log()) > before).then_some(()));
    assert_eq!(leased("eth0").map(|it| it.0), Some(address));
    assert!(!lab.log().contains("DHCPRELEASE"), "{}", lab.log());
    until("one client on eth0", || (clients("eth0") == 1).then_some(()));
    let route = Command::new("ip").args(["route", "show", "default"]).output().unwrap();
    assert!(String::from_utf8_lossy(&route.stdout).contains("dev eth0"), "{route:?}");
}

#[test]
fn dhclient_renews_its_lease_on_the_bridge_and_back() {
    if !["dhclient", "dnsmasq"].into_iter().all(is_there) {
        eprintln!("skipped: dhclient (isc-dhcp-client) and dnsmasq (dnsmasq-base) are needed");
        return;
    }
    Namespace::create()
        .unwrap()
        .run(|| {
            let lab = Lab::new();
            let folder = lab.folder.path().to_owned();
            let _clients = Clients(folder.clone());
            let path = folder.display();
            // The machine's own resolv.conf is none of its business.
            fs::write(folder.join("script"), "#!/bin/sh\nmake_resolv_conf() { :; }\nset_hostname() { :; }\n").unwrap();
            sh(&format!("sed -e '/^make_resolv_conf() {{/,/^}}/d' -e '/^set_hostname() {{/,/^}}/d' -e '1d' /sbin/dhclient-script >>{path}/script; chmod +x {path}/script
                dhclient -4 -nw -cf /dev/null -sf {path}/script -pf {path}/dhclient.eth0.pid -lf {path}/dhclient.eth0.leases eth0"));
            there_and_back(&lab);
        })
        .unwrap();
}

#[test]
fn udhcpc_renews_its_lease_on_the_bridge_and_back() {
    if !["busybox", "dnsmasq"].into_iter().all(is_there) {
        eprintln!("skipped: busybox and dnsmasq (dnsmasq-base) are needed");
        return;
    }
    Namespace::create()
        .unwrap()
        .run(|| {
            let lab = Lab::new();
            let folder = lab.folder.path().to_owned();
            let _clients = Clients(folder.clone());
            let path = folder.display();
            // As busybox's own example does it: all addresses off, the lease's on.
            let script = "#!/bin/sh\ncase $1 in\ndeconfig) ip -4 addr flush dev $interface; ip link set $interface up ;;\n\
                bound | renew) ip -4 addr flush dev $interface\n\
                ip addr add $ip/$mask dev $interface valid_lft $lease preferred_lft $lease\n\
                ip route replace default via $router dev $interface ;;\nesac\n";
            fs::write(folder.join("script"), script).unwrap();
            sh(&format!("chmod +x {path}/script; mkdir -p {path}/uplink
                busybox udhcpc -b -t 20 -T 1 -i eth0 -s {path}/script -p {path}/udhcpc.eth0.pid"));
            there_and_back(&lab);
        })
        .unwrap();
}
