//! The objects as this product keeps them: only what the data path needs.
//!
//! A cluster may have 10,000 Services with as many slices, and all of them stay in memory. So text is shared or
//! boxed, lists are boxed slices, and what is not used (labels, annotations, managed fields) is dropped while the
//! JSON is read, before anything is stored.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

/// Namespace and name of a namespaced object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name in it.
    pub name: Arc<str>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub key: ObjectKey,
    /// When it was created, in seconds since 1970; a manifest may have no creation time.
    pub created: Option<i64>,
    /// How it is exposed.
    pub kind: ServiceType,
    /// `clusterIP: None`: the pods are addressed directly and there is nothing to balance.
    pub headless: bool,
    /// The families it is for. A NodePort is open only for these.
    pub families: Families,
    /// The cluster addresses, at most one per family. Empty when headless, and for `ExternalName`.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// The load balancer's addresses, from the status. Entries that are only a host name are left out.
    pub ingress: Box<[Ingress]>,
    /// The ports.
    pub ports: Box<[ServicePort]>,
    /// Which endpoints take what comes from outside.
    pub external_traffic_policy: TrafficPolicy,
    /// Which endpoints take what comes from inside the cluster.
    pub internal_traffic_policy: TrafficPolicy,
    /// Where a load balancer asks this node whether it has endpoints. Set for `LoadBalancer` with
    /// [`TrafficPolicy::Local`] only.
    pub health_check_node_port: Option<NonZeroU16>,
    /// The sources that may use the load balancer's addresses. `None`: every source. An empty list does not occur.
    pub source_ranges: Option<Box<[IpNet]>>,
    /// `publishNotReadyAddresses`: endpoints count as ready whatever their condition.
    pub publish_not_ready: bool,
    /// Labelled `service.kubernetes.io/service-proxy-name`: another proxy serves it, and it is not ours to touch.
    pub other_proxy: bool,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on addresses of a load balancer.
    LoadBalancer,
    /// A DNS alias: no data path at all.
    ExternalName,
}

/// `externalTrafficPolicy` and `internalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Endpoints on the node that got the packet; without one, the packet is dropped.
    Local,
}

/// The address families of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Families {
    /// It is for IPv4.
    pub v4: bool,
    /// It is for IPv6.
    pub v6: bool,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name. Empty when the Service has one port without a name; it joins this port to [`EndpointPort::name`].
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the cluster, external and load balancer addresses.
    pub port: NonZeroU16,
    /// The port on the nodes.
    pub node_port: Option<NonZeroU16>,
    /// Where the endpoints listen; what is really used stands in the slice.
    pub target_port: TargetPort,
}

/// `targetPort`: a number, or the name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(NonZeroU16),
    /// A name, which each pod may give another number.
    Name(Box<str>),
}

/// An address of the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ingress {
    /// The address.
    pub ip: IpAddr,
    /// How packets to it arrive on the nodes.
    pub mode: IpMode,
}

/// `ipMode` of a load balancer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum IpMode {
    /// Packets arrive with the load balancer's address as destination: nodes must take them for their own.
    #[default]
    Vip,
    /// The load balancer changes the destination itself; a node must not answer for the address.
    Proxy,
}

/// A part of the endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its name.
    pub key: ObjectKey,
    /// The Service it is for, from the label `kubernetes.io/service-name`.
    pub service: Option<ObjectKey>,
    /// What the addresses are. Slices of host names carry no endpoints here.
    pub address_type: AddressType,
    /// The endpoints.
    pub endpoints: Box<[Endpoint]>,
    /// The ports every endpoint of the slice listens on.
    pub ports: Box<[EndpointPort]>,
}

/// `addressType` of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Host names, which are no concern of a data path.
    Fqdn,
}

/// One endpoint, which is one pod as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address. Kubernetes allows more and calls them interchangeable; the first is kept, as kube-proxy does.
    pub address: IpAddr,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, even though it may be terminating.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// The node it is on.
    pub node: Option<Arc<str>>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name, as in [`ServicePort::name`].
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port. `None`: every port.
    pub port: Option<NonZeroU16>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses of type `InternalIP`.
    pub internal_ips: Box<[IpAddr]>,
}

impl ObjectKey {
    /// A key from two texts.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            // Of the whole cluster, as a node is.
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Service {
    /// Whether a gateway has anything to do for it: it has a data path, is balanced, and no other proxy serves it.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.kind != ServiceType::ExternalName && !self.headless && !self.other_proxy
    }
}

impl Endpoint {
    /// Whether it may be given new connections when it is the kind that is preferred: ready, or everything counts
    /// as ready for this Service.
    #[must_use]
    pub fn is_ready(&self, service: &Service) -> bool {
        self.ready || service.publish_not_ready
    }

    /// Whether it may be given new connections when no ready one is left: it still answers while it terminates.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        self.serving && self.terminating
    }
}

impl Protocol {
    /// The name in the API: `TCP`, `UDP` or `SCTP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
