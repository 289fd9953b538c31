//! What earlier takeovers left: unreadable records, ingress filters without a bridge or several for one NIC, files for
//! network managers.

use std::collections::{BTreeMap, BTreeSet};

use host::ingress_filter::IngressFilter;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{HandoverFile, JournalSnapshot, NodeSnapshot};
use uplink::names;

/// All findings. While a run is in progress, or has not been recovered, nothing counts as left over.
pub(super) fn check(node: &NodeSnapshot) -> Vec<Finding> {
    let mut findings: Vec<_> = node.leftovers.unreadable_records.iter().map(|why| record(why)).collect();
    if matches!(node.journal, JournalSnapshot::Open { .. } | JournalSnapshot::Unreadable(_)) {
        return findings;
    }
    findings.extend(ingress_filters(node));
    // Which files are still needed is not known from records that cannot be read.
    if node.leftovers.unreadable_records.is_empty() {
        let stale = node.leftovers.files.iter().filter(|file| !is_needed(node, file));
        findings.extend(stale.map(left_file));
    }
    findings
}

fn record(why: &str) -> Finding {
    Finding::warning(
        "record-broken",
        "a takeover's record",
        why,
        "recovery at boot, bridge-to-nics and failover do not know the NIC's addresses and routes of before the takeover",
        "`ovn-k8s-util recover` renames it; then `ovn-k8s-util nics-to-bridge NIC` writes it again",
    )
}

/// Ingress filters that nothing maintains, and several for one NIC: one that drops is enough to cut it off.
fn ingress_filters(node: &NodeSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_nic: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for filter in &node.leftovers.ingress_filters {
        if let Some(nic) = &filter.nic {
            by_nic.entry(nic).or_default().push(&filter.table);
        }
    }
    for (nic, tables) in by_nic.iter().filter(|(_, tables)| tables.len() > 1) {
        findings.push(Finding::error(
            "guard-twice",
            nic,
            format!("has {} ingress filters: {}", tables.len(), tables.join(", ")),
            "if any of them drops frames, the host may receive nothing from this NIC",
            format!(
                "remove that of the bridge that does not exist: `nft delete table netdev {}`",
                tables.join("`, or `")
            ),
        ));
    }
    let maintained = maintained(node);
    for filter in node.leftovers.ingress_filters.iter().filter(|filter| !maintained.contains(&filter.table)) {
        let remedy = format!("`nft delete table netdev {}`", filter.table);
        let (about, what) = (filter.table.as_str(), "is an ingress filter without a bridge");
        findings.push(match (&filter.nic, filter.drops_at_nic) {
            (Some(nic), true) => Finding::error(
                "guard-left",
                about,
                format!("{what}, and drops every frame from {nic}"),
                "the host receives nothing from that NIC",
                remedy,
            ),
            _ => Finding::warning(
                "guard-left",
                about,
                what,
                "nothing updates it any more; it would affect a later bridge of that name",
                remedy,
            ),
        });
    }
    findings
}

/// The tables of bridges that have a record or that the switch has.
fn maintained(node: &NodeSnapshot) -> BTreeSet<String> {
    let in_switch = node.observed.switch.bridges.iter().map(|bridge| bridge.name.as_str());
    let recorded_bridges = node.leftovers.recorded_bridges.iter().map(String::as_str);
    // Without the database, a device of that name counts as the bridge.
    let devices = node.observed.links.iter().map(|link| link.name.as_str());
    let devices = devices.filter(|_| !node.observed.switch.answers);
    in_switch.chain(recorded_bridges).chain(devices).map(IngressFilter::table).collect()
}

/// Whether a takeover record is about the file's device.
fn is_needed(node: &NodeSnapshot, file: &HandoverFile) -> bool {
    let plain = |name: &str| -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let device = plain(&file.device);
    let of_record = |bridge: &String| {
        let pair = node.uplinks.iter().find(|uplink| uplink.bridge == *bridge);
        let nic = pair.map(|uplink| uplink.nic.as_str()).or_else(|| names::nic_of(bridge));
        plain(bridge) == device || nic.is_some_and(|nic| plain(nic) == device)
    };
    // With DHCP, networkd's file for the NIC stays after bridge-to-nics, and makes networkd manage the NIC.
    node.leftovers.recorded_bridges.iter().any(of_record)
        || (!file.unmanages && node.observed.links.iter().any(|link| plain(&link.name) == device))
}

fn left_file(file: &HandoverFile) -> Finding {
    let remedy = format!(
        "`rm {}`, then make the manager read its files again (`networkctl reload`, `nmcli general reload conf`)",
        file.path.display()
    );
    let what = format!("{} is left from a takeover that no longer exists", file.path.display());
    if file.unmanages {
        let why = "its network manager ignores the device: its addresses are not renewed";
        Finding::warning("handover-left", &file.device, what, why, remedy)
    } else {
        let why = "it has no effect while there is no such device";
        Finding::note("handover-left", &file.device, what, why, remedy)
    }
}
