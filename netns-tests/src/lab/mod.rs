//! The lab: nodes in network namespaces, OVN central, an outside world, pods. See the crate's page for how to use it.

pub mod address;
pub mod central;
pub mod cluster;
pub mod helper;
pub mod identity;
pub mod machine;
pub mod netns;
mod netns_settings;
pub mod node;
pub mod pod;
pub mod process;
pub mod reference_helper;
pub mod service;
pub mod topology;
pub mod world;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};

use self::{
    central::Central,
    identity::Identity,
    machine::Datapath,
    node::{BRIDGE, Node, Stop},
    pod::Pod,
    process::wait_until,
    service::ServiceSpec,
    topology::Topology,
    world::World,
};

/// What a lab is to look like.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// How many nodes, each a gateway: 1 to 9.
    pub nodes: usize,
    /// How many pods on each node.
    pub pods_per_node: usize,
    /// A source port range for OVN's SNAT (row N4), none by default.
    pub snat_ports: Option<PortRange>,
    /// Which gateway carries a pod's way out.
    pub egress: Egress,
    /// Whether the lab makes the patch pair between breth0 and br-int; the helper makes it when the lab does not.
    pub patch_pair: bool,
    /// Nodes start with their address on the NIC itself, as they come from the installer: no breth0, no patch pair. For
    /// tests that put the NIC on a bridge themselves and then call `Node::join_overlay`.
    pub bare_uplinks: bool,
    /// What the switches forward with; by default what the environment says.
    pub datapath: Datapath,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            pods_per_node: 2,
            snat_ports: None,
            egress: Egress::FirstGateway,
            patch_pair: true,
            bare_uplinks: false,
            datapath: Datapath::wanted(),
        }
    }
}

impl LabOptions {
    /// Whether nodes have the patch pair when the lab is up.
    fn has_patch_pair(&self) -> bool {
        self.patch_pair && !self.bare_uplinks
    }
}

/// Which gateway carries a pod's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// The first gateway carries all, as in the original: pods of other nodes cross a tunnel.
    FirstGateway,
    /// Every node's own gateway, by routes on the source address.
    OwnGateway,
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub low: u16,
    /// The highest port.
    pub high: u16,
}

impl PortRange {
    /// The range the flow table's proofs were made with.
    pub const USUAL: Self = Self { low: 40000, high: 59999 };
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

/// A lab that is up. Dropping it ends every process and removes every namespace and file.
#[derive(Debug)]
pub struct Lab {
    // The order of the fields is the order they go down in.
    nodes: Vec<Arc<Node>>,
    topology: Topology,
    central: Central,
    world: World,
    options: LabOptions,
    started_again: AtomicUsize,
    identity: Identity,
}

impl Lab {
    /// Brings a lab up without helpers: returns when OVN has bound every port.
    ///
    /// The bridge's own `NORMAL` learns the MAC address that host and gateway router share wherever it spoke last, which
    /// can cut ovn-controller off for good. So it is pinned to the host here: the host's traffic works, pods do not
    /// reach the outside until there is a helper.
    pub fn up(options: LabOptions) -> Result<Self> {
        let lab = Self::start(options)?;
        if !lab.options.bare_uplinks {
            for node in &lab.nodes {
                node.appctl(&format!("fdb/add {BRIDGE} {BRIDGE} 0 {}", node.mac()))?;
            }
        }
        lab.wait_until_bound()?;
        Ok(lab)
    }

    /// Starts everything and does not wait for OVN to bind the ports: that may need the helper's flows.
    pub fn start(options: LabOptions) -> Result<Self> {
        let identity = Identity::next()?;
        let world = World::make(identity.name(), options.datapath)?;
        let (identity_ref, world_ref, options_ref) = (&identity, &world, &options);
        let (central, nodes) = thread::scope(|scope| {
            let central = scope.spawn(move || -> Result<_> {
                let central = Central::start(identity_ref, world_ref)?;
                let topology = Topology::write(&central, options_ref)?;
                Ok((central, topology))
            });
            let nodes: Vec<_> = (1..=options_ref.nodes)
                .map(|number| scope.spawn(move || Node::make(identity_ref, world_ref, options_ref, number)))
                .collect();
            let nodes: Vec<_> = nodes.into_iter().map(|node| joined(node.join())).collect();
            (joined(central.join()), nodes)
        });
        let (central, topology) = central.context("starting OVN central")?;
        let nodes = nodes.into_iter().map(|node| node.map(Arc::new)).collect::<Result<Vec<_>>>();
        let nodes = nodes.context("making a node")?;
        for node in &nodes {
            node.start_controller()?;
        }
        Ok(Self { nodes, topology, central, world, options, started_again: AtomicUsize::new(0), identity })
    }

    /// Waits until OVN has bound every port.
    ///
    /// Once in some hundred bring-ups an ovn-controller of OVN 23.03 connects to everything and then claims nothing, ever,
    /// with every flow of the split in place; its cause was not found. Such a one is started again, said on standard
    /// error and counted ([`Lab::controllers_started_again`]). A bring-up that the split itself locks stays locked.
    pub fn wait_until_bound(&self) -> Result<()> {
        for node in &self.nodes {
            let bound = || {
                wait_until(&format!("OVN to bind the ports of {}", node.name()), || {
                    Ok(node.is_bound(&self.options)?
                        && (!self.options.has_patch_pair() || topology::is_attached(&self.central, node)?))
                })
            };
            if let Err(stuck) = bound() {
                let south = self.central.sbctl(["show"]).unwrap_or_else(|error| format!("{error:#}"));
                eprintln!("{stuck:#}; ovn-controller is started again\n{}{south}", node.diagnosis());
                self.hold_if_asked();
                self.started_again.fetch_add(1, Ordering::Relaxed);
                node.stop_controller(Stop::Kill)?;
                node.start_controller()?;
                bound().with_context(|| {
                    format!("{}also after another start of ovn-controller", node.diagnosis())
                })?;
            }
        }
        Ok(())
    }

    /// Joins a bare node's breth0 to the overlay, and waits until OVN has bound the patch port.
    pub fn join_overlay(&self, node: &Node) -> Result<()> {
        node.join_overlay()?;
        wait_until(&format!("OVN to bind the patch port of {}", node.name()), || {
            topology::is_attached(&self.central, node)
        })
    }

    /// How many ovn-controllers had to be started again for their ports to be bound.
    pub fn controllers_started_again(&self) -> usize {
        self.started_again.load(Ordering::Relaxed)
    }

    /// With `LAB_HOLD=1` a lab that does not come up stays for a person to look at.
    fn hold_if_asked(&self) {
        if std::env::var_os("LAB_HOLD").is_some() {
            eprintln!("{} is held; end the test to let it go", self.dir().display());
            thread::sleep(std::time::Duration::from_secs(3600));
        }
    }

    /// Node `number`, from 1.
    pub fn node(&self, number: usize) -> Result<&Arc<Node>> {
        let node = number.checked_sub(1).and_then(|index| self.nodes.get(index));
        node.ok_or_else(|| anyhow!("the lab has no node {number}"))
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Pod `number` of node `node`, both from 1.
    pub fn pod(&self, node: usize, number: usize) -> Result<&Pod> {
        self.node(node)?.pod(number)
    }

    /// The outside.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// OVN central.
    pub fn central(&self) -> &Central {
        &self.central
    }

    /// What it was made from.
    pub fn options(&self) -> &LabOptions {
        &self.options
    }

    /// Its folder, removed when the lab goes.
    pub fn dir(&self) -> &Path {
        self.identity.dir()
    }

    /// The folder into which [`Lab::apply`] writes the manifests.
    pub fn manifests(&self) -> PathBuf {
        self.dir().join("manifests")
    }

    /// Makes these the Services of the cluster: in OVN's load balancers, and as manifests. Returns when every chassis
    /// has the load balancers; what a helper makes of the manifests is for the caller to wait for.
    pub fn apply(&self, services: &[ServiceSpec]) -> Result<()> {
        self.write_manifests(services)?;
        self.topology.services(&self.central, services)?;
        self.central.settle()
    }

    /// Makes the folder of manifests, empty, when it is not there yet.
    pub fn write_manifests_if_missing(&self) -> Result<()> {
        std::fs::create_dir_all(self.manifests()).context("making the folder of manifests")
    }

    /// Makes the manifests say these Services: one file each, replaced in one step, others removed.
    pub fn write_manifests(&self, services: &[ServiceSpec]) -> Result<()> {
        let dir = self.manifests();
        std::fs::create_dir_all(&dir)?;
        let file = |name: &str| dir.join(format!("{name}.yaml"));
        for service in services {
            let draft = dir.join(format!(".{}.tmp", service.name));
            std::fs::write(&draft, service.manifest()?)?;
            std::fs::rename(&draft, file(&service.name))?;
        }
        for entry in std::fs::read_dir(&dir)?.flatten() {
            if !services.iter().any(|service| file(&service.name) == entry.path()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.map_err(|_| anyhow!("a thread of the lab broke"))?
}
