//! What takeovers of before left: records, guards without a bridge, two guards, files for network managers.

use std::collections::{BTreeMap, BTreeSet};

use host::ingress_filter::IngressFilter;

use super::super::snapshot::{FileSeen, JournalSeen, Seen};
use super::Finding;
use uplink::plan;

/// All of it. While a run is under way, or has not been settled, nothing of it is left over yet.
pub(super) fn check(seen: &Seen) -> Vec<Finding> {
    let mut findings: Vec<_> = seen.left.broken_records.iter().map(|why| record(why)).collect();
    if matches!(seen.journal, JournalSeen::Open { .. } | JournalSeen::Broken(_)) {
        return findings;
    }
    findings.extend(guards(seen));
    // Whose files are still wanted cannot be told from records that cannot be read.
    if seen.left.broken_records.is_empty() {
        let stale = seen.left.files.iter().filter(|file| !is_wanted(seen, file));
        findings.extend(stale.map(left_file));
    }
    findings
}

fn record(why: &str) -> Finding {
    Finding::warning(
        "record-broken",
        "a takeover's record",
        why,
        "neither a boot, nor the way back, nor a failover knows what this bridge was made from",
        "`ovn-k8s-util recover` puts one aside that is broken; then `ovn-k8s-util nics-to-bridge` for its NIC writes it anew",
    )
}

/// Guards that nobody keeps, and several for one NIC: one that drops is enough to make it deaf.
fn guards(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_nic: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for guard in &seen.left.guards {
        if let Some(nic) = &guard.nic {
            by_nic.entry(nic).or_default().push(&guard.table);
        }
    }
    for (nic, tables) in by_nic.iter().filter(|(_, tables)| tables.len() > 1) {
        findings.push(Finding::error(
            "guard-twice",
            nic,
            format!("has {} guards: {}", tables.len(), tables.join(", ")),
            "each is turned by itself, and one that drops is enough: the node may hear nothing there",
            format!(
                "remove the one whose bridge is gone (`nft delete table netdev {}`)",
                tables.join("`, or `")
            ),
        ));
    }
    let known = kept(seen);
    for guard in seen.left.guards.iter().filter(|guard| !known.contains(&guard.table)) {
        let remedy = format!("`nft delete table netdev {}`", guard.table);
        let (about, what) = (guard.table.as_str(), "is a guard without a bridge");
        findings.push(match (&guard.nic, guard.drops_at_nic) {
            (Some(nic), true) => Finding::error(
                "guard-left",
                about,
                format!("{what}, and drops all that comes in by {nic}"),
                "the node hears nothing on that NIC",
                remedy,
            ),
            _ => Finding::warning(
                "guard-left",
                about,
                what,
                "nobody turns it any more; a bridge of that name that is made later would meet it",
                remedy,
            ),
        });
    }
    findings
}

/// The tables of bridges that are on record, or that the switch has for a NIC.
fn kept(seen: &Seen) -> BTreeSet<String> {
    let in_switch = seen.observed.switch.bridges.iter().map(|bridge| bridge.name.as_str());
    let on_record = seen.left.on_record.iter().map(String::as_str);
    // Without the database's word, a device of that name has to do.
    let devices = seen.observed.links.iter().map(|link| link.name.as_str());
    let devices = devices.filter(|_| !seen.observed.switch.answers);
    in_switch.chain(on_record).chain(devices).map(IngressFilter::table).collect()
}

/// Whether a takeover on record has to do with the file's device.
fn is_wanted(seen: &Seen, file: &FileSeen) -> bool {
    let plain = |name: &str| -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let device = plain(&file.device);
    let of_record = |bridge: &String| {
        let pair = seen.uplinks.iter().find(|uplink| uplink.bridge == *bridge);
        let nic = pair.map(|uplink| uplink.nic.as_str()).or_else(|| plan::nic_of(bridge));
        plain(bridge) == device || nic.is_some_and(|nic| plain(nic) == device)
    };
    // With DHCP, networkd's file for the NIC stays after the way back, and says that it is to be looked after.
    seen.left.on_record.iter().any(of_record)
        || (!file.keeps_away && seen.observed.links.iter().any(|link| plain(&link.name) == device))
}

fn left_file(file: &FileSeen) -> Finding {
    let remedy = format!(
        "remove it (`rm {}`) and have the manager read its files again (`networkctl reload`, `nmcli general reload conf`)",
        file.path.display()
    );
    let what = format!("{} is left of a takeover that is no more", file.path.display());
    if file.keeps_away {
        let why = "its network manager leaves the device alone: nobody renews its addresses";
        Finding::warning("handover-left", &file.device, what, why, remedy)
    } else {
        let why = "it does nothing while there is no such device";
        Finding::note("handover-left", &file.device, what, why, remedy)
    }
}
