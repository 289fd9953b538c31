//! What only /proc/net lists: packet sockets and multicast memberships.
//!
//! Lines of another form are left out: the tables are not a stable interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Membership, PacketSocket};

/// `/proc/net/packet`.
pub(super) fn packet(table: &str) -> Vec<PacketSocket> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(3);
        let protocol = u16::from_str_radix(fields.next()?, 16).ok()?;
        let device: u32 = fields.next()?.parse().ok()?;
        let inode = fields.nth(3)?.parse().ok()?;
        Some(PacketSocket { device: (device != 0).then_some(device), protocol, inode, process: None })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `/proc/net/igmp`: a line for each device, and indented ones for its groups.
pub(super) fn igmp(table: &str, device: u32) -> Vec<Membership> {
    let mut here = false;
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace();
        if !line.starts_with(['\t', ' ']) {
            here = fields.next().and_then(|index| index.parse().ok()) == Some(device);
            continue;
        }
        let group = fields.next().and_then(|text| u32::from_str_radix(text, 16).ok());
        let users = fields.next().and_then(|text| text.parse().ok());
        if let (true, Some(group), Some(users)) = (here, group, users) {
            // Printed as a number in native byte order.
            found.push(Membership { group: Ipv4Addr::from(group.to_ne_bytes()).into(), users });
        }
    }
    found
}

/// `/proc/net/igmp6`.
pub(super) fn igmp6(table: &str, device: u32) -> Vec<Membership> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let index: u32 = fields.next()?.parse().ok()?;
        let group = u128::from_str_radix(fields.nth(1)?, 16).ok()?;
        let users = fields.next()?.parse().ok()?;
        (index == device).then(|| Membership { group: Ipv6Addr::from(group).into(), users })
    };
    table.lines().filter_map(line).collect()
}

/// Whether the kernel joins the group by itself, on every device.
pub(super) fn is_kernels(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group == Ipv4Addr::new(224, 0, 0, 1),
        IpAddr::V6(group) => {
            // All nodes; all routers, when forwarding (RFC 4291, 2.7.1); the groups of its own addresses.
            let [first, .., last] = group.segments();
            let well_known = (first & 0xfff0 == 0xff00) && group.segments()[1..7] == [0; 6] && last <= 2;
            let solicited = group.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
            well_known || solicited
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_are_read() {
        let table = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                     0000000000000000 3      3    0003   4     1 0      0      15345\n\
                     0000000000000000 3      2    0800   0     1 0      0      77\n\
                     cut short\n";
        assert_eq!(
            packet(table),
            [
                PacketSocket { device: Some(4), protocol: 3, inode: 15345, process: None },
                PacketSocket { device: None, protocol: 0x800, inode: 77, process: None }
            ]
        );
        let table = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                     1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                     4\teth0      :     2      V3\n\t\t\t\tFB0000E0     2 0:00000000\t\t0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(igmp(table, 4), [Membership { group: "224.0.0.251".parse().unwrap(), users: 2 }]);
        }
        let table = "1    lo    ff020000000000000000000000000001     1 0000000C 0\n\
                     4    eth0  ff0200000000000000000000000000fb     1 00000004 0\n";
        assert_eq!(igmp6(table, 4), [Membership { group: "ff02::fb".parse().unwrap(), users: 1 }]);
    }

    #[test]
    fn the_kernels_own_groups_are_known() {
        for group in ["224.0.0.1", "ff02::1", "ff01::1", "ff02::2", "ff05::2", "ff02::1:ff12:3456"] {
            assert!(is_kernels(group.parse().unwrap()), "{group}");
        }
        for group in ["224.0.0.251", "239.1.2.3", "ff02::fb", "ff02::1:2", "ff02::1:3"] {
            assert!(!is_kernels(group.parse().unwrap()), "{group}");
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_panic(table in "[0-9a-fA-F \t\n:]{0,200}") {
            let _ = (packet(&table), igmp(&table, 1), igmp6(&table, 1));
        }
    }
}
