//! What takeovers left.

use host::ingress_filter;

use super::*;

fn filter(table: &str, nic: &str, drops_at_nic: bool) -> ingress_filter::ListedFilter {
    ingress_filter::ListedFilter {
        table: table.to_owned(),
        nic: Some(nic.to_owned()),
        drops_at_nic,
        ..ingress_filter::ListedFilter::default()
    }
}

#[test]
fn ingress_filters() {
    let ours = || filter("ovn_k8s_breth0", "eth0", true);
    let of =
        |filters: Vec<ingress_filter::ListedFilter>| with(|node| node.leftovers.ingress_filters = filters);
    assert_eq!(report(&of(vec![ours()])).worst, Severity::Ok);
    let left =
        finds(&of(vec![ours(), filter("ovn_k8s_breth7", "eth7", true)]), "guard-left", Severity::Error);
    assert!(left.what.contains("eth7") && left.remedy.contains("nft delete table netdev ovn_k8s_breth7"));
    let idle = ingress_filter::ListedFilter {
        nic: None,
        drops_at_nic: false,
        ..filter("ovn_k8s_breth7", "", false)
    };
    finds(&of(vec![ours(), idle]), "guard-left", Severity::Warning);
    let second = of(vec![ours(), filter("ovn_k8s_brother", "eth0", false)]);
    let names: Vec<_> = report(&second).findings.iter().map(|finding| finding.name).collect();
    assert!(names.contains(&"guard-twice") && names.contains(&"guard-left"), "{names:?}");
    // A run that is in progress, or must be recovered, has a finding of its own.
    let mut open = of(vec![filter("ovn_k8s_breth7", "eth7", true)]);
    open.journal = JournalSnapshot::Open { locked: true, detaching: false };
    assert_eq!(report(&open).worst, Severity::Note);
}

#[test]
fn files_for_managers() {
    let of = |device: &str, unmanages| {
        let path = PathBuf::from(format!("/run/systemd/network/00-ovn-k8s-{device}.network"));
        with(|node| node.leftovers.files = vec![HandoverFile { path, device: device.to_owned(), unmanages }])
    };
    for device in ["eth0", "breth0"] {
        assert_eq!(report(&of(device, true)).worst, Severity::Ok);
    }
    finds(&of("eth7", true), "handover-left", Severity::Warning);
    finds(&of("eth7", false), "handover-left", Severity::Note);
    let mut detached = of("eth0", true);
    detached.leftovers.recorded_bridges.clear();
    finds(&detached, "handover-left", Severity::Warning);
    // networkd's file with DHCP stays after bridge-to-nics.
    let mut kept = of("eth0", false);
    kept.leftovers.recorded_bridges.clear();
    assert_eq!(report(&kept).worst, Severity::Ok);
}

#[test]
fn records_that_cannot_be_read() {
    let broken = |node: &mut NodeSnapshot| {
        node.leftovers.unreadable_records = vec!["taken-breth1.json is empty".to_owned()]
    };
    finds(&with(broken), "record-broken", Severity::Warning);
}
