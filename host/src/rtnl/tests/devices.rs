//! Neighbours, rules, links and qdiscs.

use super::super::link;
use super::super::neighbour::Neighbour;
use super::super::qdisc::Qdisc;
use super::super::rule::Rule;
use super::*;
use crate::Mac;

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
fn rules_are_doubled_for_the_other_device() {
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
fn the_lower_device_of_a_vxlan() {
    inside(&["link add vx0 type vxlan id 7 dev eth0 dstport 8472"], |socket, mapping| {
        let rows = socket.dump_all(Kind::Link).unwrap();
        let above = rows.iter().filter_map(Link::of).find(|link| link.name() == "vx0").unwrap();
        assert_eq!((above.kind().as_deref(), above.lower()), (Some("vxlan"), Some(mapping.from.index)));
    });
}

#[test]
fn links_are_read_and_set() {
    inside(&["link set eth0 address 02:00:00:00:00:09"], |socket, mapping| {
        let link = || {
            let rows = socket.dump_all(Kind::Link).unwrap();
            rows.iter().filter_map(Link::of).find(|link| link.index() == mapping.from.index).unwrap()
        };
        let before = link();
        assert_eq!((before.name().as_str(), before.kind().as_deref()), ("eth0", Some("veth")));
        assert_eq!(before.mac(), Some(Mac([2, 0, 0, 0, 0, 9])));
        assert!(before.is_up() && before.has_carrier() && before.is_ethernet() && before.xdp().is_none());
        assert!(before.lower().is_some() && before.master().is_none());
        let index = mapping.from.index;
        send(socket, &[link::set_down(index), link::set_mtu(index, 1400), link::set_up(index)]);
        let after = link();
        assert_eq!((after.mac(), after.mtu()), (before.mac(), 1400));
        assert!(after.is_up());
        let down = socket.batch(&[link::set_down(index)]).unwrap();
        assert_eq!((down, link().is_up()), (vec![None], false));
        send(socket, &[link::remove(index)]);
        let gone = socket.batch(&[link::set_up(index)]).unwrap().remove(0).unwrap();
        assert!(gone.is_missing(), "{gone}");
    });
}

#[test]
fn the_root_qdisc_is_recreated() {
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
            let text = output_of("tc", "qdisc show dev eth0");
            assert!(!before.is_default() && text.contains(&before.kind()));
            output_of("tc", "qdisc del dev eth0 root");
            assert!(root(&mapping.from).is_default());
            let same = DeviceMapping { from: mapping.from.clone(), to: mapping.from.clone() };
            send(socket, &[Request::replace(before.for_device(&same))]);
            let after = root(&mapping.from);
            assert_eq!(output_of("tc", "qdisc show dev eth0"), text, "{options}");
            assert_eq!(after.to_string(), before.to_string());
        });
    }
}
