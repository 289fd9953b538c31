//! A real ovsdb-server and ovs-vswitchd in a namespace of their own, and pure cases beside them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use netns_tests::lab::identity::Identity;
use netns_tests::lab::netns::Namespace;
use netns_tests::lab::process::{Program, RunningProgram as Process, wait_until};
use nix::sys::signal::Signal;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const MAC: &str = "0a:00:00:00:00:01";

/// Fields end in this order: processes, then their namespace, then the folder.
struct Node {
    vswitchd: Option<Process>,
    database: Option<Process>,
    namespace: Namespace,
    dir: PathBuf,
    identity: Identity,
}

/// The database's configuration before a takeover.
fn prior(rows: &OvsSnapshot) -> PriorOvsConfig {
    crate::observe::SwitchSnapshot::from(rows).prior_config("breth0", "eth0")
}

impl Node {
    /// A node with `eth0`, and Open vSwitch as its package leaves it.
    fn up() -> Self {
        let identity = Identity::next().unwrap();
        let namespace = Namespace::create(&format!("{}-s", identity.name())).unwrap();
        let dir = identity.dir().to_owned();
        let mut node = Self { vswitchd: None, database: None, namespace, dir, identity };
        node.namespace
            .ip(format!("link add eth0 address {MAC} mtu 1400 type veth peer name wire\nlink set eth0 up\nlink set wire up\n"))
            .unwrap();
        let file = node.dir.join("conf.db").display().to_string();
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        Program::new("ovsdb-tool").args(["create", &file, schema]).run().unwrap();
        node.database =
            Some(node.start("ovsdb-server", &[file, format!("--remote=punix:{}", node.socket())]));
        wait_until("ovsdb-server to listen", || Ok(PathBuf::from(node.socket()).exists())).unwrap();
        node.vsctl("init");
        node.start_vswitchd();
        node
    }

    fn socket(&self) -> String {
        self.dir.join("db.sock").display().to_string()
    }

    fn start(&self, daemon: &str, words: &[String]) -> Process {
        let mut program = Program::new(daemon).inside(&self.namespace);
        for what in ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"] {
            program = program.env(&format!("OVS_{what}"), &self.dir);
        }
        program
            .arg("-vconsole:off")
            .args(words)
            .arg(format!("--pidfile={}/{daemon}.pid", self.dir.display()))
            .arg(format!("--log-file={}/{daemon}.log", self.dir.display()))
            .hold(&self.dir.join(format!("{daemon}.out")), &self.identity.register())
            .unwrap()
    }

    fn start_vswitchd(&mut self) {
        self.vswitchd = Some(self.start("ovs-vswitchd", &[format!("unix:{}", self.socket())]));
    }

    fn vsctl(&self, line: &str) -> String {
        let db = format!("--db=unix:{}", self.socket());
        Program::new("ovs-vsctl").args(["--no-wait", "--timeout=30", &db]).line(line).run().unwrap()
    }

    fn switch(&self) -> OvsDb {
        OvsDb::connect(&Remote::unix(self.socket()), PATIENCE).unwrap()
    }

    fn has(&self, device: &str) -> bool {
        let shown = Program::new("ip").args(["-n", self.namespace.name(), "link", "show", device]).outcome();
        shown.unwrap().0
    }
}

fn later() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until ovs-vswitchd has carried out everything that the database has; `false` when it has not by then.
fn is_carried_out(switch: &mut OvsDb, deadline: Instant) -> bool {
    loop {
        let seen = switch.observe(later()).unwrap();
        if seen.cur_cfg >= seen.next_cfg || Instant::now() >= deadline {
            return seen.cur_cfg >= seen.next_cfg;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wanted() -> BridgeSpec {
    BridgeSpec {
        bridge: "breth0".to_owned(),
        nic: "eth0".to_owned(),
        mac: MAC.to_owned(),
        mtu: 1400,
        datapath: Datapath::Netdev,
    }
}

/// Both steps, each with its wait.
fn take(switch: &mut OvsDb, wanted: &[BridgeSpec]) {
    let written = switch.make_bridges(wanted, later()).unwrap();
    switch.wait_for_devices(wanted, &written, later()).unwrap();
    let written = switch.add_ports(wanted, later()).unwrap();
    switch.wait_for_ports(&written, later()).unwrap();
}

#[test]
fn a_takeover_makes_bridge_port_and_qos_and_remove_removes_them() {
    let node = Node::up();
    let mut switch = node.switch();
    let before = switch.observe(later()).unwrap();
    assert_eq!(prior(&before), PriorOvsConfig::default());
    take(&mut switch, &[wanted()]);

    let seen = switch.observe(later()).unwrap();
    let bridge = seen.bridge("breth0").unwrap();
    assert_eq!((bridge.owner, bridge.datapath_type.as_str()), (Owner::Uplink, "netdev"));
    assert_eq!((bridge.hwaddr.as_deref(), bridge.fail_mode.as_deref()), (Some(MAC), Some("standalone")));
    assert_eq!(node.vsctl("br-get-external-id breth0 bridge-id").trim(), "breth0");
    let port = bridge.port("eth0").unwrap();
    assert!(port.is_ours && port.is_transient && port.ofport > Some(0));
    assert_eq!(seen.our_qos, [(port.qos.unwrap(), Some("eth0".to_owned()))]);
    assert_eq!(node.vsctl("get QoS . type").trim(), "linux-noop");
    assert!(bridge.others("eth0").next().is_none());
    assert_eq!(
        bridge
            .ports
            .iter()
            .filter(|port| port.kind.is_empty())
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>(),
        ["eth0"]
    );
    let shown =
        Program::new("ip").args(["-n", node.namespace.name(), "link", "show", "breth0"]).run().unwrap();
    assert!(shown.contains(MAC) && shown.contains("mtu 1400"), "{shown}");

    // A start of the switch removes transient ports and leaves their QoS rows.
    node.vsctl("del-port eth0");
    take(&mut switch, &[wanted()]);
    assert_eq!(switch.observe(later()).unwrap().our_qos.len(), 1);
    // A repetition changes nothing.
    let seen = switch.observe(later()).unwrap();
    take(&mut switch, &[wanted()]);
    assert_eq!(switch.observe(later()).unwrap().bridges, seen.bridges);

    let held = prior(&before);
    let removed = switch.remove(&[("breth0", "eth0", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Bridge]);
    assert!(is_carried_out(&mut switch, later()));
    assert!(!node.has("breth0") && node.has("eth0"));
    assert_eq!(node.vsctl("list QoS"), "");
    let removed = switch.remove(&[("breth0", "eth0", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Nothing]);
    assert!(switch.observe(later()).unwrap().bridges.is_empty());
}

#[test]
fn several_bridges_are_made_and_removed_in_one_transaction() {
    let node = Node::up();
    node.namespace
        .ip("link add eth1 address 0a:00:00:00:00:02 type veth peer name wire1\nlink set eth1 up\n")
        .unwrap();
    let second = BridgeSpec {
        bridge: "breth1".to_owned(),
        nic: "eth1".to_owned(),
        mac: "0a:00:00:00:00:02".to_owned(),
        mtu: 1500,
        datapath: Datapath::Netdev,
    };
    let mut switch = node.switch();
    take(&mut switch, &[wanted(), second]);
    let held = PriorOvsConfig::default();
    let removed =
        switch.remove(&[("breth0", "eth0", &held), ("breth1", "eth1", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Bridge, Removal::Bridge]);
    assert_eq!(node.vsctl("list QoS"), "");
}

#[test]
fn a_bridge_that_existed_before_is_kept_with_its_ports_and_settings() {
    let node = Node::up();
    node.vsctl("add-br breth0 -- set bridge breth0 datapath_type=netdev other_config:x=y");
    node.vsctl("add-port breth0 p1 -- set interface p1 type=internal");
    let mut switch = node.switch();
    let held = prior(&switch.observe(later()).unwrap());
    assert_eq!(held, PriorOvsConfig { bridge: true, ..PriorOvsConfig::default() });
    take(&mut switch, &[wanted()]);
    let seen = switch.observe(later()).unwrap();
    assert_eq!(seen.bridge("breth0").unwrap().owner, Owner::Other);
    assert_eq!(seen.bridge("breth0").unwrap().hwaddr.as_deref(), Some(MAC));

    let removed = switch.remove(&[("breth0", "eth0", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Port]);
    let seen = switch.observe(later()).unwrap();
    assert_eq!(prior(&seen), held, "as it was before");
    assert!(seen.bridge("breth0").unwrap().port("p1").is_some());
    assert_eq!(node.vsctl("get bridge breth0 other_config:x").trim(), "y");
    assert_eq!(node.vsctl("list QoS"), "");
}

#[test]
fn a_port_that_existed_before_is_kept() {
    let node = Node::up();
    node.vsctl("add-br breth0 -- set bridge breth0 datapath_type=netdev -- add-port breth0 eth0");
    let mut switch = node.switch();
    let held = prior(&switch.observe(later()).unwrap());
    assert!(held.port);
    take(&mut switch, &[wanted()]);
    let removed = switch.remove(&[("breth0", "eth0", &held)], true, later()).unwrap();
    assert_eq!(removed, [Removal::Nothing]);
    assert!(switch.observe(later()).unwrap().bridge("breth0").unwrap().port("eth0").is_some());
}

#[test]
fn a_port_that_is_kept_keeps_its_qos() {
    let node = Node::up();
    let mut switch = node.switch();
    take(&mut switch, &[wanted()]);
    let held = prior(&switch.observe(later()).unwrap());
    take(&mut switch, &[wanted()]);
    let removed = switch.remove(&[("breth0", "eth0", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Nothing]);
    assert_eq!(node.vsctl("--bare --columns=type list QoS").trim(), "linux-noop");
}

#[test]
fn a_bridge_with_other_ports_is_kept() {
    let node = Node::up();
    let mut switch = node.switch();
    take(&mut switch, &[wanted()]);
    node.vsctl("add-port breth0 p1 -- set interface p1 type=internal");
    let removed = switch.remove(&[("breth0", "eth0", &PriorOvsConfig::default())], false, later()).unwrap();
    assert_eq!(removed, [Removal::Port]);
    let seen = switch.observe(later()).unwrap();
    assert!(seen.bridge("breth0").unwrap().port("p1").is_some() && seen.bridge_of("eth0").is_none());
}

#[test]
fn a_bridge_of_the_original_tool_is_removed_only_when_it_is_named() {
    let node = Node::up();
    node.vsctl("add-br breth0 -- set bridge breth0 datapath_type=netdev -- br-set-external-id breth0 bridge-id breth0");
    node.vsctl("add-port breth0 eth0");
    let mut switch = node.switch();
    assert_eq!(switch.observe(later()).unwrap().bridge("breth0").unwrap().owner, Owner::Original);
    let held = PriorOvsConfig::default();
    let removed = switch.remove(&[("breth0", "eth0", &held)], false, later()).unwrap();
    assert_eq!(removed, [Removal::Nothing]);
    let removed = switch.remove(&[("breth0", "eth0", &held)], true, later()).unwrap();
    assert_eq!(removed, [Removal::Bridge]);
}

#[test]
fn an_error_of_vswitchd_is_in_the_error() {
    let node = Node::up();
    let mut switch = node.switch();
    let wanted = [BridgeSpec { nic: "eth7".to_owned(), ..wanted() }];
    let written = switch.make_bridges(&wanted, later()).unwrap();
    switch.wait_for_devices(&wanted, &written, later()).unwrap();
    let written = switch.add_ports(&wanted, later()).unwrap();
    let error = switch.wait_for_ports(&written, later()).unwrap_err().to_string();
    assert!(error.contains("eth7") && error.contains("No such device"), "{error}");
}

#[test]
fn waiting_for_a_stopped_vswitchd_ends_at_the_deadline() {
    let mut node = Node::up();
    let mut switch = node.switch();
    let wanted = [wanted()];
    node.vswitchd.as_ref().unwrap().signal(Signal::SIGSTOP).unwrap();
    let written = switch.make_bridges(&wanted, later()).unwrap();
    let soon = Instant::now() + Duration::from_millis(80);
    let error = switch.wait_for_devices(&wanted, &written, soon).unwrap_err().to_string();
    assert!(error.contains("waiting for breth0") && error.contains("does ovs-vswitchd run"), "{error}");
    node.vswitchd.take();
    // The removal needs only the database.
    let removed = switch.remove(&[("breth0", "eth0", &PriorOvsConfig::default())], false, later()).unwrap();
    assert_eq!(removed, [Removal::Bridge]);
    let soon = Instant::now() + Duration::from_millis(80);
    assert!(!is_carried_out(&mut switch, soon));
    node.start_vswitchd();
    assert!(is_carried_out(&mut switch, later()));
}

#[test]
fn calls_end_at_the_deadline_when_the_database_is_stopped() {
    let mut node = Node::up();
    let mut switch = node.switch();
    node.database.as_ref().unwrap().signal(Signal::SIGSTOP).unwrap();
    let soon = Instant::now() + Duration::from_millis(80);
    let error = switch.remove(&[("breth0", "eth0", &PriorOvsConfig::default())], false, soon).unwrap_err();
    assert!(error.to_string().contains("is ovsdb-server stopped"), "{error}");
    node.database.take();
    let soon = Instant::now() + Duration::from_millis(80);
    let error = switch.observe(soon).unwrap_err().to_string();
    assert!(error.contains("is ovsdb-server running"), "{error}");
}

#[test]
fn every_inserted_row_has_the_owner_mark() {
    let marked: BTreeSet<String> = make(0, &wanted())
        .iter()
        .chain(&add(0, &wanted()))
        .map(Operation::to_string)
        .filter(|text| text.contains(r#""op":"insert""#))
        .filter(|text| !text.contains(r#"["ovn-k8s-owner","uplink"]"#))
        .collect();
    assert!(marked.is_empty(), "{marked:?}");
}
