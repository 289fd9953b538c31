//! Everything from one device to another and back, in a namespace of the kernel's own.

use std::io::Write;
use std::process::{Command, Stdio};

use host::netns::Namespace;
use host::rtnl::link::Link;
use host::rtnl::{Device, Kind, Socket, Verb};

use super::*;
use crate::switchover::Migration;

const CONFIGURED: &str = "\
    link add nic type veth peer name nic.1\nlink add bridge type veth peer name bridge.1\n\
    link add other type veth peer name other.1\nlink set bridge addrgenmode none\n\
    link set lo up\nlink set nic.1 up\nlink set bridge.1 up\nlink set other.1 up\n\
    link set nic up\nlink set bridge up\nlink set other up\n\
    addr add 10.0.0.2/24 brd + dev nic\naddr add 10.0.0.3/24 dev nic\naddr add 10.0.0.4/24 dev nic label nic:4\n\
    addr add 10.9.0.2/32 dev nic\naddr add 10.8.0.2/24 dev nic noprefixroute\n\
    addr add 10.7.0.2/24 dev nic metric 77\naddr add 10.6.0.1 peer 10.6.0.2/32 dev nic\n\
    addr add 10.5.0.1/24 dev nic valid_lft 5000 preferred_lft 4000\n\
    addr add fd00::2/64 dev nic nodad\naddr add fd01::2/64 dev nic nodad noprefixroute\n\
    addr add 192.0.2.1/24 dev other\naddr add fd0f::1/64 dev other nodad\n\
    route add default via 10.0.0.1 dev nic\nroute add default via 10.0.0.1 dev nic table 100\n\
    route add 198.51.100.0/24 via 10.99.0.1 dev nic onlink\nroute add 198.51.101.0/24 dev nic scope link\n\
    route add 203.0.113.0/24 nexthop via 10.0.0.1 dev nic weight 1 nexthop via 10.0.0.9 dev nic weight 2\n\
    route add 203.0.114.0/24 nexthop via 10.0.0.1 dev nic nexthop via 192.0.2.9 dev other\n\
    route add 198.18.0.0/24 via 10.0.0.1 dev nic src 10.0.0.3 metric 50 mtu 1300\n\
    route add 198.19.0.0/24 via 192.0.2.9 dev other\nroute append 198.19.0.0/24 via 10.0.0.1 dev nic\n\
    route add default via fd00::1 dev nic\nroute add default via fd0f::9 dev other metric 2048\n\
    route add 2001:db8:1::/64 via fd00::1 dev nic src fd00::2 metric 9\n\
    route add 2001:db8:2::/64 nexthop via fd00::1 dev nic nexthop via fd00::9 dev nic\n\
    route add 2001:db8:3::/64 via fd00::1 dev nic expires 5000\n\
    nexthop add id 7 via 10.0.0.1 dev nic\nroute add 198.20.0.0/24 nhid 7\n\
    neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev nic nud stale\n\
    neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev nic nud permanent\nneigh add proxy 10.0.0.77 dev nic\n\
    rule add iif nic lookup 100 priority 900\nrule add from 10.0.0.3 lookup 100 priority 901\n";

fn ip(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines}");
}

fn device(socket: &Socket, name: &str) -> Device {
    let links = socket.dump(Kind::Link, Family::V4).unwrap();
    links.iter().filter_map(Link::of).find(|link| link.name() == name).unwrap().device()
}

/// What a device carries, to be compared; of its addresses also whether others are asked for them.
fn carried(socket: &Socket, on: &Device) -> Vec<(Row, bool)> {
    let rows = Network::moving(socket).unwrap().of(on);
    let asks = |row: &Row| Address::of(row).is_some_and(|one| one.flags() & NODAD == 0);
    let all = rows.addresses.iter().chain(&rows.routes).chain(&rows.nexthops);
    let mut all: Vec<(Row, bool)> = all.map(|row| (identity(row), asks(row))).collect();
    all.sort();
    all
}

fn inside(work: impl FnOnce(&Socket, &Device, &Device) + Send) {
    let all = || {
        ip(CONFIGURED);
        let socket = Socket::open().unwrap();
        // The kernel's own link-local address asks for duplicates first.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let (nic, bridge) = (device(&socket, "nic"), device(&socket, "bridge"));
        let waits = || {
            let rows = Network::moving(&socket).unwrap().of(&nic).addresses();
            rows.iter().any(Address::is_tentative) || !rows.iter().any(|one| one.is_link_local())
        };
        while waits() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        work(&socket, &nic, &bridge);
    };
    Namespace::create().unwrap().run(all).unwrap();
}

#[test]
fn rows_move_to_another_device_and_back() {
    inside(|socket, nic, bridge| {
        let onto = DeviceMapping { from: nic.clone(), to: bridge.clone() };
        let before = carried(socket, nic);
        let others = carried(socket, &device(socket, "other")).len();
        let wanted = moved(&Network::moving(socket).unwrap().of(nic), &onto);
        let way = Migration::new(socket, nic, bridge);
        let refused = [way.prepare(), way.move_routes(), way.remove_old()].map(Result::unwrap).concat();
        assert_eq!(refused, Vec::<String>::new());
        let left = Network::moving(socket).unwrap().of(nic);
        assert_eq!((left.addresses, left.routes), (vec![], vec![]));
        assert_eq!(missing(&wanted, &Network::moving(socket).unwrap()), []);
        assert_eq!(carried(socket, bridge).len(), before.len());
        assert_eq!(carried(socket, &device(socket, "other")).len(), others);

        let way = Migration::new(socket, bridge, nic);
        let refused = [way.prepare(), way.move_routes(), way.remove_rule_twins(), way.remove_old()]
            .map(Result::unwrap)
            .concat();
        assert_eq!(refused, Vec::<String>::new());
        assert_eq!(carried(socket, nic), before);
        let left = Network::moving(socket).unwrap().of(bridge);
        assert_eq!((left.addresses, left.routes, left.rules), (vec![], vec![], vec![]));
    });
}

#[test]
fn an_interrupted_migration_can_be_repeated() {
    inside(|socket, nic, bridge| {
        let before = carried(socket, nic);
        let was = Network::moving(socket).unwrap().of(nic);
        let there = Migration::new(socket, nic, bridge);
        for parts in 1..=3 {
            let done: [&dyn Fn() -> crate::Result<Vec<String>>; 3] =
                [&|| there.prepare(), &|| there.move_routes(), &|| there.remove_old()];
            for part in done.iter().take(parts) {
                assert_eq!(part().unwrap(), Vec::<String>::new());
            }
            // From the journal and from what is found, twice.
            for _ in 0..2 {
                let here = DeviceMapping { from: nic.clone(), to: nic.clone() };
                let back = Migration::of(
                    socket,
                    Transfer { wanted: moved(&was, &here), ..Transfer::new(bridge, nic) },
                );
                let refused =
                    [back.prepare(), back.move_routes(), back.remove_rule_twins(), back.remove_old()]
                        .map(Result::unwrap)
                        .concat();
                assert_eq!(refused, Vec::<String>::new(), "after {parts}");
            }
            assert_eq!(carried(socket, nic), before, "after {parts}");
        }
    });
}

#[test]
fn a_primary_address_is_removed_after_its_secondaries() {
    inside(|socket, nic, _| {
        let rows = Network::moving(socket).unwrap().of(nic);
        let order: Vec<Request> = strip(&rows);
        assert!(order.iter().all(|request| request.verb == Verb::Delete));
        let place = |text: &str| {
            let local: std::net::IpAddr = text.parse().unwrap();
            order.iter().position(|one| Address::of(&one.row).unwrap().local() == Some(local)).unwrap()
        };
        assert!(place("10.0.0.2") > place("10.0.0.3") && place("10.0.0.2") > place("10.0.0.4"));
    });
}
