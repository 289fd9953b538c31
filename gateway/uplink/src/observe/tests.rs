//! Looks at a real network, in a namespace of its own.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Mutex;

use host::netns::Namespace;
use nix::sys::socket::{setsockopt, sockopt};
use ovs::ovsdb::Remote;

use super::*;

/// nft and tc in one line each; a namespace of its own per test, one at a time to spare the machine.
static ONE: Mutex<()> = Mutex::new(());

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn in_namespace(script: &'static str, check: impl FnOnce(Observed) + Send + 'static) {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Namespace::create()
        .unwrap()
        .run(move || {
            sh("ip link set lo up; ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up");
            sh(script);
            let _held = hold();
            let nowhere = Remote::unix("/nonexistent/db.sock");
            check(gather::observe_at(&["eth0".to_owned()], &nowhere, std::path::Path::new("/")).unwrap());
        })
        .unwrap();
}

/// A socket bound to eth0, which has joined a group there.
fn hold() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &"eth0".into()).unwrap();
    // Without an address there is no joining by one.
    let _ = socket.join_multicast_v4(&[239, 7, 7, 7].into(), &[10, 1, 0, 5].into());
    socket
}

#[test]
fn addresses_routes_rules_qdiscs_and_sockets_of_a_nic_are_observed() {
    in_namespace(
        "ip addr add 10.1.0.5/24 dev eth0; ip addr add 10.1.0.6/24 dev eth0 valid_lft 500 preferred_lft 400
         ip -6 addr add fd01::5/64 dev eth0 nodad; ip route add default via 10.1.0.1 dev eth0
         ip route add 192.168.9.0/24 via 172.16.0.1 dev eth0 onlink table 100
         ip route add 172.20.0.0/16 via 10.1.0.1 dev eth0; ip rule add iif eth0 lookup 100
         ip link add link eth0 name mv0 type macvlan; tc qdisc add dev eth0 root pfifo limit 77
         tc qdisc add dev eth0 clsact; ip neigh add 10.1.0.1 lladdr 02:00:00:00:00:99 dev eth0",
        |observed| {
            let nic = observed.nic("eth0").unwrap();
            let find = |net: &str| nic.addresses.iter().find(|it| it.net.to_string() == net);
            assert_eq!(find("10.1.0.5/24").unwrap().left, None);
            assert!(find("10.1.0.6/24").unwrap().left.is_some_and(|left| left > 400));
            assert!(find("fd01::5/64").is_some());
            assert!(nic.routes.iter().any(|route| route.table == 100 && route.onlink), "{nic:?}");
            let texts: Vec<_> = nic.routes.iter().map(|route| route.text.as_str()).collect();
            assert!(texts.contains(&"default via 10.1.0.1 proto boot"), "{texts:?}");
            assert_eq!(nic.next_hops().len(), 2);
            assert_eq!((nic.rules.len(), nic.clsact), (1, true));
            assert!(nic.qdisc.as_deref().is_some_and(|qdisc| qdisc.contains("pfifo")), "{nic:?}");
            assert!(nic.neighbours >= 1 && nic.link.ethernet && nic.link.up);
            let upper = observed.link("mv0").unwrap();
            assert_eq!((upper.lower, upper.kind.as_str()), (Some(nic.link.index), "macvlan"));
            let device: Vec<_> = nic.bound.iter().filter(|it| it.how == Binding::Device).collect();
            assert_eq!(device.len(), 1, "{nic:?}");
            assert!(
                device[0].what.contains(":5353") && device[0].pid == Some(std::process::id()),
                "{device:?}"
            );
            assert_eq!(nic.memberships, ["239.7.7.7".parse::<std::net::IpAddr>().unwrap()]);
            assert!(!observed.switch.answers && observed.switch.error.is_some());
            assert!(observed.link("lo").is_some_and(|lo| lo.loopback && !lo.ethernet));
        },
    );
}

#[test]
fn firewall_rules_and_a_foreign_filter_table_are_observed() {
    in_namespace(
        "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop;
            iifname \"eth0\" tcp dport 22 accept; iifname { \"eth0\", \"breth0\" } udp dport 53 accept; }; }'
         nft 'table netdev ovn_k8s_breth0 { chain mine { type filter hook ingress device eth0 priority 5; }; }'",
        |observed| {
            assert_eq!(observed.unknown, Vec::<String>::new());
            let rules: Vec<_> = observed.firewall.iter().filter(|rule| rule.lets_in).collect();
            assert_eq!(rules.len(), 2, "{:?}", observed.firewall);
            assert!(rules[0].names("eth0") && rules[1].names("breth0"));
            assert_eq!(observed.foreign_guards, [host::ingress_filter::IngressFilter::table("breth0")]);
        },
    );
}
