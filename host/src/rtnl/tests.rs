//! Rows moved from one device to another in private namespaces, and what ip(8) says of them.

use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;

use super::address::Address;
use super::link::{self, AddressGeneration, Link};
use super::neighbour::Neighbour;
use super::nexthop::Nexthop;
use super::qdisc::{self, Qdisc};
use super::route::Route;
use super::rule::Rule;
use super::*;
use crate::Mac;
use crate::netlink_format;
use crate::netns::Namespace;

fn said(program: &str, arguments: &str) -> String {
    let done = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

fn ip(arguments: &str) -> String {
    said("ip", arguments)
}

/// What ip(8) lists, in words, with the spaces it puts where it finds nothing taken out.
fn listed(arguments: &str) -> Vec<String> {
    ip(arguments).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const DEVICES: [&str; 6] = [
    "link add eth0 type veth peer name peer0",
    "link add breth0 type veth peer name peer1",
    "link set eth0 up",
    "link set peer0 up",
    "link set breth0 up",
    "link set peer1 up",
];

/// A namespace with two devices, set up further.
fn inside(setup: &[&str], work: impl FnOnce(&Socket, DeviceMapping) + Send) {
    let run = || {
        for device in ["all", "default"] {
            for key in ["accept_dad", "router_solicitations"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/{key}"), "0").unwrap();
            }
        }
        for line in DEVICES.iter().chain(setup) {
            ip(line);
        }
        let socket = Socket::open().unwrap();
        let (from, to) = (device(&socket, "eth0"), device(&socket, "breth0"));
        work(&socket, DeviceMapping { from, to });
    };
    Namespace::create().unwrap().run(run).unwrap();
}

fn device(socket: &Socket, name: &str) -> Device {
    let links = socket.dump_all(Kind::Link).unwrap();
    links.iter().filter_map(Link::of).map(|link| link.device()).find(|device| device.name == name).unwrap()
}

fn addresses(socket: &Socket, device: &Device) -> Vec<Address> {
    let all = socket.dump_all(Kind::Address).unwrap();
    all.iter().filter_map(Address::of).filter(|address| address.device() == device.index).collect()
}

fn routes(socket: &Socket, device: &Device) -> Vec<Route> {
    let all = socket.dump_all(Kind::Route).unwrap();
    let mut routes: Vec<_> = all.iter().filter_map(Route::of).collect();
    routes.retain(|route| route.names(device.index) && !route.is_local());
    routes
}

fn send(socket: &Socket, requests: &[Request]) {
    let outcomes = socket.batch(requests).unwrap();
    assert_eq!(outcomes.len(), requests.len());
    let refused: Vec<_> = requests
        .iter()
        .zip(outcomes)
        .filter_map(|(request, outcome)| Some((request.to_string(), outcome?)))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Addresses first, then every route that is not the kernel's own.
fn move_all(socket: &Socket, mapping: &DeviceMapping) {
    let rows = addresses(socket, &mapping.from)
        .into_iter()
        .map(|address| Request::replace(address.for_device(mapping)));
    let routes = routes(socket, &mapping.from);
    let (links, gateways): (Vec<_>, Vec<_>) = routes
        .iter()
        .filter(|route| !route.is_connected())
        .partition(|route| route.hops().iter().all(|hop| hop.via.is_none()));
    let routes = links.into_iter().chain(gateways).map(|route| Request::replace(route.for_device(mapping)));
    send(socket, &rows.chain(routes).collect::<Vec<_>>());
}

/// The lines of eth0 must come out as those of breth0.
fn moved_lines(before: &[String]) -> Vec<String> {
    before.iter().map(|line| line.replace("eth0", "breth0")).collect()
}

const PLAIN: [&str; 2] = ["addr add 10.1.0.2/24 dev eth0", "addr add fd01::2/64 dev eth0 nodad"];

/// The routes are made on eth0, moved, and listed as they were, but on breth0.
fn moves(family: &str, made: &[&str]) {
    let setup: Vec<_> = PLAIN.iter().chain(made).copied().collect();
    inside(&setup, |socket, mapping| {
        let list = format!("{family} route show table all");
        let ours = |name: &str| -> Vec<String> {
            let mut lines = listed(&list);
            lines.retain(|line| !line.contains("proto kernel") && !line.starts_with("nexthop"));
            assert!(lines.iter().all(|line| line.contains(name) || !line.contains("dev")), "{lines:?}");
            lines.sort();
            lines
        };
        let before = ours(" eth0");
        assert!(!before.is_empty(), "nothing was made by {made:?}");
        let rows: Vec<_> =
            routes(socket, &mapping.from).iter().map(|route| route.for_device(&mapping)).collect();
        move_all(socket, &mapping);
        // What had no place of its own to be replaced at stands beside: the old ones go.
        for route in routes(socket, &mapping.from).iter().filter(|route| !route.is_connected()) {
            let _ = socket.apply(&Request::delete(route.delete_request()));
        }
        let sorted = {
            let mut lines = moved_lines(&before);
            lines.sort();
            lines
        };
        assert_eq!(ours(" breth0"), sorted, "{made:?}");
        let again: Vec<_> =
            routes(socket, &mapping.to).iter().map(|route| route.for_device(&mapping)).collect();
        for row in rows.iter().filter_map(Route::of).filter(|route| !route.is_connected()) {
            let essences: Vec<_> = again.iter().filter_map(Route::of).map(|route| route.identity()).collect();
            assert!(essences.contains(&row.identity()), "{row} is not among {again:#?}");
        }
        // And away.
        for route in routes(socket, &mapping.to).iter().filter(|route| !route.is_connected()) {
            socket.apply(&Request::delete(route.delete_request())).unwrap();
        }
        assert_eq!(ours("dev"), Vec::<String>::new());
    });
}

#[test]
fn ipv4_routes_move_one_by_one() {
    for made in [
        "route add default via 10.1.0.1",
        "route add default via 10.1.0.1 metric 100 proto dhcp src 10.1.0.2",
        "route add 10.9.0.0/16 dev eth0 scope link table 100",
        "route add 10.9.0.0/16 via 10.1.0.1 table 70000",
        "route add 10.9.0.0/16 via 10.7.0.1 dev eth0 onlink",
        "route add 10.9.0.0/16 via inet6 fe80::1 dev eth0",
        "route add 10.9.0.0/16 via 10.1.0.1 tos 0x10",
        "route add 10.9.0.0/16 via 10.1.0.1 mtu lock 1400 initcwnd 20 advmss 1300 congctl reno",
        "route add 10.9.0.0/16 nexthop via 10.1.0.1 weight 2 nexthop via 10.1.0.3",
        "route add 10.9.0.0/16 nexthop via 10.1.0.1 dev eth0 nexthop via inet6 fe80::1 dev eth0",
        "route add 10.9.0.0/16 nexthop via 10.7.0.1 dev eth0 onlink nexthop via 10.1.0.3 dev eth0",
        "route add multicast 239.1.0.0/16 dev eth0",
    ] {
        moves("-4", &[made]);
    }
}

#[test]
fn ipv6_routes_move_one_by_one() {
    for made in [
        "-6 route add default via fe80::1 dev eth0",
        "-6 route add default via fd01::1 metric 512 proto static src fd01::2",
        "-6 route add fd09::/48 dev eth0 table 100",
        "-6 route add fd09::/48 via fd07::1 dev eth0 onlink",
        "-6 route add fd09::/48 via fd01::1 mtu 1400 initcwnd 20",
        "-6 route add fd09::/48 nexthop via fd01::1 dev eth0 weight 2 nexthop via fd01::3 dev eth0",
        "-6 route add default proto static nexthop via fd01::1 dev eth0 nexthop via fe80::3 dev eth0",
        "-6 route add fd09::/48 from fd01::/64 via fd01::1",
        "-6 route add default via fe80::1 dev eth0 pref high",
    ] {
        moves("-6", &[made]);
    }
}

#[test]
fn learned_routes_keep_the_time_they_have_left() {
    let made = "-6 route add default via fe80::1 dev eth0 proto ra metric 1024 expires 1000 hoplimit 64";
    inside(&[PLAIN[1], made], |socket, mapping| {
        let learned = |device: &Device| {
            let found: Vec<_> = routes(socket, device).into_iter().filter(Route::is_learned).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].clone()
        };
        let before = learned(&mapping.from);
        assert!((1..=1000).contains(&before.expires().unwrap()), "{before}");
        send(socket, &[Request::replace(before.for_device(&mapping))]);
        let after = learned(&mapping.to);
        assert!((1..=1000).contains(&after.expires().unwrap()), "{after}");
        let moved = Route::of(&before.for_device(&mapping)).unwrap();
        assert_eq!(after.identity(), moved.identity());
        let text = ip("-6 route show default dev breth0");
        assert!(
            text.contains("proto ra") && text.contains("expires") && text.contains("hoplimit 64"),
            "{text}"
        );
        let later = after.aged(Duration::from_secs(500)).unwrap();
        assert!(later.expires().unwrap() <= 500);
        assert_eq!(after.aged(Duration::from_secs(1001)), None);
    });
}

#[test]
fn replacing_multipath_routes_leaves_no_leg_behind() {
    // The kernel replaces what is there with the first leg and appends the others.
    for (family, to, vias) in
        [("-4", "10.9.0.0/16", ["10.1.0.1", "10.1.0.3"]), ("-6", "fd09::/48", ["fd01::1", "fd01::3"])]
    {
        let made = format!(
            "{family} route add {to} nexthop via {} dev eth0 nexthop via {} dev eth0",
            vias[0], vias[1]
        );
        let single = format!("{family} route add {to} via {} dev eth0 table 7", vias[0]);
        let setup: Vec<_> = PLAIN.iter().copied().chain([made.as_str(), single.as_str()]).collect();
        inside(&setup, |socket, mapping| {
            let before = routes(socket, &mapping.from);
            move_all(socket, &mapping);
            assert!(routes(socket, &mapping.from).iter().all(Route::is_connected), "{family}");
            // Again: nothing is doubled.
            let again: Vec<_> = before
                .iter()
                .filter(|route| !route.is_connected())
                .map(|route| Request::replace(route.for_device(&mapping)))
                .collect();
            send(socket, &again);
            let now = routes(socket, &mapping.to);
            let several = now.iter().find(|route| route.hops().len() > 1).unwrap();
            assert_eq!(several.hops().len(), 2, "{several}");
            assert_eq!(now.iter().filter(|route| !route.is_connected()).count(), 2, "{now:?}");
            // And one in the place of several, several in the place of one.
            let one = Route::of(&again[0].row).unwrap();
            let mut in_place = several.for_device(&mapping);
            if one.hops().len() == 1 {
                in_place.set(15, 7_u32.to_ne_bytes().to_vec());
                in_place.set_byte(4, 7);
                send(socket, &[Request::replace(in_place)]);
            }
            send(socket, &again);
            let now = routes(socket, &mapping.to);
            assert_eq!(now.iter().filter(|route| !route.is_connected()).count(), 2, "{now:?}");
        });
    }
}

#[test]
fn nexthop_objects_take_their_routes_and_groups_along() {
    let made = [
        "nexthop add id 10 via 10.1.0.1 dev eth0 proto static",
        "nexthop add id 11 via 10.7.0.1 dev eth0 onlink",
        "nexthop add id 12 via fe80::1 dev eth0",
        "link set lo up",
        "nexthop add id 13 blackhole",
        "nexthop add id 20 group 10,2/11",
        "nexthop add id 21 group 10/11 type resilient buckets 32 idle_timer 60",
        "route add 10.9.0.0/16 nhid 10",
        "route add 10.10.0.0/16 nhid 20",
        "route add 10.11.0.0/16 nhid 21 metric 50",
        "route add 10.12.0.0/16 nhid 13",
        "-6 route add fd09::/48 nhid 12",
    ];
    let setup: Vec<_> = PLAIN.iter().chain(&made).copied().collect();
    inside(&setup, |socket, mapping| {
        let before = listed("route show");
        move_all(socket, &DeviceMapping { from: mapping.from.clone(), to: mapping.from.clone() });
        send(
            socket,
            &addresses(socket, &mapping.from)
                .iter()
                .map(|a| Request::replace(a.for_device(&mapping)))
                .collect::<Vec<_>>(),
        );
        let all: Vec<_> =
            socket.dump_all(Kind::Nexthop).unwrap().iter().map(|row| Nexthop::of(row).unwrap()).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(all.iter().find(|nexthop| nexthop.id() == 20).unwrap().members(), [10, 11]);
        let rows: Vec<_> = all.iter().map(|nexthop| Request::replace(nexthop.for_device(&mapping))).collect();
        send(socket, &rows);
        let after: Vec<_> =
            socket.dump_all(Kind::Nexthop).unwrap().iter().map(|row| Nexthop::of(row).unwrap()).collect();
        assert!(after.iter().all(|nexthop| nexthop.device().is_none_or(|index| index == mapping.to.index)));
        let expected: Vec<_> =
            rows.iter().map(|request| Nexthop::of(&request.row).unwrap().identity()).collect();
        assert_eq!(after.iter().map(Nexthop::identity).collect::<Vec<_>>(), expected);
        let mut now = listed("route show");
        now.retain(|line| !(line.contains("breth0") && line.contains("proto kernel")));
        let expected: Vec<_> = before
            .iter()
            .map(|line| {
                if line.contains("nhid") || line.starts_with("nexthop") {
                    line.replace("eth0", "breth0")
                } else {
                    line.clone()
                }
            })
            .collect();
        assert_eq!(now, expected);
        // Routes by number can be made again from their rows.
        let by_number: Vec<_> = socket
            .dump_all(Kind::Route)
            .unwrap()
            .iter()
            .filter_map(Route::of)
            .filter(|route| route.nexthop().is_some())
            .collect();
        assert_eq!(by_number.len(), 5);
        let delete: Vec<_> = by_number.iter().map(|route| Request::delete(route.delete_request())).collect();
        let create: Vec<_> =
            by_number.iter().map(|route| Request::create(route.for_device(&mapping))).collect();
        send(socket, &[delete, create].concat());
        send(
            socket,
            &all.iter().rev().map(|nexthop| Request::delete(nexthop.delete_request())).collect::<Vec<_>>(),
        );
        assert_eq!(socket.dump_all(Kind::Nexthop).unwrap(), []);
    });
}

#[test]
fn addresses_keep_lifetimes_peers_labels_and_flags() {
    let made = [
        "addr add 10.1.0.2/24 brd + dev eth0",
        "addr add 10.1.0.3/24 dev eth0 label eth0:second",
        "addr add 10.2.0.1 peer 10.2.0.9/32 dev eth0 label eth0:p2p",
        "addr add 10.3.0.1/24 dev eth0 valid_lft 1000 preferred_lft 500 metric 77",
        "addr add 10.4.0.1/24 dev eth0 noprefixroute scope link",
        "addr add 10.5.0.1/32 dev eth0 label eth0:1234567890",
        "addr add fd01::2/64 dev eth0",
        "addr add fd02::2/64 dev eth0 valid_lft 1000 preferred_lft 500 mngtmpaddr noprefixroute",
        "addr add fd03::2/64 dev eth0 valid_lft 1000 preferred_lft 0 home metric 33",
        "addr add fd04::1 peer fd04::9/128 dev eth0",
    ];
    inside(&made, |socket, mapping| {
        let before = addresses(socket, &mapping.from);
        assert_eq!(before.iter().filter(|address| address.is_secondary()).count(), 1);
        let mut labels: Vec<_> = before.iter().filter_map(Address::label).collect();
        labels.sort();
        assert_eq!(
            labels,
            ["eth0", "eth0", "eth0", "eth0:1234567890", "eth0:p2p", "eth0:second"].map(String::from)
        );
        let rows: Vec<_> = before
            .iter()
            .filter(|address| !address.is_temporary())
            .map(|address| Request::replace(address.for_device(&mapping)))
            .collect();
        send(socket, &rows);
        let after = addresses(socket, &mapping.to);
        for row in rows.iter().map(|request| Address::of(&request.row).unwrap()) {
            let found = after.iter().find(|address| address.key() == row.key()).unwrap();
            let (mut wanted, mut there) = (row.identity(), found.identity());
            if row.label().is_none() {
                // Too long for breth0: the kernel put the plain name there.
                wanted.drop_attributes(&[3]);
                there.drop_attributes(&[3]);
            }
            assert_eq!(there, wanted, "{found} is not {row}");
            assert_eq!(found.valid().is_some(), row.valid().is_some(), "{found} is not {row}");
            let original = before.iter().find(|address| address.key() == row.key()).unwrap();
            assert_eq!(found.is_secondary(), original.is_secondary());
        }
        let text = ip("addr show dev breth0");
        for part in [
            "10.1.0.2/24 brd 10.1.0.255 scope global breth0",
            "10.1.0.3/24 scope global secondary breth0:second",
            "10.2.0.1 peer 10.2.0.9/32 scope global breth0:p2p",
            "10.3.0.1/24 metric 77 scope global dynamic breth0",
            "10.4.0.1/24 scope link noprefixroute breth0",
            "10.5.0.1/32 scope global breth0",
            "fd02::2/64 scope global nodad dynamic mngtmpaddr noprefixroute",
            "fd03::2/64 metric 33 scope global nodad home deprecated dynamic",
            "fd04::1 peer fd04::9/128 scope global",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("tentative"), "{text}");
        // The other way, and away.
        let removals: Vec<_> =
            after.iter().rev().map(|address| Request::delete(address.delete_request())).collect();
        send(socket, &removals);
        assert_eq!(addresses(socket, &mapping.to), []);
    });
}

#[test]
fn the_connected_routes_are_those_the_kernel_makes() {
    let made = [
        "addr add 10.1.0.2/24 dev eth0",
        "addr add 10.2.0.1 peer 10.2.0.9/32 dev eth0",
        "addr add 10.3.0.1/24 dev eth0 metric 77",
        "addr add 10.5.0.1/32 dev eth0",
        "addr add 10.6.0.1/24 dev eth0 noprefixroute",
        "addr add fd01::2/64 dev eth0",
        "addr add fd03::2/64 dev eth0 metric 33",
        "addr add fd05::2/128 dev eth0",
        "addr add fd06::2/64 dev eth0 noprefixroute",
        "addr add fd07::2/64 dev eth0 valid_lft 1000 preferred_lft 1000",
    ];
    inside(&made, |socket, mapping| {
        let kernels = routes(socket, &mapping.from);
        let ours: Vec<_> = addresses(socket, &mapping.from).iter().filter_map(Route::connected).collect();
        let texts = |routes: &[Route]| {
            let seconds = |text: &str| text.split(" expires ").next().unwrap().to_owned();
            let mut texts: Vec<_> =
                routes.iter().map(|route| (seconds(&route.to_string()), route.expires().is_some())).collect();
            texts.sort();
            texts
        };
        assert_eq!(texts(&ours).iter().filter(|(_, expires)| *expires).count(), 1);
        assert_eq!(texts(&ours), texts(&kernels));
        send(
            socket,
            &kernels.iter().map(|route| Request::delete(route.delete_request())).collect::<Vec<_>>(),
        );
        assert_eq!(routes(socket, &mapping.from), []);
        send(socket, &ours.iter().map(|route| Request::append(route.row().clone())).collect::<Vec<_>>());
        let again = routes(socket, &mapping.from);
        assert_eq!(texts(&again), texts(&kernels));
    });
}

#[test]
fn neighbours_keep_their_mac() {
    let made = [
        "addr add 10.1.0.2/24 dev eth0",
        "neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable",
        "neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent",
        "neigh add fd01::7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable router",
        "neigh add proxy 10.1.0.9 dev eth0",
        "neigh add proxy fd01::9 dev eth0",
    ];
    inside(&made, |socket, mapping| {
        let mut rows = socket.dump_all(Kind::Neighbour).unwrap();
        assert!(rows.iter().filter_map(Neighbour::of).all(|entry| !entry.is_proxy()));
        rows.extend(Family::ALL.iter().flat_map(|family| socket.proxies(*family).unwrap()));
        let mut entries: Vec<_> = rows.iter().filter_map(Neighbour::of).collect();
        entries.retain(|entry| entry.device() == mapping.from.index && entry.is_worth_keeping());
        assert_eq!(entries.len(), 5, "{entries:?}");
        send(
            socket,
            &entries.iter().map(|entry| Request::replace(entry.for_device(&mapping))).collect::<Vec<_>>(),
        );
        let text = listed("neigh show dev breth0").join("\n") + "\n" + &listed("neigh show proxy").join("\n");
        for part in [
            "10.1.0.7 lladdr 02:00:00:00:00:07 STALE",
            "10.1.0.8 lladdr 02:00:00:00:00:08 PERMANENT",
            "fd01::7 lladdr 02:00:00:00:00:07 router STALE",
            "10.1.0.9 dev breth0 proxy",
            "fd01::9 dev breth0 proxy",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let removals = entries.iter().map(|entry| {
            let moved = Neighbour::of(&entry.for_device(&mapping)).unwrap();
            Request::delete(moved.delete_request())
        });
        send(socket, &removals.collect::<Vec<_>>());
        assert!(!ip("neigh show proxy").contains("breth0"));
    });
}

#[test]
fn rules_get_a_twin() {
    let made = [
        "rule add iif eth0 lookup 100 pref 50",
        "rule add not from 10.1.0.0/24 oif eth0 lookup 70000 fwmark 0x1/0xff pref 51 suppress_prefixlength 0",
        "-6 rule add from fd01::/64 iif eth0 blackhole pref 52",
    ];
    inside(&made, |socket, mapping| {
        let rules: Vec<_> =
            socket.dump_all(Kind::Rule).unwrap().iter().map(|row| Rule::of(row).unwrap()).collect();
        let ours: Vec<_> = rules.iter().filter(|rule| rule.names("eth0")).collect();
        assert_eq!(ours.len(), 3, "{rules:?}");
        let lines = |family: &str| -> Vec<String> { listed(&format!("{family} rule show")) };
        let before = [lines("-4"), lines("-6")].concat();
        let twins: Vec<_> = ours.iter().map(|rule| Request::create(rule.for_device(&mapping))).collect();
        send(socket, &twins);
        let now = [lines("-4"), lines("-6")].concat();
        for line in before.iter().filter(|line| line.contains("eth0")) {
            assert!(now.contains(line) && now.contains(&line.replace("eth0", "breth0")), "{line} in {now:?}");
        }
        let removals = twins
            .iter()
            .map(|twin| Request::delete(Rule::of(&twin.row).unwrap().delete_request()))
            .collect::<Vec<_>>();
        send(socket, &removals);
        assert_eq!([lines("-4"), lines("-6")].concat(), before);
        assert_eq!(ours[0].to_string(), "50: from all iif eth0 lookup 100");
    });
}

#[test]
fn what_stands_on_a_device() {
    inside(&["link add vx0 type vxlan id 7 dev eth0 dstport 8472"], |socket, mapping| {
        let rows = socket.dump_all(Kind::Link).unwrap();
        let above = rows.iter().filter_map(Link::of).find(|link| link.name() == "vx0").unwrap();
        assert_eq!((above.kind().as_deref(), above.lower()), (Some("vxlan"), Some(mapping.from.index)));
    });
}

#[test]
fn links_are_read_and_set() {
    inside(&["link property add dev eth0 altname uplink"], |socket, mapping| {
        let link = || {
            let rows = socket.dump_all(Kind::Link).unwrap();
            rows.iter().filter_map(Link::of).find(|link| link.index() == mapping.from.index).unwrap()
        };
        let before = link();
        assert_eq!((before.name().as_str(), before.kind().as_deref()), ("eth0", Some("veth")));
        assert_eq!(before.other_names(), ["uplink"]);
        assert!(before.is_up() && before.has_carrier() && before.is_ethernet() && before.xdp().is_none());
        assert!(before.lower().is_some() && before.master().is_none());
        let index = mapping.from.index;
        send(
            socket,
            &[
                link::set_down(index),
                link::set_mac(index, Mac([2, 0, 0, 0, 0, 9])),
                link::set_mtu(index, 1400),
                link::set_queue_length(index, 77),
                link::set_address_generation(index, AddressGeneration::None),
                link::set_up(index),
            ],
        );
        let after = link();
        assert_eq!(
            (after.mac(), after.mtu(), after.queue_length()),
            (Some(Mac([2, 0, 0, 0, 0, 9])), 1400, 77)
        );
        assert_eq!(after.address_generation(), Some(AddressGeneration::None as u8));
        assert!(after.is_up());
        assert!(!ip("addr show dev eth0").contains("fe80::"));
        send(socket, &[link::remove(index)]);
        let gone = socket.batch(&[link::set_up(index)]).unwrap().remove(0).unwrap();
        assert!(gone.is_missing(), "{gone}");
    });
}

#[test]
fn the_root_qdisc_is_made_again() {
    for options in [
        "handle 5: fq limit 2000 flow_limit 50",
        "handle 6: fq_codel limit 500 target 4ms",
        "handle 7: tbf rate 100mbit burst 32kb latency 50ms",
        "handle 8: netem delay 1ms",
        "handle 9: pfifo limit 44",
        "handle a: prio bands 4",
        "handle b: sfq perturb 10",
    ] {
        inside(&[], |socket, mapping| {
            let command = format!("qdisc add dev eth0 root {options}");
            let made = Command::new("tc").args(command.split_whitespace()).output().unwrap();
            if String::from_utf8_lossy(&made.stderr).contains("kind is unknown") {
                assert!(!options.contains("pfifo"), "every kernel has that one");
                eprintln!("this kernel has no {options}");
                return;
            }
            assert!(made.status.success(), "{made:?}");
            let root = |device: &Device| {
                let rows = socket.dump_all(Kind::Qdisc).unwrap();
                let mut all = rows.iter().filter_map(Qdisc::of);
                all.find(|qdisc| qdisc.is_root() && qdisc.device() == device.index).unwrap()
            };
            let before = root(&mapping.from);
            let text = said("tc", "qdisc show dev eth0");
            assert!(!before.is_default() && text.contains(&before.kind()));
            send(socket, &[Request::delete(qdisc::root_of(mapping.from.index))]);
            assert!(root(&mapping.from).is_default());
            let same = DeviceMapping { from: mapping.from.clone(), to: mapping.from.clone() };
            send(socket, &[Request::replace(before.for_device(&same))]);
            let after = root(&mapping.from);
            assert_eq!(said("tc", "qdisc show dev eth0"), text, "{options}");
            assert_eq!(after.to_string(), before.to_string());
        });
    }
}

#[test]
fn ten_thousand_routes_go_in_one_system_call() {
    inside(&PLAIN, |socket, mapping| {
        let mut model = Route::of(&made_route(socket, &mapping)).unwrap().into_row();
        let mut requests = Vec::new();
        for number in 0..10_000_u32 {
            model.set(1, [20, (number >> 8) as u8, number as u8, 0].to_vec());
            model.header[1] = 24;
            requests.push(Request::replace(model.clone()));
        }
        // One that cannot be, in the middle: the others go on, and it alone is told of.
        let mut bad = model.clone();
        bad.set(5, vec![192, 0, 2, 1]);
        requests.insert(5_000, Request::replace(bad));
        let start = std::time::Instant::now();
        let outcomes = socket.batch(&requests).unwrap();
        eprintln!("10,000 routes made in {:?}", start.elapsed());
        let refused: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_some()).collect();
        assert_eq!(refused.len(), 1, "{:?}", &refused[..refused.len().min(5)]);
        assert_eq!(refused[0].0, 5_000);
        let why = refused[0].1.clone().unwrap();
        assert!(why.message.contains("invalid gateway"), "{why}");
        let error = requests[5_000].refused(why).to_string();
        assert!(
            error.contains("replace route") && error.contains("not on a network of that device"),
            "{error}"
        );
        assert_eq!(routes(socket, &mapping.from).len(), 10_000 + 3);
        let moved: Vec<_> = routes(socket, &mapping.from)
            .iter()
            .filter(|route| !route.is_connected())
            .map(|route| Request::replace(route.for_device(&mapping)))
            .collect();
        send(
            socket,
            &addresses(socket, &mapping.from)
                .iter()
                .map(|a| Request::replace(a.for_device(&mapping)))
                .collect::<Vec<_>>(),
        );
        send(socket, &moved);
        assert_eq!(routes(socket, &mapping.from).iter().filter(|route| !route.is_connected()).count(), 0);
    });
}

fn made_route(socket: &Socket, mapping: &DeviceMapping) -> Row {
    ip("route add 20.0.0.0/24 via 10.1.0.1");
    let found = routes(socket, &mapping.from).into_iter().find(|route| !route.is_connected());
    found.unwrap().for_device(&mapping.reversed())
}

#[test]
fn lists_are_whole_while_others_change_them() {
    inside(&PLAIN, |socket, mapping| {
        let model = made_route(socket, &mapping);
        let fill = |table: u8, to: u32| {
            let mut row = model.clone();
            row.set_byte(4, table);
            row.set(15, u32::from(table).to_ne_bytes().to_vec());
            row.set(1, [20, (to >> 8) as u8, to as u8, 0].to_vec());
            row
        };
        send(socket, &(0..3_000).map(|to| Request::replace(fill(200, to))).collect::<Vec<_>>());
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let other = Socket::open().unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for verb in [Request::replace, Request::delete] {
                        let some = (0..20).map(|to| verb(fill(100, to))).collect::<Vec<_>>();
                        other.batch(&some).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            for _ in 0..30 {
                let all = socket.dump(Kind::Route, Family::V4).unwrap();
                let ours = all.iter().filter_map(Route::of).filter(|route| route.table() == 200).count();
                assert_eq!(ours, 3_000);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

#[test]
fn an_empty_batch_does_nothing() {
    inside(&[], |socket, _| assert_eq!(socket.batch(&[]).unwrap(), []));
}

#[test]
fn rows_survive_a_file() {
    inside(&PLAIN, |socket, _| {
        for kind in
            [Kind::Link, Kind::Address, Kind::Route, Kind::Neighbour, Kind::Rule, Kind::Nexthop, Kind::Qdisc]
        {
            let rows = socket.dump_all(kind).unwrap();
            let text = serde_json::to_string(&rows).unwrap();
            assert_eq!(serde_json::from_str::<Vec<Row>>(&text).unwrap(), rows);
        }
        let text = r#"{"kind":"route","header":"0x","attributes":[]}"#;
        assert!(serde_json::from_str::<Row>(text).is_err());
    });
}

#[test]
fn labels_follow_the_device() {
    let device = |name: &str| Device { index: 1, name: name.into() };
    let mapping = DeviceMapping { from: device("eth0"), to: device("breth0") };
    let address = |label: &str| {
        let mut address = Address::new(1, "10.0.0.1".parse().unwrap(), 24);
        address.row_mut().set(3, netlink_format::terminated(label));
        Address::of(&address.for_device(&mapping)).unwrap().label()
    };
    assert_eq!(address("eth0").as_deref(), Some("breth0"));
    assert_eq!(address("eth0:x").as_deref(), Some("breth0:x"));
    assert_eq!(address("eth0:12345678").as_deref(), Some("breth0:12345678"));
    assert_eq!(address("eth0:123456789"), None);
    assert_eq!(address("eth01"), None);
    assert_eq!(address("other"), None);
}

fn any_row() -> impl Strategy<Value = Row> {
    let kind = prop_oneof![
        Just(Kind::Link),
        Just(Kind::Address),
        Just(Kind::Route),
        Just(Kind::Neighbour),
        Just(Kind::Rule),
        Just(Kind::Nexthop),
        Just(Kind::Qdisc)
    ];
    let bytes = || prop::collection::vec(prop_oneof![Just(2_u8), Just(10), any::<u8>()], 0..40);
    let attribute = (0_u16..56, bytes()).prop_map(|(kind, value)| Attribute { kind, value });
    (kind, bytes(), prop::collection::vec(attribute, 0..8), any::<bool>()).prop_map(
        |(kind, mut header, attributes, fit)| {
            if fit {
                header.resize(kind.header(), 0);
            }
            Row { kind, header, attributes }
        },
    )
}

proptest! {
    /// A file may hold anything; nothing of it may stop an undo.
    #[test]
    fn any_row_is_read_shown_and_moved_without_harm(row in any_row()) {
        let device = |index, name: &str| Device { index, name: name.into() };
        let mapping = DeviceMapping { from: device(2, "eth0"), to: device(3, "breth0") };
        let _ = row.to_string();
        let moved = [
            Address::of(&row).map(|view| { let _ = (view.aged(Duration::from_secs(9)), Route::connected(&view), view.identity()); view.for_device(&mapping) }),
            Route::of(&row).map(|view| { let _ = (view.aged(Duration::from_secs(9)), view.onlink(), view.key(), view.identity()); view.for_device(&mapping) }),
            Neighbour::of(&row).map(|view| view.for_device(&mapping)),
            Rule::of(&row).map(|view| view.for_device(&mapping)),
            Nexthop::of(&row).map(|view| view.for_device(&mapping)),
            Qdisc::of(&row).map(|view| view.for_device(&mapping)),
            Link::of(&row).map(|view| { let _ = (view.xdp(), view.other_names(), view.address_generation()); view.identity() }),
        ];
        for row in moved.into_iter().flatten() {
            let mut bytes = Vec::new();
            Request::replace(row).push(&mut bytes, 1);
            prop_assert_eq!(netlink_format::messages(&bytes).count(), 1);
        }
    }
}
