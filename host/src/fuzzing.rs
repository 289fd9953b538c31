//! Entry points for fuzz targets: each takes any bytes and returns nothing; none may panic.

use crate::ingress_filter::nf_tables;
use crate::neighbour_probe::frames;
use crate::rtnl::{
    Device, DeviceMapping, Family, Kind, Request, Row, address, link, neighbour, nexthop, qdisc, route, rule,
};
use crate::{ethtool, netlink_format, nft, process, sockets};

/// A datagram of netlink messages, with their attributes and acknowledgements.
pub fn netlink_messages(bytes: &[u8]) {
    for message in netlink_format::messages(bytes) {
        let _ = message.answer();
        for (_, value) in netlink_format::attributes(message.body) {
            let _ = (netlink_format::attributes(value).count(), netlink_format::text(value));
        }
    }
}

/// The body of an rtnetlink message: the first byte selects the kind of the row.
pub fn rtnetlink_row(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    if let Some(row) = Row::read(kind, body) {
        use_row(&row);
    }
}

/// A row as JSON, as journals and records contain it.
pub fn row_json(bytes: &[u8]) {
    if let Ok(row) = serde_json::from_slice::<Row>(bytes) {
        use_row(&row);
    }
}

/// The body of an nf_tables message that lists a table, a chain or a rule.
pub fn nf_tables_message(bytes: &[u8]) {
    let _ = (nf_tables::table(bytes), nf_tables::chain(bytes), nf_tables::rule(bytes));
}

/// The output of `nft -j list table`.
pub fn nft_listing(bytes: &[u8]) {
    let _ = nft::parse_listing(bytes);
}

/// The answers of ethtool with names of offloads, and with the driver.
pub fn ethtool_strings(bytes: &[u8]) {
    let _ = (ethtool::names_of(bytes), ethtool::driver_of(bytes));
}

/// The body of a sock_diag message.
pub fn sock_diag_message(bytes: &[u8]) {
    sockets::parse_any(bytes);
}

/// A frame that a probe receives.
pub fn probe_frame(bytes: &[u8]) {
    let _ = frames::answer(bytes);
}

/// The content of `/proc/PID/stat`.
pub fn process_stat(bytes: &[u8]) {
    let _ = process::Stat::parse(&String::from_utf8_lossy(bytes));
}

/// Reads, displays, maps and writes a row by every view.
fn use_row(row: &Row) {
    let device = |index, name: &str| Device { index, name: name.into() };
    let mapping = DeviceMapping { from: device(2, "eth0"), to: device(3, "breth0") };
    let _ = row.to_string();
    let mapped = [
        address::Address::of(row).map(|view| {
            let _ = (route::Route::connected(&view), view.identity(), view.delete_request());
            view.for_device(&mapping)
        }),
        route::Route::of(row).map(|view| {
            let _ = (view.onlink(), view.key(), view.identity(), view.delete_request());
            view.for_device(&mapping)
        }),
        neighbour::Neighbour::of(row).map(|view| view.for_device(&mapping)),
        rule::Rule::of(row).map(|view| view.for_device(&mapping)),
        nexthop::Nexthop::of(row).map(|view| view.for_device(&mapping)),
        qdisc::Qdisc::of(row).map(|view| view.for_device(&mapping)),
        link::Link::of(row).map(|view| {
            let _ = (view.xdp(), view.lower(), view.master(), view.kind());
            view.identity()
        }),
    ];
    for row in mapped.into_iter().flatten() {
        let _ = row.family() == Some(Family::V4);
        let mut bytes = Vec::new();
        Request::replace(row).push(&mut bytes, 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_an_entry_point_panic(
            bytes in prop::collection::vec(prop_oneof![0_u8..9, any::<u8>()], 0..200)
        ) {
            for entry in [
                netlink_messages,
                rtnetlink_row,
                row_json,
                nf_tables_message,
                nft_listing,
                ethtool_strings,
                sock_diag_message,
                probe_frame,
                process_stat,
            ] {
                entry(&bytes);
            }
        }
    }
}
