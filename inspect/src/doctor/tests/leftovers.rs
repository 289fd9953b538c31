//! What takeovers left.

use host::ingress_filter;

use super::*;

fn guard(table: &str, nic: &str, deaf: bool) -> ingress_filter::ListedFilter {
    ingress_filter::ListedFilter {
        table: table.to_owned(),
        nic: Some(nic.to_owned()),
        drops_at_nic: deaf,
        ..ingress_filter::ListedFilter::default()
    }
}

#[test]
fn guards() {
    let ours = || guard("ovn_k8s_breth0", "eth0", true);
    let of = |guards: Vec<ingress_filter::ListedFilter>| with(|seen| seen.left.guards = guards);
    assert_eq!(report(&of(vec![ours()])).worst, Severity::Ok);
    let left = finds(&of(vec![ours(), guard("ovn_k8s_breth7", "eth7", true)]), "guard-left", Severity::Error);
    assert!(left.what.contains("eth7") && left.remedy.contains("nft delete table netdev ovn_k8s_breth7"));
    let idle =
        ingress_filter::ListedFilter { nic: None, drops_at_nic: false, ..guard("ovn_k8s_breth7", "", false) };
    finds(&of(vec![ours(), idle]), "guard-left", Severity::Warning);
    let second = of(vec![ours(), guard("ovn_k8s_brother", "eth0", false)]);
    let names: Vec<_> = report(&second).findings.iter().map(|finding| finding.name).collect();
    assert!(names.contains(&"guard-twice") && names.contains(&"guard-left"), "{names:?}");
    // A run that is under way, or has to be settled, is said by itself.
    let mut open = of(vec![guard("ovn_k8s_breth7", "eth7", true)]);
    open.journal = JournalSeen::Open { busy: true, back: false };
    assert_eq!(report(&open).worst, Severity::Note);
}

#[test]
fn files_for_managers() {
    let of = |device: &str, keeps_away| {
        let path = PathBuf::from(format!("/run/systemd/network/00-ovn-k8s-{device}.network"));
        with(|seen| seen.left.files = vec![FileSeen { path, device: device.to_owned(), keeps_away }])
    };
    for device in ["eth0", "breth0"] {
        assert_eq!(report(&of(device, true)).worst, Severity::Ok);
    }
    finds(&of("eth7", true), "handover-left", Severity::Warning);
    finds(&of("eth7", false), "handover-left", Severity::Note);
    let mut back = of("eth0", true);
    back.left.on_record.clear();
    finds(&back, "handover-left", Severity::Warning);
    // networkd's file with DHCP stays after the way back.
    let mut kept = of("eth0", false);
    kept.left.on_record.clear();
    assert_eq!(report(&kept).worst, Severity::Ok);
}

#[test]
fn records_that_cannot_be_read() {
    let broken = |seen: &mut Seen| seen.left.broken_records = vec!["taken-breth1.json is empty".to_owned()];
    finds(&with(broken), "record-broken", Severity::Warning);
}
