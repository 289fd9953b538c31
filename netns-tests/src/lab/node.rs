//! A node: a namespace with its own ovsdb-server, ovs-vswitchd and ovn-controller, its NIC in the bridge breth0.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use super::{
    LabOptions,
    address::{self, Dual, mac, mac_text},
    identity::Identity,
    machine::Datapath,
    netns::Namespace,
    pod::{POD_MTU, Pod},
    process::{Program, Register, RunningProgram, wait_until},
    world::{World, interfaces},
};

/// The bridge that holds the node's NIC.
pub const BRIDGE: &str = "breth0";
/// The NIC.
pub const UPLINK: &str = "eth0";
/// The bridge's end of the patch pair.
pub const PATCH: &str = "k8s-patch-breth0-br-int";

/// A node of the lab, a gateway with one NIC that host and pods share.
#[derive(Debug)]
pub struct Node {
    // Daemons end before their namespace goes.
    daemons: Mutex<Daemons>,
    pods: Vec<Pod>,
    number: usize,
    name: String,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    register: Register,
    namespace: Namespace,
}

#[derive(Debug, Default)]
struct Daemons {
    controller: Option<RunningProgram>,
    switch: Option<RunningProgram>,
    database: Option<RunningProgram>,
}

impl Node {
    /// Makes the namespace, plugs the NIC in, starts database and switch, makes bridges and ports.
    /// ovn-controller starts later, by [`Node::start_controller`], when central is there.
    pub(super) fn make(
        identity: &Identity,
        world: &World,
        options: &LabOptions,
        number: usize,
    ) -> Result<Self> {
        let lab = identity.name();
        let name = format!("node{number}");
        let namespace = Namespace::create(&format!("{lab}-n{number}"))?;
        let dir = identity.dir().join(format!("n{number}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let environment = ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"]
            .iter()
            .flat_map(|what| [format!("OVS_{what}"), format!("OVN_{what}")])
            .map(|variable| (variable, dir.display().to_string()))
            .collect();
        let mut node = Self {
            daemons: Mutex::default(),
            pods: Vec::new(),
            number,
            name,
            dir,
            environment,
            register: identity.register(),
            namespace,
        };
        node.start_database()?;
        world.plug(&node.namespace, &node.name, &node.mac())?;
        if options.datapath == Datapath::Userspace {
            node.guard(options.bare_uplinks)?;
        }
        if let Some(ports) = options.snat_ports {
            // As gateway-init does: before any daemon of the node picks a source port.
            node.namespace.sysctl("net/ipv4/ip_local_reserved_ports", &ports.to_string())?;
        }
        node.start_switch()?;
        node.pods = (1..=options.pods_per_node)
            .map(|pod| Pod::make(lab, number, &node.namespace, pod, options.datapath))
            .collect::<Result<_>>()?;
        node.make_ports(options)?;
        Ok(node)
    }

    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its name: `node` and the number. Also its chassis name and Kubernetes node name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder: OVS_RUNDIR and all the like.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its namespace, where the host's own sockets are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its physical address, shared by host and gateway router.
    pub fn address(&self) -> Dual {
        address::node(self.number)
    }

    /// Its management address: the host as the overlay sees it.
    pub fn management(&self) -> Dual {
        address::management(self.number)
    }

    /// The MAC address of NIC, bridge and gateway router.
    pub fn mac(&self) -> String {
        mac_text(self.mac_bytes())
    }

    /// The same as bytes.
    pub fn mac_bytes(&self) -> [u8; 6] {
        mac(0xac, self.number, 100)
    }

    /// The name of the management port.
    pub fn management_port(&self) -> String {
        format!("k8s-{}", self.name)
    }

    /// The environment under which OVS and OVN programs find this node's sockets.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Pod `number` of this node, from 1.
    pub fn pod(&self, number: usize) -> Result<&Pod> {
        let pod = number.checked_sub(1).and_then(|index| self.pods.get(index));
        pod.ok_or_else(|| anyhow!("{} has no pod {number}", self.name))
    }

    /// Its pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A program inside the node, under its environment.
    pub fn program(&self, program: impl AsRef<Path>) -> Program<'_> {
        Program::new(program).envs(&self.environment).inside(&self.namespace)
    }

    /// `ovs-vsctl` with a line of words.
    pub fn vsctl(&self, line: &str) -> Result<String> {
        self.program("ovs-vsctl").arg("--timeout=30").line(line).run()
    }

    /// `ovs-ofctl` (OpenFlow 1.4) with a line of words.
    pub fn ofctl(&self, line: &str) -> Result<String> {
        self.program("ovs-ofctl").args(["-O", "OpenFlow14"]).line(line).run()
    }

    /// `ovs-appctl` to ovs-vswitchd.
    pub fn appctl(&self, line: &str) -> Result<String> {
        self.program("ovs-appctl").line(line).run()
    }

    /// The flows of a bridge, one a line, without counters.
    pub fn flows(&self, bridge: &str) -> Result<Vec<String>> {
        let dump = self.ofctl(&format!("--no-stats dump-flows {bridge}"))?;
        Ok(dump.lines().filter(|line| line.contains("actions=")).map(|line| line.trim().to_owned()).collect())
    }

    /// What a person would look at first when the node does not come up: the ends of its logs.
    pub fn diagnosis(&self) -> String {
        let logs = ["ovn-controller.log", "ovs-vswitchd.log", "helper.out"].map(|log| {
            let text = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
            format!("the end of {log} of {}:\n{}\n", self.name, tail.join("\n"))
        });
        logs.concat()
    }

    /// The OpenFlow port number of an interface; it must have one.
    pub fn ofport(&self, interface: &str) -> Result<u32> {
        let text = self.vsctl(&format!("get Interface {interface} ofport"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{interface} of {} has no ofport: {}", self.name, text.trim()))
    }

    /// Starts ovs-vswitchd; returns when it answers.
    pub fn start_switch(&self) -> Result<()> {
        let switch = self
            .program("ovs-vswitchd")
            .arg(format!("unix:{}/db.sock", self.dir.display()))
            .args(self.habits("ovs-vswitchd"))
            .hold(&self.dir.join("ovs-vswitchd.out"), &self.register)?;
        let pid = switch.id();
        self.hold(|daemons| daemons.switch = Some(switch))?;
        let socket = self.dir.join(format!("ovs-vswitchd.{pid}.ctl"));
        self.wait_for_socket(&socket, |daemons| daemons.switch.as_mut())
    }

    /// Ends ovs-vswitchd: as packages do it (SIGTERM), or at once.
    pub fn stop_switch(&self, how: Stop) -> Result<()> {
        let switch = self.hold(|daemons| daemons.switch.take())?.context("ovs-vswitchd does not run")?;
        how.end(switch)
    }

    /// Sends ovs-vswitchd a signal: one that is stopped (SIGSTOP) holds its tap and forwards nothing.
    pub fn signal_switch(&self, signal: Signal) -> Result<()> {
        self.hold(|daemons| daemons.switch.as_ref().map(|switch| switch.signal(signal)))?
            .context("ovs-vswitchd does not run")?
    }

    /// Starts ovn-controller.
    pub fn start_controller(&self) -> Result<()> {
        let controller = self
            .program("ovn-controller")
            .arg(format!("unix:{}/db.sock", self.dir.display()))
            .args(self.habits("ovn-controller"))
            .hold(&self.dir.join("ovn-controller.out"), &self.register)?;
        self.hold(|daemons| daemons.controller = Some(controller))
    }

    /// Ends ovn-controller.
    pub fn stop_controller(&self, how: Stop) -> Result<()> {
        let controller =
            self.hold(|daemons| daemons.controller.take())?.context("ovn-controller does not run")?;
        how.end(controller)
    }

    /// Starts the node's ovsdb-server; returns when it answers.
    pub fn start_database(&self) -> Result<()> {
        let file = self.dir.join("conf.db");
        if !file.exists() {
            let file = file.display().to_string();
            let schema = "/usr/share/openvswitch/vswitch.ovsschema";
            Program::new("ovsdb-tool").args(["create", &file, schema]).run()?;
        }
        let database = self
            .program("ovsdb-server")
            .arg(file.display().to_string())
            .arg(format!("--remote=punix:{}/db.sock", self.dir.display()))
            .args(self.habits("ovsdb-server"))
            .hold(&self.dir.join("ovsdb-server.out"), &self.register)?;
        self.hold(|daemons| daemons.database = Some(database))?;
        self.wait_for_socket(&self.dir.join("db.sock"), |daemons| daemons.database.as_mut())
    }

    /// Ends the node's ovsdb-server.
    pub fn stop_database(&self, how: Stop) -> Result<()> {
        let database = self.hold(|daemons| daemons.database.take())?.context("ovsdb-server does not run")?;
        how.end(database)
    }

    /// The lab's list of processes, for what else is started on this node.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// The options every daemon of the family is started with here.
    fn habits(&self, daemon: &str) -> Vec<String> {
        let dir = self.dir.display();
        vec![
            // Before --log-file, or the console level of the log file's module list wins.
            "-vconsole:off".to_owned(),
            format!("--pidfile={dir}/{daemon}.pid"),
            format!("--log-file={dir}/{daemon}.log"),
            "--no-chdir".to_owned(),
        ]
    }

    /// A packet socket does not take a frame away from the stack: without these rules the host would also answer
    /// what reaches its AF_PACKET ports of OVS. On the kernel datapath, and on a real tap, nothing of this is needed.
    ///
    /// The NIC's rule is the product's own, as a takeover leaves it: from here on the helper keeps and turns it. A bare
    /// NIC has none: whoever takes it over makes it.
    fn guard(&self, bare: bool) -> Result<()> {
        let rules = "iifname \"pod*\" drop";
        let mut script = format!(
            "table inet ovsports {{\n\
               chain pre {{ type filter hook prerouting priority -350; policy accept;\n {rules}\n }}\n}}\n\
             table arp ovsports {{\n\
               chain in {{ type filter hook input priority -350; policy accept;\n {rules}\n }}\n}}\n"
        );
        if !bare {
            script += &format!(
                "table netdev ovn_k8s_{BRIDGE} {{\n\
                   comment \"the host hears a NIC or its bridge, not both (ovn-k8s)\"\n\
                   chain at_nic {{ type filter hook ingress device \"{UPLINK}\" priority -500; policy accept;\n\
                     counter drop\n }}\n}}\n"
            );
        }
        self.namespace.nft(script)
    }

    /// Bridges, management port, patch pair and pods' ports, in one transaction; then the addresses.
    fn make_ports(&self, options: &LabOptions) -> Result<()> {
        let (name, port) = (&self.name, self.management_port());
        let mut words = format!(
            "--timeout=30 -- init \
             -- set Open_vSwitch . external_ids:system-id={name} external_ids:hostname={name} \
                external_ids:ovn-remote=tcp:{central}:6642 external_ids:ovn-nb=tcp:{central}:6641 \
                external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip={address} \
                external_ids:ovn-bridge-datapath-type={datapath} external_ids:ovn-monitor-all=true \
                external_ids:ovn-remote-probe-interval=60000 \
             -- add-br br-int -- set bridge br-int datapath_type={datapath} fail-mode=secure \
             -- add-port br-int {port} -- set interface {port} type=internal mtu_request={POD_MTU} \
                mac=\"{management_mac}\" external_ids:iface-id={port}",
            datapath = options.datapath.name(),
            central = address::central().v4,
            address = self.address().v4,
            management_mac = self.management_mac(),
        );
        if !options.bare_uplinks {
            words += &format!(
                " -- add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type={datapath} fail-mode=standalone \
                    other_config:hwaddr=\"{mac}\" \
                 -- add-port {BRIDGE} {UPLINK}",
                datapath = options.datapath.name(),
                mac = self.mac(),
            );
        }
        if options.has_patch_pair() {
            words += &self.patch_pair();
        }
        for pod in &self.pods {
            words += &format!(
                " -- add-port br-int {device} -- set interface {device} external_ids:iface-id={}",
                pod.logical_port(),
                device = pod.device()
            );
        }
        self.program("ovs-vsctl").line(&words).run()?;
        self.address_ports_on(if options.bare_uplinks { UPLINK } else { BRIDGE })
    }

    fn patch_pair(&self) -> String {
        format!(
            " -- add-port {BRIDGE} {PATCH} -- set interface {PATCH} type=patch options:peer=k8s-patch-br-int-{BRIDGE} \
             -- add-port br-int k8s-patch-br-int-{BRIDGE} \
             -- set interface k8s-patch-br-int-{BRIDGE} type=patch options:peer={PATCH} \
                external_ids:iface-id={BRIDGE}_{}",
            self.name
        )
    }

    /// Joins breth0 to the overlay by the patch pair, as gateway-init does, on a node that was made without it.
    pub(super) fn join_overlay(&self) -> Result<()> {
        self.program("ovs-vsctl").line(&format!("--timeout=30{}", self.patch_pair())).run().map(drop)
    }

    /// Parts breth0 from the overlay again.
    pub fn leave_overlay(&self) -> Result<()> {
        self.vsctl(&format!("--if-exists del-port {PATCH} -- --if-exists del-port k8s-patch-br-int-{BRIDGE}"))
            .map(drop)
    }

    /// Gives bridge and management port their addresses and routes, as the host's own network configuration would after
    /// a bridge was made again.
    pub fn address_ports(&self) -> Result<()> {
        self.address_ports_on(BRIDGE)
    }

    fn address_ports_on(&self, device: &str) -> Result<()> {
        let port = self.management_port();
        let mut lines = format!("addr flush dev {UPLINK}\nlink set {UPLINK} up\n");
        lines += &interfaces(&[(device, 24, &[self.address()]), (port.as_str(), 24, &[self.management()])]);
        for pod in &self.pods {
            lines += &format!("link set {} up\n", pod.device());
        }
        let (router, inner) = (address::router(), address::subnet(self.number, 1));
        let [cluster4, cluster6] = address::CLUSTER;
        lines += &format!(
            "route replace default via {} dev {device}\nroute replace default via {} dev {device}\n\
             route replace {cluster4} via {} dev {port}\nroute replace {cluster6} via {} dev {port}\n",
            router.v4, router.v6, inner.v4, inner.v6
        );
        self.namespace.ip(lines)
    }

    /// The MAC address of the management port.
    pub fn management_mac(&self) -> String {
        mac_text(mac(0xf4, self.number, 0))
    }

    /// Whether OVN has bound all ports it should: management, patch, pods.
    pub(super) fn is_bound(&self, options: &LabOptions) -> Result<bool> {
        let wanted = 1 + self.pods.len() + usize::from(options.has_patch_pair());
        let text =
            self.vsctl("--no-wait --columns=name --bare find Interface external_ids:ovn-installed=true")?;
        // The patch port has no ovn-installed in every release, so one less is enough when it alone is missing.
        let bound: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let without_patch = bound.iter().filter(|name| !name.starts_with("k8s-patch")).count();
        Ok(without_patch + usize::from(options.has_patch_pair()) >= wanted)
    }

    fn hold<T>(&self, work: impl FnOnce(&mut Daemons) -> T) -> Result<T> {
        let mut daemons =
            self.daemons.lock().map_err(|_| anyhow!("a thread broke while it held the daemons"))?;
        Ok(work(&mut daemons))
    }

    fn wait_for_socket(
        &self,
        path: &Path,
        pick: impl Fn(&mut Daemons) -> Option<&mut RunningProgram>,
    ) -> Result<()> {
        wait_until(&format!("{} to answer", path.display()), || {
            self.hold(|daemons| pick(daemons).map_or(Ok(()), RunningProgram::expect_alive))??;
            Ok(std::os::unix::net::UnixStream::connect(path).is_ok())
        })
    }
}

/// How a daemon is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM, and waiting: what a service manager does.
    Terminate,
    /// SIGKILL: a crash.
    Kill,
}

impl Stop {
    /// Ends a held process in this way.
    pub fn end(self, held: RunningProgram) -> Result<()> {
        match self {
            Self::Terminate => held.terminate(),
            Self::Kill => held.kill(),
        }
    }
}
