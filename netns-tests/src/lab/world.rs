//! What is outside of the nodes: the fabric their NICs are plugged into, its router, the internet, the administrator.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    address::{self, Dual, mac, mac_text},
    machine::Datapath,
    netns::Namespace,
    process::Program,
};

/// The outside world of a lab.
///
/// ```text
/// internet 203.0.113.10, .11 --+
///                              +-- router 172.18.0.1 -- fabric (a Linux bridge) -- eth0 of every node, central
/// administrator 192.0.2.10 ----+
/// ```
#[derive(Debug)]
pub struct World {
    internet: Host,
    administrator: Host,
    router: Host,
    fabric: Namespace,
    datapath: Datapath,
}

/// A host with a namespace of its own.
#[derive(Debug)]
pub struct Host {
    name: &'static str,
    namespace: Namespace,
    address: Dual,
}

impl Host {
    /// What it is called; its servers answer with this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its (first) address.
    pub fn address(&self) -> Dual {
        self.address
    }
}

impl World {
    /// Makes the namespaces and the links among them. Nodes plug in later.
    pub(super) fn make(lab: &str, datapath: Datapath) -> Result<Self> {
        let make = |suffix: &str| Namespace::create(&format!("{lab}-{suffix}"));
        let (fabric, router, internet, administrator) =
            (make("fab")?, make("ext")?, make("inet")?, make("adm")?);
        let (fab, ext, inet, adm) = (fabric.name(), router.name(), internet.name(), administrator.name());
        let mac = |number| mac_text(mac(0xac, 0, number));
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth0 netns {ext} address {} type veth peer name router netns {fab}\n\
                 link add eth1 netns {ext} address {} type veth peer name eth0 netns {inet} address {}\n\
                 link add eth2 netns {ext} address {} type veth peer name eth0 netns {adm} address {}\n",
                mac(1),
                mac(2),
                mac(10),
                mac(3),
                mac(11),
            ))
            .run()?;
        fabric.ip("link add br0 type bridge mcast_snooping 0\n\
             link set br0 up\n\
             link set router master br0 up\n\
             link set lo up\n")?;
        for family in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            router.sysctl(family, "1")?;
        }
        router.ip(interfaces(&[
            ("eth0", 24, &[address::router()]),
            ("eth1", 24, &[address::internet(1)]),
            ("eth2", 24, &[address::administration(1)]),
        ]))?;
        internet.ip(interfaces(&[("eth0", 24, &[address::internet(10), address::internet(11)])])
            + &default_route(address::internet(1)))?;
        administrator.ip(interfaces(&[("eth0", 24, &[address::administration(10)])])
            + &default_route(address::administration(1)))?;
        let host = |name, namespace, address| Host { name, namespace, address };
        Ok(Self {
            internet: host("internet", internet, address::internet(10)),
            administrator: host("administrator", administrator, address::administration(10)),
            router: host("router", router, address::router()),
            fabric,
            datapath,
        })
    }

    /// A host of the internet (addresses 203.0.113.10 and .11, and their IPv6 like).
    pub fn internet(&self) -> &Host {
        &self.internet
    }

    /// The administrator's machine, behind the router.
    pub fn administrator(&self) -> &Host {
        &self.administrator
    }

    /// The router, default gateway of the nodes.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// The fabric: a Linux bridge `br0`, with a port for each machine named after it.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// Plugs a namespace into the fabric with a NIC called `eth0`.
    pub(super) fn plug(&self, namespace: &Namespace, port: &str, mac: &str) -> Result<()> {
        let (fab, name) = (self.fabric.name(), namespace.name());
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth0 netns {name} address {mac} type veth peer name {port} netns {fab}\n"
            ))
            .run()?;
        self.fabric.ip(format!("link set {port} master br0 up\n"))?;
        match self.datapath {
            Datapath::Userspace => self.fabric.finish_checksums(port),
            Datapath::Kernel => Ok(()),
        }
    }
}

/// `ip -batch` lines that bring devices up with their addresses (IPv4 prefix as given, IPv6 /64).
pub(super) fn interfaces(devices: &[(&str, u8, &[Dual])]) -> String {
    let mut lines = String::from("link set lo up\n");
    for (device, prefix, addresses) in devices {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "link set {device} up");
        for address in *addresses {
            let _ = writeln!(lines, "addr replace {}/{prefix} dev {device}", address.v4);
            let _ = writeln!(lines, "addr replace {}/64 dev {device} nodad", address.v6);
        }
    }
    lines
}

/// `ip -batch` lines for a default route of each family.
pub(super) fn default_route(via: Dual) -> String {
    format!("route replace default via {}\nroute replace default via {}\n", via.v4, via.v6)
}
