mod carried;
mod detach;
mod execution;
mod nic;
mod switch;

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
    let options = Options::new("/var/lib/ovn-k8s".into(), Remote::unix("/run/openvswitch/db.sock"));
    Options { dry_run: true, ..options }
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

/// An ordinary node: eth0 with an address of each family and a default route.
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

/// Adds the kernel's rows that match the snapshots of the NICs.
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

/// The plan has one refusal, with this name and a remedy; `--force` overrules it or not.
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
fn an_ordinary_nic_is_attached_without_warnings() {
    let plan = plan_attach(&node());
    assert_eq!((plan.refusals.as_slice(), plan.warnings.as_slice()), (&[][..], &[][..]));
    plan.verdict(false).unwrap();
    let uplink = &plan.uplinks[0];
    assert_eq!((uplink.nic.as_str(), uplink.bridge.as_str()), ("eth0", "breth0"));
    assert_eq!((uplink.datapath, uplink.half_way), (Datapath::Netdev, false));
    let text = plan.to_string();
    for expected in [
        "eth0 -> breth0",
        "breth0",
        "address 10.0.0.5/24 scope global dev breth0",
        "default via 10.0.0.1 dev breth0",
        "ovn_k8s_breth0",
        "10.0.0.1, fe80::1",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["uplinks"][0]["datapath"], "netdev");
    assert_eq!(json["uplinks"][0]["direction"], "there");
}

#[test]
fn a_source_that_did_not_answer_gives_a_warning() {
    let observed = Observed { unknown: vec!["the rules of nft: it is not installed".to_owned()], ..node() };
    warned(&plan_attach(&observed), "not-known");
}

#[test]
fn without_a_probe_the_plan_says_so() {
    let lines =
        |probe| attach(&node(), &["eth0".to_owned()], &Options { probe, ..options() }).lines().join("\n");
    let (with, without) = (lines(true), lines(false));
    assert!(with.contains("breth0: probe 10.0.0.1, fe80::1 through it"), "{with}");
    assert!(with.contains("routes, next hops and TCP"), "{with}");
    assert!(without.contains("breth0: next hops are not probed (--no-probe)"), "{without}");
    assert!(!without.contains("breth0: probe") && without.contains("routes and TCP"), "{without}");
}

proptest! {
    #[test]
    fn an_ordinary_nic_is_never_refused(
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
    fn force_overrules_only_forceable_refusals(dangerous in 0_usize..4, impossible in 0_usize..3) {
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
