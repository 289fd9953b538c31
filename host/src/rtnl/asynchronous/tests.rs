//! Lists and changes in private namespaces, and the routes of other programs, which stay.

use std::process::Command;

use ipnet::IpNet;

use super::*;
use crate::Mac;
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

fn wanted(to: &str, via: &str, source: &str, device: u32) -> Route {
    let (via, source) = (via.parse().unwrap(), source.parse().unwrap());
    Route::unicast(to.parse().unwrap(), device, Some(via), Some(source), OUR_PROTOCOL)
}

async fn device(socket: &AsyncSocket) -> Link {
    socket.links().await.unwrap().into_iter().find(|link| link.name() == "d0").unwrap()
}

async fn routes(socket: &AsyncSocket) -> Vec<Route> {
    socket.routes_where(|_| true).await.unwrap()
}

#[test]
fn links_and_addresses_are_listed() {
    inside(&DEVICE, || async {
        let socket = AsyncSocket::open().unwrap();
        let d0 = device(&socket).await;
        assert_eq!((d0.mac(), d0.mtu(), d0.is_up()), (Some(Mac([2, 0, 0, 0, 0, 7])), 1400, true));
        let links = socket.links().await.unwrap();
        assert_eq!(links.iter().find(|link| link.index() == d0.index()).map(Link::name), Some("d0".into()));
        assert!(!links.iter().find(|link| link.name() == "lo").unwrap().is_up());
        let addresses = socket.addresses().await.unwrap();
        for net in ["10.1.0.2/24", "fd01::2/64"] {
            let net: IpNet = net.parse().unwrap();
            let found = addresses.iter().find(|address| address.local() == Some(net.addr())).unwrap();
            assert_eq!((found.device(), found.prefix()), (d0.index(), net.prefix_len()));
            assert!(!found.is_tentative());
        }
    });
}

#[test]
fn our_routes_are_added_and_deleted_and_dumped_as_made() {
    inside(&DEVICE, || async {
        let socket = AsyncSocket::open().unwrap();
        let index = device(&socket).await.index();
        for route in [
            wanted("10.96.0.0/12", "10.1.0.1", "10.1.0.2", index),
            wanted("fd96::/108", "fd01::1", "fd01::2", index),
            wanted("10.97.0.0/16", "10.1.0.1", "10.1.0.2", index).in_table(1000),
        ] {
            socket.add_route(&route).await.unwrap();
            let dumped = routes(&socket).await;
            let found = dumped.iter().find(|found| found.destination() == route.destination()).unwrap();
            assert!(found.is_ours(), "{found}");
            let meaning = |route: &Route| (route.key(), route.hops(), route.source(), route.scope());
            assert_eq!(meaning(found), meaning(&route), "{found} is not {route}");
            assert!(socket.add_route(&route).await.unwrap_err().already_exists());
            socket.delete_route(&route).await.unwrap();
            socket.delete_route(&route).await.unwrap();
            assert!(routes(&socket).await.iter().all(|left| left.destination() != route.destination()));
        }
    });
}

#[test]
fn routes_of_others_are_neither_replaced_nor_deleted() {
    let foreign =
        ["route add 10.96.0.0/12 via 10.1.0.9 dev d0", "-6 route add fd96::/108 via fd01::9 dev d0"];
    let setup: Vec<&str> = DEVICE.iter().chain(&foreign).copied().collect();
    inside(&setup, || async {
        let socket = AsyncSocket::open().unwrap();
        let before = routes(&socket).await;
        let index = device(&socket).await.index();
        for (to, via, source) in
            [("10.96.0.0/12", "10.1.0.9", "10.1.0.2"), ("fd96::/108", "fd01::9", "fd01::2")]
        {
            let ours = wanted(to, via, source, index);
            socket.delete_route(&ours).await.unwrap();
            let without_source =
                Route::unicast(to.parse().unwrap(), index, Some(via.parse().unwrap()), None, OUR_PROTOCOL);
            socket.delete_route(&without_source).await.unwrap();
            assert!(socket.add_route(&ours).await.unwrap_err().already_exists());
        }
        assert_eq!(routes(&socket).await, before);
    });
}

#[test]
fn a_refusal_names_the_request_and_the_remedy() {
    inside(&DEVICE, || async {
        let socket = AsyncSocket::open().unwrap();
        let index = device(&socket).await.index();
        let off_link = wanted("10.96.0.0/12", "192.0.2.1", "10.1.0.2", index);
        let error = socket.add_route(&off_link).await.unwrap_err().to_string();
        assert!(error.contains("add route 10.96.0.0/12 via 192.0.2.1"), "{error}");
        assert!(
            error.contains("unreachable") && error.contains("not on a network of that device"),
            "{error}"
        );
    });
}

#[test]
fn the_watch_reports_links_addresses_and_routes() {
    inside(&DEVICE, || async {
        let mut changes = watch().unwrap();
        assert!(changes.has_changed().is_ok());
        changes.mark_unchanged();
        for change in
            ["addr add 10.2.0.2/24 dev d0", "route add 10.5.0.0/16 via 10.1.0.1", "link set d0 mtu 1300"]
        {
            ip(change);
            changes.changed().await.unwrap();
        }
    });
}
