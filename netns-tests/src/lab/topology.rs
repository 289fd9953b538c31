//! The logical network, kept by a small controller that exists for the tests alone and does not ship.
//!
//! Names and `external_ids` are those of the original integration; the rows called N1 to N8 are the ones the flow
//! table of the gateway bridge relies on:
//!
//! | row | here |
//! |---|---|
//! | N1 host-network endpoints by management address | `Topology::services` |
//! | N2 every gateway's load balancers on every node switch | base |
//! | N3 pods reach node addresses by the management port (policy 1004) | base |
//! | N4 a port range for SNAT | base, when [`LabOptions::snat_ports`] is given |
//! | N5 a load balancer without SNAT for policy Local | `Topology::services` |
//! | N6 answers of N5 leave by their own gateway (policy 1003, or routes by source) | both |
//! | N7 routers do not learn from every ARP request | base |
//! | N8 conntrack of removed endpoints is flushed | base |

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};

use super::{
    Egress, LabOptions,
    address::{self, Dual, Family, mac, mac_text},
    central::Central,
    node::{BRIDGE, Node},
    service::{EndpointSpec, Protocol, ServiceSpec},
};

/// The cluster router.
const ROUTER: &str = "k8s-master";

/// The load balancers of the lab, by what they are for.
#[derive(Debug)]
pub struct Topology {
    balancers: BTreeMap<Balancer, String>,
    gateways: Vec<usize>,
    egress: Egress,
}

/// What a load balancer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Cluster addresses, on every node switch.
    Cluster,
    /// Addresses of gateway `n`, with SNAT to its join address.
    Gateway(usize),
    /// The same for policy Local: no SNAT.
    Local(usize),
}

type Balancer = (Scope, Protocol);

impl Topology {
    /// Writes the base: routers, switches, ports, NAT, load balancers without addresses.
    pub(super) fn write(central: &Central, options: &LabOptions) -> Result<Self> {
        let gateways: Vec<usize> = (1..=options.nodes).collect();
        let scopes = std::iter::once(Scope::Cluster)
            .chain(gateways.iter().flat_map(|&gateway| [Scope::Gateway(gateway), Scope::Local(gateway)]));
        let keys: Vec<Balancer> =
            scopes.flat_map(|scope| Protocol::ALL.map(|protocol| (scope, protocol))).collect();
        let mut words = Words::default();
        for &key in &keys {
            words.say(&create_balancer(key));
        }
        base(&mut words);
        for &gateway in &gateways {
            node_switch(&mut words, gateway, options, &keys);
            gateway_router(&mut words, gateway, options, &keys);
        }
        let printed = central.nbctl(words.0).context("writing the lab's logical network")?;
        let identities = printed.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        let balancers = keys.into_iter().zip(identities).collect();
        Ok(Self { balancers, gateways, egress: options.egress })
    }

    /// Makes the load balancers say these Services, and nothing else.
    pub(super) fn services(&self, central: &Central, services: &[ServiceSpec]) -> Result<()> {
        let mut vips: BTreeMap<Balancer, BTreeMap<String, String>> = BTreeMap::new();
        let mut words = Words::default();
        words.say(&format!("lr-policy-del {ROUTER} 1003"));
        for service in services {
            for port in &service.ports {
                for family in Family::ALL {
                    let mut serve =
                        |scope, address: IpAddr, port_number: u16, endpoints: &[&EndpointSpec]| {
                            let backends: Vec<String> = endpoints
                                .iter()
                                .map(|e| e.overlay_address().port(family, port.target_port).to_string())
                                .collect();
                            vips.entry((scope, port.protocol)).or_default().insert(
                                SocketAddr::new(address, port_number).to_string(),
                                backends.join(","),
                            );
                        };
                    let all: Vec<&EndpointSpec> = service.usable().collect();
                    serve(Scope::Cluster, service.cluster_ip.of(family), port.port, &all);
                    for &gateway in &self.gateways {
                        let own: Vec<&EndpointSpec> =
                            all.iter().copied().filter(|e| e.node == gateway && !e.is_host()).collect();
                        let (scope, endpoints) = if service.local {
                            (Scope::Local(gateway), &own)
                        } else {
                            (Scope::Gateway(gateway), &all)
                        };
                        if service.local && endpoints.is_empty() {
                            continue;
                        }
                        serve(scope, address::node(gateway).of(family), port.node_port, endpoints);
                        // The first gateway alone answers for an external address on the nodes' own link.
                        let external = service.external_ips.iter().filter(|_| gateway == 1);
                        let outside = external.chain(&service.load_balancer).copied();
                        for outside in outside.filter(|a| Family::of(*a) == family) {
                            serve(scope, outside, port.port, endpoints);
                        }
                        if service.local && self.egress == Egress::FirstGateway {
                            for endpoint in &own {
                                let source = endpoint.address.port(family, port.target_port);
                                words.answer_by_own_gateway(gateway, port.protocol, source);
                            }
                        }
                    }
                }
            }
        }
        for (key, identity) in &self.balancers {
            words.say(&format!("clear load_balancer {identity} vips"));
            if let Some(vips) = vips.get(key) {
                let pairs: Vec<String> =
                    vips.iter().map(|(address, backends)| format!("\"{address}\"=\"{backends}\"")).collect();
                words.say(&format!("set load_balancer {identity} vips={{{}}}", pairs.join(",")));
            }
        }
        central.nbctl(words.0).context("writing the lab's load balancers").map(drop)
    }
}

/// Words of one `ovn-nbctl` transaction.
#[derive(Debug, Default)]
struct Words(Vec<String>);

impl Words {
    /// One command, words split at white space.
    fn say(&mut self, command: &str) {
        self.say_with(command, &[]);
    }

    /// One command whose last words hold blanks.
    fn say_with(&mut self, command: &str, last: &[&str]) {
        self.0.push("--".to_owned());
        self.0.extend(command.split_whitespace().map(str::to_owned));
        self.0.extend(last.iter().map(|word| (*word).to_owned()));
    }

    /// Row N6: the answers of an endpoint served without SNAT go back through the gateway the client used.
    fn answer_by_own_gateway(&mut self, gateway: usize, protocol: Protocol, source: SocketAddr) {
        let family = Family::of(source.ip());
        let (ip, index) = if family == Family::V4 { ("ip4", 0) } else { ("ip6", 1) };
        let condition = format!(
            "{ip}.src == {} && {}.src == {} && {ip}.dst != {} && {ip}.dst != {}",
            source.ip(),
            protocol.name(),
            source.port(),
            address::CLUSTER[index],
            address::JOIN[index]
        );
        let join = address::gateway(gateway).of(family).to_string();
        self.say_with(&format!("lr-policy-add {ROUTER} 1003"), &[&condition, "reroute", &join]);
    }
}

fn handle((scope, protocol): Balancer) -> String {
    let protocol = protocol.name();
    match scope {
        Scope::Cluster => format!("@cluster_{protocol}"),
        Scope::Gateway(number) => format!("@gateway{number}_{protocol}"),
        Scope::Local(number) => format!("@local{number}_{protocol}"),
    }
}

/// Load balancers have no name in this integration; they are found by their `external_ids`.
fn create_balancer(key: Balancer) -> String {
    let (scope, protocol) = key;
    let (lower, upper) = (protocol.name(), protocol.name().to_uppercase());
    let mark = match scope {
        Scope::Cluster => format!("external_ids:k8s-cluster-lb-{lower}=yes"),
        Scope::Gateway(number) => format!("external_ids:{upper}_lb_gateway_router=GR_node{number}"),
        Scope::Local(number) => {
            format!("external_ids:{upper}_lb_gateway_router_local=GR_node{number} options:skip_snat=true")
        }
    };
    let handle = handle(key);
    format!(
        "--id={handle} create load_balancer protocol={lower} {mark} options:ct_flush=true options:reject=true"
    )
}

/// The cluster router and the join switch.
fn base(words: &mut Words) {
    let join = address::join(1);
    let router_mac = mac_text(mac(0x64, 0, 1));
    words.say(&format!("lr-add {ROUTER}"));
    words.say(&format!("set logical_router {ROUTER} external_ids:k8s-cluster-router=yes"));
    words.say("ls-add join");
    words.say(&format!("lrp-add {ROUTER} rtoj-{ROUTER} {router_mac} {}/24 {}/64", join.v4, join.v6));
    words.say(&format!("set logical_router_port rtoj-{ROUTER} external_ids:connect_to_join=yes"));
    router_port(words, "join", &format!("jtor-{ROUTER}"), &format!("rtoj-{ROUTER}"), &router_mac);
    let first = address::gateway(1);
    words.say(&format!("lr-route-add {ROUTER} 0.0.0.0/0 {}", first.v4));
    words.say(&format!("lr-route-add {ROUTER} ::/0 {}", first.v6));
}

/// The switch of a node's pods, its router port, the management port and the pods' ports.
fn node_switch(words: &mut Words, number: usize, options: &LabOptions, balancers: &[Balancer]) {
    let name = format!("node{number}");
    let (router, management) = (address::subnet(number, 1), address::management(number));
    let router_mac = mac_text(mac(0x64, number, 2));
    words.say(&format!("lrp-add {ROUTER} rtos-{name} {router_mac} {}/24 {}/64", router.v4, router.v6));
    words.say(&format!("ls-add {name}"));
    words.say(&format!(
        "set logical_switch {name} other_config:subnet={}/24 external_ids:gateway_ip={}/24",
        address::subnet(number, 0).v4,
        router.v4
    ));
    router_port(words, &name, &format!("stor-{name}"), &format!("rtos-{name}"), &router_mac);
    switch_port(words, &name, &format!("k8s-{name}"), &mac_text(mac(0xf4, number, 0)), management);
    for pod in 1..=options.pods_per_node {
        let address = address::subnet(number, u8::try_from(pod + 2).unwrap_or(u8::MAX));
        let port = format!("default_pod{number}{pod}");
        switch_port(words, &name, &port, &mac_text(mac(0xf4, number, pod)), address);
        words.say(&format!(
            "set logical_switch_port {port} external_ids:namespace=default external_ids:pod=true \
             external_ids:logical_switch={name}"
        ));
    }
    // N2: a switch carries the load balancers of all gateways, so that pods reach every node's ports.
    let all: Vec<String> = balancers.iter().copied().map(handle).collect();
    words.say(&format!("set logical_switch {name} load_balancer={}", all.join(",")));
    // N3: the gateway router owns the node's address, too; the host is reached by its management port.
    for family in Family::ALL {
        let ip = if family == Family::V4 { "ip4" } else { "ip6" };
        let condition = format!("{ip}.dst == {}", address::node(number).of(family));
        let by = management.of(family).to_string();
        words.say_with(&format!("lr-policy-add {ROUTER} 1004"), &[&condition, "reroute", &by]);
    }
}

/// The gateway router of a node, between join and the outside.
fn gateway_router(words: &mut Words, number: usize, options: &LabOptions, balancers: &[Balancer]) {
    let (name, router) = (format!("node{number}"), format!("GR_node{number}"));
    let (physical, join, next) = (address::node(number), address::gateway(number), address::router());
    let (join_mac, outer_mac) = (mac_text(mac(0x64, number, 3)), mac_text(mac(0xac, number, 100)));
    words.say(&format!("lr-add {router}"));
    words.say_with(
        &format!(
            "set logical_router {router} options:chassis={name} options:always_learn_from_arp_request=false \
             external_ids:physical_ip={} external_ids:first_gateway={}",
            physical.v4,
            if number == 1 { "yes" } else { "no" }
        ),
        &[&format!("options:lb_force_snat_ip=\"{} {}\"", join.v4, join.v6)],
    );
    words.say(&format!("lrp-add {router} rtoj-{router} {join_mac} {}/24 {}/64", join.v4, join.v6));
    words.say(&format!("set logical_router_port rtoj-{router} external_ids:connect_to_join=yes"));
    router_port(words, "join", &format!("jtor-{router}"), &format!("rtoj-{router}"), &join_mac);
    words.say(&format!("ls-add ext_{name}"));
    words.say(&format!("lsp-add ext_{name} {BRIDGE}_{name}"));
    words.say(&format!("lsp-set-addresses {BRIDGE}_{name} unknown"));
    words.say(&format!("lrp-add {router} rtoe-{router} {outer_mac} {}/24 {}/64", physical.v4, physical.v6));
    words.say(&format!("set logical_router_port rtoe-{router} external_ids:gateway-physical-ip=yes"));
    router_port(
        words,
        &format!("ext_{name}"),
        &format!("etor-{router}"),
        &format!("rtoe-{router}"),
        &outer_mac,
    );
    let own: Vec<String> =
        balancers.iter().filter(|(scope, _)| scope_is_of(*scope, number)).copied().map(handle).collect();
    words.say(&format!("set logical_router {router} load_balancer={}", own.join(",")));
    let inner = address::join(1);
    for (index, family) in Family::ALL.into_iter().enumerate() {
        let default = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        let cluster = address::CLUSTER[index];
        words.say(&format!("lr-route-add {router} {cluster} {}", inner.of(family)));
        words.say(&format!("lr-route-add {router} {default} {} rtoe-{router}", next.of(family)));
        // N4: with a range of its own, OVN never picks a source port the host could have.
        let ports =
            options.snat_ports.map(|ports| format!("external_port_range=\"{ports}\"")).unwrap_or_default();
        words.say(&format!(
            "--id=@nat{number}_{index} create nat type=snat logical_ip=\"{cluster}\" external_ip=\"{}\" {ports}",
            physical.of(family)
        ));
        words.say(&format!("add logical_router {router} nat @nat{number}_{index}"));
        if options.egress == Egress::OwnGateway {
            let subnet = ["24", "64"][index];
            words.say(&format!(
                "--policy=src-ip lr-route-add {ROUTER} {}/{subnet} {}",
                address::subnet(number, 0).of(family),
                join.of(family)
            ));
        }
    }
}

fn scope_is_of(scope: Scope, number: usize) -> bool {
    matches!(scope, Scope::Gateway(n) | Scope::Local(n) if n == number)
}

fn router_port(words: &mut Words, switch: &str, port: &str, peer: &str, mac: &str) {
    words.say(&format!("lsp-add {switch} {port}"));
    words.say(&format!(
        "set logical_switch_port {port} type=router options:router-port={peer} addresses=\"{mac}\""
    ));
}

fn switch_port(words: &mut Words, switch: &str, port: &str, mac: &str, address: Dual) {
    words.say(&format!("lsp-add {switch} {port}"));
    words.say_with(&format!("lsp-set-addresses {port}"), &[&format!("{mac} {} {}", address.v4, address.v6)]);
}

/// Whether a node's gateway router has its outer port bound.
pub(super) fn is_attached(central: &Central, node: &Node) -> Result<bool> {
    let query = ["--bare", "--columns=up", "find", "port_binding"];
    let port = format!("logical_port={BRIDGE}_{}", node.name());
    let text = central.sbctl(query.into_iter().chain([port.as_str()]))?;
    Ok(text.trim() == "true")
}
