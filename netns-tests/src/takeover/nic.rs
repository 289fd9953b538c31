//! How the node's NIC is configured: everything a takeover has to carry over.

/// The NIC.
pub const NIC: &str = "eth0";
/// The bridge it goes onto.
pub const BRIDGE: &str = "breth0";
/// A second NIC, where a site has one.
pub const SECOND: &str = "eth1";
/// MAC address of the NIC.
pub const MAC: &str = "0a:58:ac:00:01:64";

/// Four addresses (the link-local one is the kernel's), ten routes beside the connected ones, a policy rule.
pub fn usual() -> String {
    addresses() + ROUTES + "rule add from 172.18.0.111 lookup 100 priority 1000\n"
}

fn addresses() -> String {
    "addr add 172.18.0.11/24 brd + dev eth0\n\
     addr add 172.18.0.111/24 brd + dev eth0\n\
     addr add fd00:18::11/64 dev eth0 nodad\n"
        .to_owned()
}

const ROUTES: &str = "\
    route add default via 172.18.0.1 dev eth0\n\
    route add 198.51.100.0/24 via 10.99.0.1 dev eth0 onlink\n\
    route add 203.0.113.0/24 nexthop via 172.18.0.1 dev eth0 weight 1 nexthop via 172.18.0.3 dev eth0 weight 2\n\
    route add default via 172.18.0.3 dev eth0 table 100\n\
    route add 198.18.0.0/24 via 172.18.0.1 dev eth0 src 172.18.0.111\n\
    route add 198.19.0.0/24 via 172.18.0.1 dev eth0 metric 50 mtu 1300\n\
    route add default via fd00:18::1 dev eth0\n\
    route add 2001:db8:203::/64 nexthop via fd00:18::1 dev eth0 nexthop via fd00:18::3 dev eth0\n\
    route add default via fd00:18::3 dev eth0 table 100\n\
    route add 2001:db8:198::/64 via fd00:18::1 dev eth0 src fd00:18::11 metric 77\n";

/// A minimal configuration: one address and a default route of each family.
pub fn plain() -> String {
    "addr add 172.18.0.11/24 brd + dev eth0\n\
     addr add fd00:18::11/64 dev eth0 nodad\n\
     route add default via 172.18.0.1 dev eth0\n\
     route add default via fd00:18::1 dev eth0\n"
        .to_owned()
}

/// `count` more routes, of both families alternately, as a router's table brings them.
pub fn many_routes(count: usize) -> String {
    let one = |number: usize| {
        let [high, low] = u16::try_from(number / 2).unwrap_or(u16::MAX).to_be_bytes();
        if number.is_multiple_of(2) {
            format!("route add 10.{high}.{low}.0/24 via 172.18.0.1 dev eth0\n")
        } else {
            format!("route add 2001:db8:{:x}::/48 via fd00:18::1 dev eth0\n", 0x1000 + number / 2)
        }
    };
    (0..count).map(one).collect()
}
