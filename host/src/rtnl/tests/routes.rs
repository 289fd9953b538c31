//! Routes and nexthop objects.

use super::super::nexthop::Nexthop;
use super::*;

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
            let identities: Vec<_> =
                again.iter().filter_map(Route::of).map(|route| route.identity()).collect();
            assert!(identities.contains(&row.identity()), "{row} is not among {again:#?}");
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
