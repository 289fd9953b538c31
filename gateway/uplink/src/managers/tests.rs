use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::command::{Answer, NoAnswer, Runner};

mod real;

fn invocation(state_dir: &Path) -> Invocation {
    Invocation {
        program: PathBuf::from("/usr/bin/ovn-k8s"),
        state_dir: state_dir.to_owned(),
        db: "unix:/run/openvswitch/db.sock".to_owned(),
    }
}

fn expiring(leased: &[&str]) -> ExpiringAddresses {
    let all = leased.iter().map(|net| net.parse::<IpNet>().unwrap());
    let (v4, v6): (Vec<_>, Vec<_>) = all.partition(|net| net.addr().is_ipv4());
    ExpiringAddresses { announced: !v6.is_empty(), v4, v6 }
}

fn client(line: &str) -> Client {
    let arguments = words(line);
    Client { pid: 700, started: 1234, program: PathBuf::from(&arguments[0]), arguments, supervisor: None }
}

fn found(manager: Manager, details: Details) -> DetectedManager {
    DetectedManager { manager, nic: "eth0".to_owned(), evidence: "a test".to_owned(), details }
}

fn one(manager: Manager, details: Details, leased: &[&str]) -> Result<Handover, NotHandedOver> {
    let invocation = invocation(Path::new("/var/lib/ovn-k8s"));
    let (handovers, not) =
        handovers(&[found(manager, details)], "eth0", "breth0", &expiring(leased), &invocation);
    assert_eq!(handovers.len() + not.len(), 1);
    handovers.into_iter().next().ok_or_else(|| not.into_iter().next().unwrap())
}

fn configured(content: &str) -> Details {
    Details::Configuration { content: content.to_owned(), client_id: None }
}

/// Records the commands.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Runner for Recorder {
    fn run(&mut self, command: &[String], _: Duration) -> Result<Answer, NoAnswer> {
        self.0.lock().unwrap().push(command.join(" "));
        Ok(Answer { success: true, ..Answer::default() })
    }
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn files(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn write_file(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

const STATIC: &str = "[Match]\nMACAddress=02:00:00:00:00:02\n\n[Link]\nMTUBytes=1400\n\n[Network]\nAddress=10.0.0.5/24\nGateway=10.0.0.1\nVLAN=eth0.100\n\n[Route]\nDestination=10.9.0.0/16\n";

#[test]
fn networkd_gets_the_configuration_of_the_nic_for_the_bridge() {
    let handover = one(Manager::Networkd, configured(STATIC), &[]).unwrap();
    let root = tempfile::tempdir().unwrap();
    let runs = Recorder::default();
    let mut executor = HandoverExecutor::at(root.path(), runs.clone());
    let handovers = [handover];
    let (nic, bridge) =
        ("run/systemd/network/00-ovn-k8s-eth0.network", "run/systemd/network/00-ovn-k8s-breth0.network");

    assert_eq!(executor.prepare(&handovers), Vec::<String>::new());
    assert!(files(root.path())[bridge].contains("Unmanaged=yes"));
    assert_eq!(runs.take(), ["networkctl reload"]);

    assert_eq!(executor.complete(&handovers), Vec::<String>::new());
    let written = files(root.path());
    let configuration = &written[bridge];
    for text in
        ["Name=breth0", "KeepConfiguration=yes", "IgnoreCarrierLoss=yes", "Address=10.0.0.5/24", "[Route]"]
    {
        assert!(configuration.contains(text), "{text}: {configuration}");
    }
    for left_out in ["MACAddress", "MTUBytes", "VLAN="] {
        assert!(!configuration.contains(left_out), "{left_out}: {configuration}");
    }
    assert!(written[nic].contains("Name=eth0") && written[nic].contains("Unmanaged=yes"));
    assert_eq!(runs.take(), ["networkctl reload"]);
    // A repetition changes nothing and runs nothing.
    assert_eq!(executor.complete(&handovers), Vec::<String>::new());
    assert_eq!(runs.take(), Vec::<String>::new());

    assert_eq!(executor.take_back(&handovers), Vec::<String>::new());
    assert_eq!(files(root.path()), BTreeMap::new());
    assert_eq!(runs.take(), ["networkctl reload"]);
    assert_eq!(executor.take_back(&handovers), Vec::<String>::new());
    assert_eq!(runs.take(), Vec::<String>::new());
}

#[test]
fn networkd_renews_its_lease_on_the_bridge() {
    let content = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n";
    let client_id = Some("ff0a0b0c0d000200000001".to_owned());
    let details = Details::Configuration { content: content.to_owned(), client_id };
    let handover = one(Manager::Networkd, details, &["10.0.0.9/24"]).unwrap();
    let texts: Vec<_> = handover
        .complete
        .iter()
        .filter_map(|act| match act {
            Act::Write { content, .. } => Some(content.as_str()),
            _ => None,
        })
        .collect();
    assert!(texts[0].contains("IAID=168496141") && texts[0].contains("DHCP=ipv4"), "{texts:?}");
    // On detach the lease's address must stay on the NIC.
    assert!(
        matches!(&handover.take_back[0], Act::Write { content, .. } if content.contains("Name=eth0") && content.contains("KeepConfiguration=yes"))
    );
}

#[test]
fn network_manager_gets_nic_and_bridge_as_unmanaged() {
    let handover = one(Manager::NetworkManager, configured(""), &[]).unwrap();
    let root = tempfile::tempdir().unwrap();
    let runs = Recorder::default();
    let mut executor = HandoverExecutor::at(root.path(), runs.clone());
    executor.prepare(std::slice::from_ref(&handover));
    executor.complete(std::slice::from_ref(&handover));
    let written = files(root.path());
    assert_eq!(written.len(), 2);
    assert!(written.values().all(|text| text.contains("unmanaged-devices+=interface-name:")), "{written:?}");
    executor.take_back(&[handover]);
    assert_eq!(files(root.path()), BTreeMap::new());
    let ran = [
        "nmcli general reload conf",
        "nmcli device set eth0 managed no",
        "nmcli general reload conf",
        "nmcli device set eth0 managed yes",
    ];
    assert_eq!(runs.take(), ran);
    let announced = one(Manager::NetworkManager, configured(""), &["fd00::9/64"]).unwrap();
    assert_eq!(
        announced.complete.last(),
        Some(&Act::AcceptRouterAdvertisements { device: "breth0".to_owned() })
    );
    let not = one(Manager::NetworkManager, configured(""), &["10.0.0.9/24"]).unwrap_err();
    assert!(
        not.name == "dhcp-not-handed-over"
            && not.what.contains("10.0.0.9/24")
            && not.remedy.contains("ipv4.method manual"),
        "{not:?}"
    );
}

#[test]
fn ifupdown_gets_a_hook_that_runs_recover() {
    let invocation =
        Invocation { program: "/opt/o'vn/ovn-k8s".into(), ..invocation(Path::new("/var/lib/ovn-k8s")) };
    let found = found(Manager::Ifupdown, configured(""));
    let (handovers, _) = handovers(&[found], "eth0", "breth0", &expiring(&[]), &invocation);
    let root = tempfile::tempdir().unwrap();
    let mut executor = HandoverExecutor::at(root.path(), Recorder::default());
    executor.complete(&handovers);
    let path = root.path().join("etc/network/if-up.d/ovn-k8s-uplink-eth0");
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("[ \"$IFACE\" = 'eth0' ]")
            && text.contains("ovn-k8s-util recover --state-dir '/var/lib/ovn-k8s'"),
        "{text}"
    );
    assert!(std::process::Command::new("sh").arg("-n").arg(&path).status().unwrap().success());
    assert!(std::process::Command::new(&path).env("IFACE", "lo").status().unwrap().success());
    executor.take_back(&handovers);
    assert!(!path.exists());
}

#[test]
fn files_without_the_mark_are_neither_overwritten_nor_removed() {
    let handover = one(Manager::Networkd, configured(STATIC), &[]).unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = "run/systemd/network/00-ovn-k8s-breth0.network";
    write_file(root.path(), path, "[Match]\nName=breth0\n");
    let runs = Recorder::default();
    let mut executor = HandoverExecutor::at(root.path(), runs.clone());
    for failures in [
        executor.prepare(std::slice::from_ref(&handover)),
        executor.take_back(std::slice::from_ref(&handover)),
    ] {
        assert!(
            failures[0].contains("not written by a takeover") && failures[0].contains(path),
            "{failures:?}"
        );
    }
    assert_eq!(files(root.path())[path], "[Match]\nName=breth0\n");
}

#[test]
fn dhclient_is_started_with_its_own_flags() {
    let line = "/sbin/dhclient -4 -v -i -pf /run/dhclient.eth0.pid -lf /var/lib/dhcp/dhclient.eth0.leases -I -df /var/lib/dhcp/dhclient6.eth0.leases eth0";
    let handover = one(Manager::Dhclient, Details::Process(client(line)), &["10.0.0.9/24"]).unwrap();
    let texts: Vec<_> = handover.complete.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "keep 10.0.0.9/24 on breth0 until the client removes it",
            "kill /sbin/dhclient (pid 700), without releasing its lease",
            "copy the leases /var/lib/dhcp/dhclient.eth0.leases to /var/lib/dhcp/dhclient.breth0.leases for breth0",
            "start /sbin/dhclient -nw -4 -v -i -I -df /var/lib/dhcp/dhclient6.eth0.leases -lf /var/lib/dhcp/dhclient.breth0.leases -pf /run/dhclient.breth0.pid breth0",
        ]
    );
    assert!(matches!(handover.take_back.last(), Some(Act::Start { unless: Some(it), .. }) if it.pid == 700));
    for (bad, text) in
        [("dhclient eth0 eth1", "several"), ("dhclient", "several"), ("dhclient -6 eth0", "IPv6")]
    {
        let not = one(Manager::Dhclient, Details::Process(client(bad)), &[]).unwrap_err();
        assert!(not.name == "dhcp-not-handed-over" && not.what.contains(text), "{bad}: {not:?}");
    }
    let plain = one(Manager::Dhclient, Details::Process(client("dhclient -d -nw eth0")), &[]).unwrap();
    let start = plain.complete.last().unwrap().to_string();
    assert_eq!(
        start,
        "start dhclient -nw -lf /var/lib/dhcp/dhclient.breth0.leases -pf /run/dhclient.breth0.pid breth0"
    );
}

#[test]
fn udhcpc_is_started_with_its_own_flags() {
    for line in [
        "/bin/busybox udhcpc -f -i eth0 -s /etc/my.script -p /run/u.pid -x hostname:n -R",
        "/bin/busybox udhcpc --foreground --interface=eth0 --script=/etc/my.script --pidfile=/run/u.pid -x hostname:n -R",
        "/bin/busybox udhcpc -f -ieth0 -s/etc/my.script -p/run/u.pid -x hostname:n -R",
    ] {
        let handover = one(Manager::Udhcpc, Details::Process(client(line)), &["10.0.0.9/24"]).unwrap();
        let start = handover.complete.last().unwrap().to_string();
        assert_eq!(
            start,
            "start /bin/busybox udhcpc -x hostname:n -R -i breth0 -p /run/udhcpc.breth0.pid -s /var/lib/ovn-k8s/uplink/udhcpc-breth0 -r 10.0.0.9 -b",
            "{line}"
        );
        let back = handover.take_back.last().unwrap().to_string();
        assert!(back.contains("-i eth0 -p /run/u.pid"), "{back}");
    }
    let not = one(Manager::Udhcpc, Details::Process(client("udhcpc -i eth0 -s /x")), &[]).unwrap_err();
    assert!(not.name == "dhcp-not-handed-over", "{not:?}");
}

#[test]
fn a_supervised_client_is_handed_over_and_refused() {
    let supervisor = Supervisor { name: "runsv (pid 650)".to_owned(), remedy: "`sv once`".to_owned() };
    for (manager, line) in
        [(Manager::Dhclient, "dhclient -d eth0"), (Manager::Udhcpc, "udhcpc -f -i eth0 -s /etc/my.script")]
    {
        let client = Client { supervisor: Some(supervisor.clone()), ..client(line) };
        let invocation = invocation(Path::new("/var/lib/ovn-k8s"));
        let found = [found(manager, Details::Process(client))];
        let (handovers, not) = handovers(&found, "eth0", "breth0", &expiring(&["10.0.0.9/24"]), &invocation);
        assert_eq!(not.iter().map(|it| it.name).collect::<Vec<_>>(), ["dhcp-supervised"]);
        assert!(not[0].what.contains("runsv (pid 650)") && not[0].remedy == "`sv once`", "{not:?}");
        let starts = |acts: &[Act]| acts.iter().filter(|act| matches!(act, Act::Start { .. })).count();
        // On detach the supervisor has restarted it already.
        assert_eq!(
            (starts(&handovers[0].complete), starts(&handovers[0].take_back)),
            (1, 0),
            "{handovers:?}"
        );
    }
}

#[test]
fn the_refusal_of_a_client_names_the_commands_that_keep_the_address() {
    let opaque = Details::Opaque { why: "it cannot".to_owned() };
    let not = one(Manager::OtherClient, opaque, &["10.0.0.9/24", "fd00::9/128"]).unwrap_err();
    let v6 =
        one(Manager::Dhclient, Details::Process(client("dhclient -6 eth0")), &["fd00::9/128"]).unwrap_err();
    let change = |address: &str| {
        format!("`ip address change {address} dev eth0 valid_lft forever preferred_lft forever`")
    };
    assert!(
        not.remedy.contains(&change("10.0.0.9/24")) && not.remedy.contains(&change("fd00::9/128")),
        "{not:?}"
    );
    assert!(v6.remedy.contains(&change("fd00::9/128")) && v6.remedy.contains("kill -9"), "{v6:?}");
}

#[test]
fn other_dhcp_clients_serve_the_nic_that_their_arguments_name() {
    let serves =
        |words: &[&str], nic| find::serves(&words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), nic);
    for (words, both) in [
        (&["dhcpcd: eth0 [ip4]"][..], [true, false]),
        (&["dhcpcd: [manager] [ip4] [ip6]"], [true, true]),
        (&["dhcpcd: [privileged proxy] eth0 [ip4]"], [false, false]),
        (&["dhcpcd", "-q"], [true, true]),
        (&["dhcp6c", "-f", "eth0"], [true, false]),
    ] {
        assert_eq!(["eth0", "eth1"].map(|nic| serves(words, nic)), both, "{words:?}");
    }
}

#[test]
fn managers_are_detected_by_their_files() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    assert_eq!(detect(root, &[("eth0".to_owned(), 2)]), []);
    write_file(
        root,
        "run/systemd/netif/links/2",
        "ADMIN_STATE=configured\nOPER_STATE=routable\nNETWORK_FILE=/etc/systemd/network/20-a.network\n",
    );
    write_file(root, "etc/systemd/network/20-a.network", "[Network]\nDHCP=yes\n");
    write_file(root, "run/systemd/netif/leases/2", "ADDRESS=10.0.0.9\nCLIENTID=ff00000001000102\n");
    write_file(root, "run/systemd/netif/links/3", "ADMIN_STATE=unmanaged\n");
    write_file(root, "run/NetworkManager/devices/3", "[device]\nmanaged=true\nconnection-uuid=abc\n");
    write_file(root, "etc/network/interfaces", "auto lo\niface lo inet loopback\n");
    write_file(root, "etc/network/interfaces.d/x", "auto eth2\niface eth2 inet dhcp\n");
    write_file(root, "etc/netplan/01.yaml", "network:\n  ethernets:\n    \"eth0\":\n      dhcp4: true\n");
    let nics: Vec<_> = (2..5).map(|index| (format!("eth{}", index - 2), index)).collect();
    let all = detect(root, &nics);
    let short: Vec<_> = all.iter().map(|it| (it.nic.as_str(), it.manager, it.evidence.as_str())).collect();
    assert_eq!(
        short,
        [
            ("eth0", Manager::Networkd, "/etc/systemd/network/20-a.network"),
            ("eth0", Manager::Netplan, "/etc/netplan/01.yaml"),
            ("eth1", Manager::NetworkManager, "connection abc"),
            ("eth2", Manager::Ifupdown, "/etc/network/interfaces.d/x"),
        ]
    );
    assert!(
        matches!(&all[0].details, Details::Configuration { client_id: Some(id), .. } if id == "ff00000001000102")
    );
    // A handover survives the journal.
    let (handovers, _) = handovers(&all, "eth0", "breth0", &expiring(&[]), &invocation(root));
    let values: Vec<_> = handovers.iter().map(|it| serde_json::to_value(it).unwrap()).collect();
    assert_eq!(from_journal(&values), handovers);
    assert_eq!(from_journal(&[serde_json::json!({"manager": "of the future"})]), []);
}
