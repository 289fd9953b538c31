//! In private namespaces: what is listed, what we make, what we leave alone.

use std::process::Command;

use super::*;
use crate::netns::Namespace;

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn inside<F: Future<Output = ()>>(setup: &[&str], work: impl FnOnce() -> F + Send) {
    Namespace::create()
        .unwrap()
        .run(|| {
            setup.iter().for_each(|line| ip(line));
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
        })
        .unwrap();
}

const DEVICE: [&str; 5] = [
    "link add d0 type veth peer name d1",
    "link set d0 address 02:00:00:00:00:07 mtu 1400 up",
    "link set d1 up",
    "addr add 10.1.0.2/24 dev d0",
    "addr add fd01::2/64 dev d0 nodad",
];

fn wanted(to: &str, via: &str, source: &str, link: u32) -> Route {
    Route {
        destination: to.parse().unwrap(),
        table: TABLE_MAIN,
        metric: None,
        link: Some(link),
        via: Some(via.parse().unwrap()),
        source: Some(source.parse().unwrap()),
        protocol: PROTOCOL,
    }
}

#[test]
fn links_and_addresses_are_listed() {
    inside(&DEVICE, || async {
        let netlink = Netlink::open().unwrap();
        let links = netlink.links().await.unwrap();
        let d0 = links.named("d0").unwrap();
        assert_eq!((d0.mac, d0.mtu, d0.up), (Some([2, 0, 0, 0, 0, 7]), 1400, true));
        assert_eq!(links.indexed(d0.index), Some(d0));
        assert!(!links.named("lo").unwrap().up);
        let addresses = netlink.addresses().await.unwrap();
        for net in ["10.1.0.2/24", "fd01::2/64"] {
            let expected = Address { link: d0.index, net: net.parse().unwrap(), usable: true };
            assert!(addresses.contains(&expected), "{net} in {addresses:?}");
        }
    });
}

#[test]
fn our_routes_come_and_go_and_dump_as_they_were_made() {
    inside(&DEVICE, || async {
        let netlink = Netlink::open().unwrap();
        let index = netlink.links().await.unwrap().named("d0").unwrap().index;
        for route in [
            wanted("10.96.0.0/12", "10.1.0.1", "10.1.0.2", index),
            wanted("fd96::/108", "fd01::1", "fd01::2", index),
            Route { table: 1000, ..wanted("10.97.0.0/16", "10.1.0.1", "10.1.0.2", index) },
        ] {
            netlink.add_route(&route).await.unwrap();
            let dumped = netlink.routes().await.unwrap();
            let found = dumped.iter().find(|found| found.destination == route.destination).unwrap();
            assert!(found.is_ours() && found.leads_like(&route), "{found} is not {route}");
            assert!(netlink.add_route(&route).await.unwrap_err().already_exists());
            netlink.delete_route(&route).await.unwrap();
            netlink.delete_route(&route).await.unwrap();
            assert!(netlink.routes().await.unwrap().iter().all(|left| left.destination != route.destination));
        }
    });
}

#[test]
fn routes_of_others_are_neither_overwritten_nor_taken_away() {
    let foreign =
        ["route add 10.96.0.0/12 via 10.1.0.9 dev d0", "-6 route add fd96::/108 via fd01::9 dev d0"];
    let setup: Vec<&str> = DEVICE.iter().chain(&foreign).copied().collect();
    inside(&setup, || async {
        let netlink = Netlink::open().unwrap();
        let before = netlink.routes().await.unwrap();
        let index = netlink.links().await.unwrap().named("d0").unwrap().index;
        for (to, via, source) in
            [("10.96.0.0/12", "10.1.0.9", "10.1.0.2"), ("fd96::/108", "fd01::9", "fd01::2")]
        {
            let ours = wanted(to, via, source, index);
            netlink.delete_route(&ours).await.unwrap();
            netlink.delete_route(&Route { source: None, ..ours.clone() }).await.unwrap();
            assert!(netlink.add_route(&ours).await.unwrap_err().already_exists());
        }
        assert_eq!(netlink.routes().await.unwrap(), before);
    });
}

#[test]
fn a_refusal_says_what_was_attempted_and_what_to_do() {
    inside(&DEVICE, || async {
        let netlink = Netlink::open().unwrap();
        let index = netlink.links().await.unwrap().named("d0").unwrap().index;
        let off_link = wanted("10.96.0.0/12", "192.0.2.1", "10.1.0.2", index);
        let said = netlink.add_route(&off_link).await.unwrap_err().to_string();
        assert!(said.contains("add route 10.96.0.0/12 via 192.0.2.1"), "{said}");
        assert!(said.contains("unreachable") && said.contains("not on a network of that device"), "{said}");
    });
}

#[test]
fn the_watch_tells_of_links_addresses_and_routes() {
    inside(&DEVICE, || async {
        let mut watch = Netlink::watch().unwrap();
        assert!(watch.has_changed().is_ok());
        watch.mark_unchanged();
        for change in
            ["addr add 10.2.0.2/24 dev d0", "route add 10.5.0.0/16 via 10.1.0.1", "link set d0 mtu 1300"]
        {
            ip(change);
            watch.changed().await.unwrap();
        }
    });
}
