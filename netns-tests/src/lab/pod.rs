//! A pod: a namespace of its own with a veth into the node's br-int.

use anyhow::Result;

use super::{
    address::{self, Dual, mac, mac_text},
    machine::Datapath,
    netns::Namespace,
    process::Program,
    world::{default_route, interfaces},
};

/// Largest packet of a pod: 1500 less Geneve's 58 bytes, rounded down as the original does.
pub const POD_MTU: u16 = 1400;

/// A pod of a node. Its name is also the namespace/name of its logical port, `default_<name>`.
#[derive(Debug)]
pub struct Pod {
    name: String,
    node: usize,
    number: usize,
    namespace: Namespace,
}

impl Pod {
    /// Makes the namespace and the veth; the node's side is called [`Pod::device`] and not yet a port of OVS.
    pub(super) fn make(
        lab: &str,
        node: usize,
        node_namespace: &Namespace,
        number: usize,
        datapath: Datapath,
    ) -> Result<Self> {
        let name = format!("pod{node}{number}");
        let namespace = Namespace::create(&format!("{lab}-{name}"))?;
        let pod = Self { name, node, number, namespace };
        Program::new("ip")
            .args(["-batch", "-"])
            .input(format!(
                "link add eth0 netns {} mtu {POD_MTU} address {} type veth peer name {} netns {}\n",
                pod.namespace.name(),
                pod.mac(),
                pod.device(),
                node_namespace.name(),
            ))
            .run()?;
        if datapath == Datapath::Userspace {
            pod.namespace.finish_checksums("eth0")?;
        }
        pod.namespace
            .ip(interfaces(&[("eth0", 24, &[pod.address()])]) + &default_route(address::subnet(node, 1)))?;
        Ok(pod)
    }

    /// Its name: `pod` and the numbers of node and pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its node.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses.
    pub fn address(&self) -> Dual {
        address::subnet(self.node, u8::try_from(self.number + 2).unwrap_or(u8::MAX))
    }

    /// Its MAC address.
    pub fn mac(&self) -> String {
        mac_text(mac(0xf4, self.node, self.number))
    }

    /// The node's side of its veth, a port of br-int.
    pub fn device(&self) -> String {
        self.name.clone()
    }

    /// Its logical port.
    pub fn logical_port(&self) -> String {
        format!("default_{}", self.name)
    }
}
