//! The lab itself: an administrator, a router, a node.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    nic,
    switch::{Daemon, Switch},
};
use crate::lab::{
    address::{self, Dual},
    identity::Identity,
    machine::Datapath,
    netns::Namespace,
    node::Stop,
    process::{Program, wait_until},
};

/// What a site is made of beyond the usual.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// `ip -batch` lines that configure the NIC, which is up by then.
    pub configuration: String,
    /// A second NIC `eth1` (172.19.0.11/24, fd00:19::11/64) on a network of its own behind the same router.
    pub second: bool,
    /// What the nodes' bridges forward with.
    pub datapath: Datapath,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self { configuration: nic::usual(), second: false, datapath: Datapath::wanted() }
    }
}

/// One node with one NIC, behind a router, and an administrator beyond it.
#[derive(Debug)]
pub struct Site {
    // Daemons end before their namespace goes, and the folder goes last.
    switch: Switch,
    node: Namespace,
    router: Namespace,
    administrator: Namespace,
    options: SiteOptions,
    identity: Identity,
}

impl Site {
    /// A site with the usual configuration.
    pub fn usual() -> Result<Self> {
        Self::up(SiteOptions::default())
    }

    /// A site; returns when the administrator reaches the node.
    pub fn up(options: SiteOptions) -> Result<Self> {
        let identity = Identity::next()?;
        let make = |suffix: &str| Namespace::create(&format!("{}-{suffix}", identity.name()));
        let (mut node, router, administrator) = (make("node")?, make("ext")?, make("adm")?);
        node.own_file_systems()?;
        let switch = Switch::start(identity.dir(), identity.register(), &node)?;
        let site = Self { switch, node, router, administrator, options, identity };
        site.wire()?;
        site.wait_for_link_local_addresses()?;
        site.vsctl(&format!(
            "--no-wait -- init -- set Open_vSwitch . external_ids:system-id=node1 \
             external_ids:ovn-bridge-datapath-type={}",
            site.options.datapath.name()
        ))?;
        site.node.ip(site.options.configuration.as_str())?;
        wait_until("the administrator to reach the node", || {
            Ok(site.reach_once()?.into_iter().all(|answered| answered))
        })?;
        Ok(site)
    }

    /// Links, router and administrator.
    fn wire(&self) -> Result<()> {
        let (node, router, outside) = (self.node.name(), self.router.name(), self.administrator.name());
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth0 netns {node} address {mac} type veth peer name node netns {router}\n\
                 link add eth0 netns {outside} type veth peer name out netns {router}\n",
                mac = nic::MAC,
            ))
            .run()?;
        let [low, high, far] = [address::router(), address::fabric(3), address::administration(1)];
        self.router.ip(format!(
            "link add fabric address 0a:58:ac:00:00:01 type bridge mcast_snooping 0\nlink set fabric up\n\
             link set node master fabric up\nlink set out up\n\
             addr add {}/24 dev fabric\naddr add {}/24 dev fabric\n\
             addr add {}/64 dev fabric nodad\naddr add {}/64 dev fabric nodad\n\
             route add fd00:18::/32 dev fabric\n\
             addr add {}/24 dev out\naddr add {}/64 dev out nodad\n",
            low.v4, high.v4, low.v6, high.v6, far.v4, far.v6
        ))?;
        for family in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            self.router.sysctl(family, "1")?;
        }
        let own = self.administrator();
        self.administrator.ip(format!(
            "link set lo up\nlink set eth0 up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n\
             route add default via {}\nroute add default via {}\n",
            own.v4, own.v6, far.v4, far.v6
        ))?;
        self.node.ip("link set lo up\nlink set eth0 up\n")?;
        if self.options.datapath == Datapath::Userspace {
            // A packet socket takes a frame as it was sent: checksums must be finished by then.
            self.router.finish_checksums("node")?;
            self.node.finish_checksums("eth0")?;
        }
        if self.options.second {
            self.wire_second()?;
        }
        // Devices to come look for duplicates, as on any host.
        self.node.sysctl("net/ipv6/conf/default/accept_dad", "1")
    }

    fn wire_second(&self) -> Result<()> {
        let (node, router) = (self.node.name(), self.router.name());
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth1 netns {node} address 0a:58:ac:00:01:65 type veth peer name node2 netns {router}\n"
            ))
            .run()?;
        self.router.ip(
            "link set node2 up\naddr add 172.19.0.1/24 dev node2\naddr add fd00:19::1/64 dev node2 nodad\n",
        )?;
        self.node.ip(
            "link set eth1 up\naddr add 172.19.0.11/24 dev eth1\naddr add fd00:19::11/64 dev eth1 nodad\n\
             route add 192.168.0.0/16 via 172.19.0.1 dev eth1\nroute add fd77::/32 via fd00:19::1 dev eth1\n",
        )?;
        if self.options.datapath == Datapath::Userspace {
            self.router.finish_checksums("node2")?;
            self.node.finish_checksums("eth1")?;
        }
        Ok(())
    }

    /// The kernel makes them when it notices the carrier, and that may be after the first frames: later than that they
    /// would be a change of the node's state that nobody made.
    fn wait_for_link_local_addresses(&self) -> Result<()> {
        let nics = if self.options.second { 2 } else { 1 };
        wait_until("the NICs' link-local addresses", || {
            let all = self.program("ip").line("-6 -o addr show scope link -tentative").run()?;
            Ok(all.lines().count() == nics)
        })
    }

    /// Takes the NIC away, as its driver does when it is unloaded.
    pub fn unplug(&self) -> Result<()> {
        self.node.ip("link del eth0\n")
    }

    /// Puts it in again: the same name and MAC address, another device, which is down.
    pub fn plug(&self) -> Result<()> {
        let (node, router) = (self.node.name(), self.router.name());
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth0 netns {node} address {mac} type veth peer name node netns {router}\n",
                mac = nic::MAC,
            ))
            .run()?;
        self.router.ip("link set node master fabric up\n")?;
        if self.options.datapath == Datapath::Userspace {
            self.router.finish_checksums("node")?;
            self.node.finish_checksums("eth0")?;
        }
        Ok(())
    }

    /// The node's namespace.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The router's namespace; its port towards the node is `node`, its bridge `fabric`.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The administrator's namespace.
    pub fn outside(&self) -> &Namespace {
        &self.administrator
    }

    /// The node's address.
    pub fn address(&self) -> Dual {
        address::node(1)
    }

    /// The administrator's address.
    pub fn administrator(&self) -> Dual {
        address::administration(10)
    }

    /// The node's daemons.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The site's folder.
    pub fn dir(&self) -> &Path {
        self.identity.dir()
    }

    /// The list of the site's processes.
    pub fn register(&self) -> crate::lab::process::Register {
        self.identity.register()
    }

    /// A program inside the node, under the environment of its switch.
    pub fn program(&self, program: impl AsRef<Path>) -> Program<'_> {
        Program::new(program).envs(self.switch.environment()).inside(&self.node)
    }

    /// `ovs-vsctl` with a line of words.
    pub fn vsctl(&self, line: &str) -> Result<String> {
        self.program("ovs-vsctl").arg("--timeout=30").line(line).run()
    }

    /// OVN's own bridge, as every node of a cluster has it. The first bridge of a userspace datapath costs ovs-vswitchd
    /// a tenth of a second, in which it measures the processor's clock; with this one there it is not the NIC's.
    pub fn add_integration_bridge(&self) -> Result<()> {
        let kind = self.options.datapath.name();
        self.vsctl(&format!("add-br br-int -- set Bridge br-int datapath_type={kind}")).map(drop)
    }

    /// `ip -batch` lines inside the node.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.node.ip(lines)
    }

    /// Kills a daemon and waits for its end.
    pub fn kill(&self, daemon: Daemon) -> Result<()> {
        self.switch.end(daemon, Stop::Kill)
    }

    /// Starts what does not run of the two daemons.
    pub fn restart_daemons(&self) -> Result<()> {
        for daemon in Daemon::BOTH {
            if !self.switch.is_up(daemon)? {
                self.switch.launch(daemon, &self.node)?;
            }
        }
        Ok(())
    }

    /// Whether the node's database has a bridge of that name.
    pub fn has_bridge(&self, bridge: &str) -> Result<bool> {
        let names = self.vsctl("--no-wait list-br")?;
        Ok(names.lines().any(|name| name == bridge))
    }

    /// Ends of the daemons' logs, for an error's context.
    pub fn diagnosis(&self) -> String {
        let end = |daemon: Daemon| {
            let path = self.dir().join(format!("{}.log", daemon.name()));
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))
                .unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
            format!("the end of {}:\n{}\n", path.display(), tail.join("\n"))
        };
        Daemon::BOTH.map(end).concat()
    }
}
