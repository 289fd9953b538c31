mod execution;

use std::path::PathBuf;
use std::time::Duration;

use ovs::ovsdb::Remote;
use proptest::prelude::*;

use host::rtnl::address::Address;
use host::rtnl::link::Link;
use host::rtnl::route::Route;
use host::rtnl::{Attribute, Kind, Row};

use super::*;
use crate::managers::{Details, DetectedManager, Manager};
use crate::observe::{
    AddressSnapshot, Binding, BoundSocket, Bridge, FirewallRule, LinkSnapshot, Port, RouteSnapshot,
};

fn options() -> Options {
    Options {
        dry_run: true,
        form: cli::OutputFormat::Table,
        force: false,
        datapath: None,
        probe: true,
        verify_timeout: Duration::from_secs(15),
        verify_cmd: None,
        confirm: None,
        state_dir: PathBuf::from("/var/lib/ovn-k8s"),
        db: Remote::unix("/run/openvswitch/db.sock"),
    }
}

fn link(index: u32, name: &str, kind: &str) -> LinkSnapshot {
    LinkSnapshot {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        ethernet: true,
        up: true,
        carrier: true,
        mac: format!("02:00:00:00:00:{index:02x}"),
        mtu: 1500,
        ..LinkSnapshot::default()
    }
}

fn address(text: &str) -> AddressSnapshot {
    AddressSnapshot {
        net: text.parse().unwrap(),
        text: text.to_owned(),
        left: None,
        temporary: false,
        link_local: text.starts_with("fe80"),
        by_router: false,
    }
}

fn route(to: &str, via: &[&str]) -> RouteSnapshot {
    RouteSnapshot {
        to: to.parse().unwrap(),
        text: format!("{to} via {via:?}"),
        table: 254,
        via: via.iter().map(|via| via.parse().unwrap()).collect(),
        onlink: false,
        by_kernel: via.is_empty(),
        by_nexthop: false,
    }
}

/// An unremarkable node: eth0 with an address of each family and a default route.
fn node() -> Observed {
    let eth0 = NicSnapshot {
        link: link(2, "eth0", ""),
        addresses: vec![address("10.0.0.5/24"), address("fd00::5/64"), address("fe80::5/64")],
        routes: vec![
            route("10.0.0.0/24", &[]),
            route("0.0.0.0/0", &["10.0.0.1"]),
            route("fd00::/64", &[]),
            route("::/0", &["fe80::1"]),
        ],
        neighbours: 2,
        ..NicSnapshot::default()
    };
    let lo = LinkSnapshot { loopback: true, ethernet: false, ..link(1, "lo", "") };
    let mut observed = Observed { links: vec![lo.clone(), eth0.link.clone()], ..Observed::default() };
    observed.nics = vec![eth0, NicSnapshot { link: lo, ..NicSnapshot::default() }];
    observed.switch.answers = true;
    observed.switch.vswitchd = Some(true);
    observed.switch.datapath_type = "netdev".to_owned();
    with_rows(observed)
}

/// The kernel's tables as the NICs of the observation have them, in rows.
fn with_rows(mut observed: Observed) -> Observed {
    let mut network = crate::device_config::Network::default();
    for nic in &observed.nics {
        let index = nic.link.index;
        let mut row = Row::empty(Kind::Link);
        row.header[4..8].copy_from_slice(&index.to_ne_bytes());
        network.links.extend(Link::of(&row));
        let own = nic.addresses.iter().map(|one| Address::new(index, one.net.addr(), one.net.prefix_len()));
        network.addresses.extend(own);
        network
            .routes
            .extend(nic.routes.iter().filter(|one| !one.via.is_empty()).map(|one| route_row(index, one)));
    }
    for nic in &observed.nics {
        let device = Device { index: nic.link.index, name: nic.link.name.clone() };
        observed.devices.insert(device.name.clone(), network.of(&device));
    }
    observed.network = network;
    observed
}

/// A static route of the main table.
fn route_row(device: u32, route: &RouteSnapshot) -> Route {
    let bytes = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut row = Row::empty(Kind::Route);
    let family = if route.to.addr().is_ipv4() { libc_family::INET } else { libc_family::INET6 };
    row.header = vec![family, route.to.prefix_len(), 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    let mut set = |kind: u16, value: Vec<u8>| row.attributes.push(Attribute { kind, value });
    if route.to.prefix_len() > 0 {
        set(1, bytes(route.to.addr()));
    }
    set(5, bytes(route.via[0]));
    set(4, device.to_ne_bytes().to_vec());
    Route::of(&row).unwrap()
}

/// linux/socket.h
mod libc_family {
    pub(super) const INET: u8 = 2;
    pub(super) const INET6: u8 = 10;
}

/// The same after the takeover.
fn taken() -> Observed {
    let mut observed = node();
    let mut breth0 = observed.nics[0].clone();
    breth0.link = link(9, "breth0", "tun");
    observed.nics[0].addresses.clear();
    observed.nics[0].routes.clear();
    observed.links.push(breth0.link.clone());
    observed.nics.push(breth0);
    observed.switch.bridges = vec![Bridge {
        name: "breth0".to_owned(),
        datapath_type: "netdev".to_owned(),
        ours: true,
        ports: vec![port("eth0", "", true)],
        ..Bridge::default()
    }];
    with_rows(observed)
}

fn port(name: &str, kind: &str, ours: bool) -> Port {
    Port { name: name.to_owned(), kind: kind.to_owned(), ours, ofport: Some(1), ..Port::default() }
}

fn bound(how: Binding, program: &str) -> BoundSocket {
    let what = "tcp 10.0.0.5:22".to_owned();
    BoundSocket { how, what, program: Some(program.to_owned()), pid: Some(700) }
}

fn plan_attach(observed: &Observed) -> Plan {
    attach(observed, &["eth0".to_owned()], &options())
}

fn plan_detach(observed: &Observed) -> Plan {
    detach(observed, &["breth0".to_owned()], &[])
}

/// One refusal of this name, that `--force` overrules or not; its remedy is said.
fn refused(plan: &Plan, name: &str, forceable: bool) {
    let found: Vec<_> = plan.refusals.iter().filter(|refusal| refusal.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {plan}");
    assert_eq!(found[0].forceable, forceable, "{name}");
    assert!(!found[0].remedy.is_empty() && !found[0].what.is_empty());
    assert_eq!(plan.refusals.len(), 1, "{plan}");
    let error = plan.verdict(false).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains(&found[0].remedy) && !error.contains('\n'), "{error}");
    assert_eq!(error.contains("--force"), forceable);
    assert_eq!(plan.verdict(true).is_ok(), forceable);
}

fn warned(plan: &Plan, name: &str) {
    assert!(plan.warnings.iter().any(|notice| notice.name == name), "{name}: {plan}");
    assert_eq!(plan.refusals, [], "{name}");
    plan.verdict(false).unwrap();
}

#[test]
fn an_unremarkable_nic_is_taken() {
    let plan = plan_attach(&node());
    assert_eq!((plan.refusals.as_slice(), plan.warnings.as_slice()), (&[][..], &[][..]));
    plan.verdict(false).unwrap();
    let uplink = &plan.uplinks[0];
    assert_eq!((uplink.nic.as_str(), uplink.bridge.as_str()), ("eth0", "breth0"));
    assert_eq!((uplink.datapath, uplink.half_way), (Datapath::Netdev, false));
    let text = plan.to_string();
    for said in [
        "eth0 -> breth0",
        "breth0",
        "address 10.0.0.5/24 scope global dev breth0",
        "default via 10.0.0.1 dev breth0",
        "ovn_k8s_breth0",
        "10.0.0.1, fe80::1",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["uplinks"][0]["datapath"], "netdev");
    assert_eq!(json["uplinks"][0]["direction"], "there");
}

#[test]
fn what_is_no_nic() {
    let of = |nic: &str, observed: &Observed| attach(observed, &[nic.to_owned()], &options());
    refused(&of("eth9", &node()), "not-found", false);
    refused(&of("lo", &node()), "loopback", false);
    let mut observed = node();
    observed.nics[0].link.ethernet = false;
    refused(&plan_attach(&observed), "not-ethernet", false);
    let mut observed = node();
    observed.nics[0].link.name = "averylongname0".to_owned();
    refused(&of("averylongname0", &observed), "name-too-long", false);
    assert_eq!(attach(&node(), &["eth0".to_owned(), "eth0".to_owned()], &options()).uplinks.len(), 1);
}

#[test]
fn a_nic_that_carries_nothing() {
    let mut observed = node();
    observed.nics[0].link.up = false;
    refused(&plan_attach(&observed), "down", true);
    let mut observed = node();
    observed.nics[0].link.carrier = false;
    refused(&plan_attach(&observed), "down", true);
    let mut observed = node();
    observed.nics[0].routes.retain(|route| route.via.is_empty());
    refused(&plan_attach(&observed), "no-next-hop", true);
    let plan = attach(&observed, &["eth0".to_owned()], &Options { probe: false, ..options() });
    warned(&plan, "no-next-hop");
    observed.nics[0].addresses.clear();
    warned(&plan_attach(&observed), "no-address");
}

#[test]
fn what_it_is_a_part_of() {
    for (kind, name) in [
        ("bond", "bond-slave"),
        ("team", "bond-slave"),
        ("bridge", "nic-has-master"),
        ("vrf", "nic-has-master"),
    ] {
        let mut observed = node();
        observed.links.push(link(5, "upper0", kind));
        observed.nics[0].link.master = Some(5);
        refused(&plan_attach(&observed), name, false);
    }
    let mut observed = node();
    observed.nics[0].link.master = Some(77);
    refused(&plan_attach(&observed), "nic-has-master", false);
    observed.links.push(link(77, "ovs-system", "openvswitch"));
    assert_eq!(plan_attach(&observed).refusals, []);
}

#[test]
fn what_stands_on_it() {
    let above = |kind: &str| {
        let mut observed = node();
        observed.links.push(LinkSnapshot { lower: Some(2), ..link(5, "eth0.100", kind) });
        observed
    };
    refused(&plan_attach(&above("vlan")), "vlan-child", true);
    for kind in ["macvlan", "ipvlan", "vxlan", ""] {
        refused(&plan_attach(&above(kind)), "nic-is-lower-device", true);
    }
    assert_eq!(plan_attach(&above("veth")).refusals, []);
    let mut kernel = above("vlan");
    kernel.switch.datapath_type = "system".to_owned();
    warned(&plan_attach(&kernel), "vlan-child");
}

#[test]
fn a_bond_and_a_tagged_uplink_are_fine() {
    let mut observed = node();
    observed.nics[0].link.kind = "bond".to_owned();
    observed.links.push(LinkSnapshot { master: Some(2), ..link(6, "ens1", "") });
    warned(&plan_attach(&observed), "bond");
    let mut observed = node();
    observed.nics[0].link = LinkSnapshot { lower: Some(3), ..link(2, "eth0.100", "vlan") };
    observed.links.push(link(3, "eth0", ""));
    let plan = attach(&observed, &["eth0.100".to_owned()], &options());
    warned(&plan, "tagged-uplink");
    assert!(plan.warnings[0].what.contains("VLAN of eth0"));
}

#[test]
fn who_takes_frames_before_the_switch() {
    let with = |mode: &str| {
        let mut observed = node();
        observed.nics[0].link.xdp = Some(mode.to_owned());
        plan_attach(&observed)
    };
    refused(&with("native"), "xdp-attached", true);
    refused(&with("offloaded"), "xdp-attached", true);
    warned(&with("generic"), "xdp-attached");
    let mut observed = node();
    observed.nics[0].bound = vec![bound(Binding::Xdp, "suricata")];
    refused(&plan_attach(&observed), "afxdp-socket", true);
    for what in ["xfrm", "macsec"] {
        let mut observed = node();
        observed.nics[0].device_offloads = vec![what.to_owned()];
        refused(&plan_attach(&observed), "device-offload", true);
    }
    let mut observed = node();
    observed.nics[0].link.wireless = true;
    refused(&plan_attach(&observed), "wireless", true);
    let mut observed = node();
    observed.nics[0].clsact = true;
    warned(&plan_attach(&observed), "clsact-filters");
}

#[test]
fn sockets_on_the_device() {
    let with = |how, program: &str| {
        let mut observed = node();
        observed.nics[0].bound = vec![bound(how, program)];
        plan_attach(&observed)
    };
    refused(&with(Binding::Device, "sshd"), "bound-socket", true);
    refused(&with(Binding::Device, "kubelet"), "bound-socket", true);
    let plan = with(Binding::Device, "ntpd");
    warned(&plan, "bound-socket");
    assert!(plan.warnings[0].what.contains("of ntpd (pid 700)"), "{plan}");
    refused(&with(Binding::LinkLocal, "sshd"), "link-local-connection", true);
    warned(&with(Binding::LinkLocal, "curl"), "link-local-connection");
    warned(&with(Binding::Packet, "lldpd"), "packet-socket");
    assert_eq!(with(Binding::Packet, "dhclient").warnings, []);
    let mut observed = node();
    observed.nics[0].memberships = vec!["239.1.2.3".parse().unwrap()];
    warned(&plan_attach(&observed), "multicast-membership");
}

#[test]
fn routes_that_cannot_be_made_again_as_they_are() {
    let with = |route: RouteSnapshot| {
        let mut observed = node();
        observed.nics[0].routes.push(route);
        plan_attach(&observed)
    };
    warned(&with(route("192.168.0.0/16", &["172.16.0.1"])), "route-not-remakeable");
    assert_eq!(with(RouteSnapshot { onlink: true, ..route("192.168.0.0/16", &["172.16.0.1"]) }).warnings, []);
    assert_eq!(
        with(RouteSnapshot { by_nexthop: true, ..route("192.168.0.0/16", &["172.16.0.1"]) }).warnings,
        []
    );
    assert_eq!(with(route("fd01::/64", &["fe80::77"])).warnings, []);
    // A route to the next hop itself is enough, whoever made it.
    let mut observed = node();
    observed.nics[0].routes.push(RouteSnapshot { by_kernel: false, ..route("172.16.0.1/32", &[]) });
    observed.nics[0].routes.push(route("192.168.0.0/16", &["172.16.0.1"]));
    assert_eq!(plan_attach(&observed).warnings, []);
}

#[test]
fn addresses_that_end() {
    let with = |address: AddressSnapshot| {
        let mut observed = node();
        observed.nics[0].addresses.push(address);
        observed
    };
    let leased = AddressSnapshot { left: Some(3000), ..address("10.0.0.9/24") };
    refused(&plan_attach(&with(leased.clone())), "dhcp-not-handed-over", true);
    let routed = AddressSnapshot { left: Some(3000), by_router: true, ..address("fd00::9/64") };
    assert_eq!(plan_attach(&with(routed.clone())).refusals, []);
    refused(
        &plan_attach(&with(AddressSnapshot { left: Some(59), ..routed.clone() })),
        "lifetime-too-short",
        true,
    );
    warned(
        &plan_attach(&with(AddressSnapshot { left: Some(5), temporary: true, ..routed })),
        "temporary-addresses",
    );
    // A client that cannot be handed over is named, once.
    let mut observed = with(leased);
    observed.managers = vec![DetectedManager {
        manager: Manager::OtherClient,
        nic: "eth0".to_owned(),
        evidence: "dhcpcd eth0 (pid 8)".to_owned(),
        details: Details::Opaque { why: "not known".to_owned() },
    }];
    refused(&plan_attach(&observed), "dhcp-not-handed-over", true);
}

#[test]
fn rules_of_the_firewall() {
    let rule = |text: &str, device: &str, lets_in| FirewallRule {
        source: "nft".to_owned(),
        place: "inet filter input".to_owned(),
        text: text.to_owned(),
        devices: vec![device.to_owned()],
        lets_in,
    };
    let with = |rules: Vec<FirewallRule>| plan_attach(&Observed { firewall: rules, ..node() });
    let ssh = rule("iifname eth0 tcp dport 22 accept", "eth0", true);
    let plan = with(vec![ssh.clone()]);
    refused(&plan, "firewall-names-nic", true);
    assert!(plan.refusals[0].what.contains("new ones (SSH) would not come in"), "{plan}");
    warned(&with(vec![rule("oifname eth0 masquerade", "eth0", false)]), "firewall-names-nic");
    assert_eq!(with(vec![rule("iifname eth1 accept", "eth1", true)]).refusals, []);
    // Both names, a pattern for both, or the same rule beside it.
    for both in ["*", "+"] {
        assert_eq!(with(vec![rule("accept", both, true)]).refusals, []);
    }
    refused(&with(vec![rule("iifname eth* accept", "eth*", true)]), "firewall-names-nic", true);
    let twin = rule("iifname breth0 tcp dport 22 accept", "breth0", true);
    assert_eq!(with(vec![ssh, twin]).refusals, []);
}

#[test]
fn names_that_are_taken() {
    let mut observed = node();
    observed.switch.bridges =
        vec![Bridge { name: "br-ex".to_owned(), ports: vec![port("eth0", "", false)], ..Bridge::default() }];
    refused(&plan_attach(&observed), "port-of-other-bridge", false);
    let mut observed = node();
    observed.links.push(link(7, "breth0", "bridge"));
    refused(&plan_attach(&observed), "bridge-name-taken", false);
    let mut observed = node();
    observed.foreign_guards = vec!["ovn_k8s_breth0".to_owned()];
    refused(&plan_attach(&observed), "guard-name-taken", false);
    let mut observed = node();
    observed.switch.bridges =
        vec![Bridge { name: "breth0".to_owned(), datapath_type: String::new(), ..Bridge::default() }];
    let netdev = Options { datapath: Some(Datapath::Netdev), ..options() };
    refused(&attach(&observed, &["eth0".to_owned()], &netdev), "datapath-differs", false);
    // Not asked for by flag, the bridge that is there decides.
    assert_eq!(plan_attach(&observed).uplinks[0].datapath, Datapath::System);
    let mut observed = node();
    observed.switch.uninitialised = true;
    refused(&plan_attach(&observed), "switch-not-initialised", false);
    assert!(plan_attach(&observed).to_string().contains("ovs-vsctl init"));
    for mut observed in [node(), node()] {
        observed.switch.vswitchd = Some(false);
        refused(&plan_attach(&observed), "switch-away", false);
        observed.switch.answers = false;
        refused(&plan_attach(&observed), "switch-away", false);
    }
}

#[test]
fn run_again_it_finds_itself_half_way() {
    let plan = plan_attach(&taken());
    assert!(plan.uplinks[0].half_way);
    assert_eq!(plan.refusals, []);
    let mut foreign = taken();
    foreign.switch.bridges[0].ours = false;
    assert_eq!(plan_attach(&foreign).refusals, []);
    // Without the NIC it is somebody's bridge, and bridge-to-nics would leave it alone.
    foreign.switch.bridges[0].ports.clear();
    refused(&plan_attach(&foreign), "bridge-of-others", true);
}

#[test]
fn the_way_back() {
    let plan = plan_detach(&taken());
    assert_eq!((plan.refusals.as_slice(), plan.warnings.as_slice()), (&[][..], &[][..]));
    assert_eq!((plan.uplinks[0].nic.as_str(), plan.uplinks[0].half_way), ("eth0", false));
    assert!(plan.to_string().contains("address 10.0.0.5/24 scope global dev eth0"), "{plan}");

    refused(&detach(&node(), &["breth0".to_owned()], &[]), "not-found", false);
    let mut observed = taken();
    observed.switch.bridges[0].ours = false;
    refused(&plan_detach(&observed), "not-ours", false);
    observed.switch.bridges[0].original = true;
    warned(&plan_detach(&observed), "original-bridge");
    let mut observed = taken();
    observed.switch.bridges[0]
        .ports
        .push(Port { of: Some("physnet".to_owned()), ..port("patch-1", "patch", false) });
    refused(&plan_detach(&observed), "gateway-router", true);
    let mut observed = taken();
    observed.switch.bridges[0].ports.push(port("tap0", "", false));
    refused(&plan_detach(&observed), "other-ports", true);
    let mut observed = taken();
    observed.links.retain(|link| link.name != "eth0");
    refused(&plan_detach(&observed), "not-found", false);
    let mut observed = taken();
    observed.switch.bridges.clear();
    refused(&plan_detach(&observed), "not-ours", false);
    // The network's part needs no switch.
    observed.switch.answers = false;
    warned(&plan_detach(&observed), "switch-away");
}

#[test]
fn what_binds_to_the_bridge_is_only_said_on_the_way_back() {
    let mut observed = taken();
    let breth0 = observed.nics.iter_mut().find(|nic| nic.link.name == "breth0").unwrap();
    breth0.bound = vec![bound(Binding::Device, "sshd")];
    warned(&plan_detach(&observed), "bound-socket");
}

#[test]
fn what_is_not_known_is_said() {
    let observed = Observed { unknown: vec!["the rules of nft: it is not installed".to_owned()], ..node() };
    warned(&plan_attach(&observed), "not-known");
}

proptest! {
    #[test]
    fn no_unremarkable_nic_is_refused(
        hosts in proptest::collection::btree_set(2_u8..250, 1..5),
        routes in 0_u8..40,
        mtu in 1280_u32..9001,
        neighbours in 0_usize..50,
        kernel in any::<bool>(),
    ) {
        let mut observed = node();
        let nic = &mut observed.nics[0];
        nic.addresses = hosts.iter().map(|host| address(&format!("10.0.0.{host}/24"))).collect();
        nic.routes.extend((0..routes).map(|n| route(&format!("192.168.{n}.0/24"), &["10.0.0.1"])));
        nic.link.mtu = mtu;
        nic.neighbours = neighbours;
        observed.switch.datapath_type = if kernel { "system" } else { "netdev" }.to_owned();
        let observed = with_rows(observed);
        let plan = plan_attach(&observed);
        prop_assert_eq!(&plan.refusals, &vec![]);
        prop_assert!(plan.verdict(false).is_ok());
        for address in &observed.nics[0].addresses {
            prop_assert!(plan.lines().iter().any(|line| line.contains(&address.text)));
        }
    }

    #[test]
    fn only_force_overrules_and_only_what_is_dangerous(dangerous in 0_usize..4, impossible in 0_usize..3) {
        let mut plan = Plan::default();
        for n in 0..dangerous {
            plan.refuse_unless_forced("down", &format!("eth{n}"), "is down", "up");
        }
        for n in 0..impossible {
            plan.refuse("not-found", &format!("eth{n}"), "is not there", "look");
        }
        prop_assert_eq!(plan.verdict(false).is_ok(), dangerous + impossible == 0);
        prop_assert_eq!(plan.verdict(true).is_ok(), impossible == 0);
    }
}
