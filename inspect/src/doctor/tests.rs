use std::path::{Path, PathBuf};

use host::ingress_filter::{Accepting, Chain, FilterState};

use super::snapshot::{
    DaemonSnapshot, DaemonsSnapshot, DatabaseSnapshot, FlowTableSnapshot, HandoverFile, HelperSnapshot,
    JournalSnapshot, LeftoversSnapshot,
};
use super::*;
use helper::restore_wait;
use helper::status::{SourceStatus, Status};
use ovs::ovsdb::Remote;
use uplink::failover::ManagementLocation;
use uplink::managers::{Details, DetectedManager, Manager};
use uplink::observe::{
    AddressSnapshot, Binding, BoundSocket, Bridge, LinkSnapshot, NicSnapshot, Observed, Port, RouteSnapshot,
    SwitchSnapshot,
};
use uplink::options::Options;

mod flows;
mod gateway_helper;
mod leftovers;
mod ovn;
mod switch;
mod uplinks;

fn options() -> Options {
    let (folder, database) = (PathBuf::from("/nowhere"), Remote::unix("/nowhere/db.sock"));
    Options { dry_run: true, ..Options::new(folder, database) }
}

fn device(index: u32, name: &str, addresses: &[&str]) -> NicSnapshot {
    let link = LinkSnapshot {
        index,
        name: name.to_owned(),
        ethernet: true,
        up: true,
        carrier: true,
        mac: "02:00:00:00:00:01".to_owned(),
        mtu: 1500,
        ..LinkSnapshot::default()
    };
    let addresses = addresses.iter().map(|net| AddressSnapshot {
        net: net.parse().unwrap(),
        text: (*net).to_owned(),
        left: None,
        temporary: false,
        link_local: false,
        by_router: false,
    });
    NicSnapshot { link, addresses: addresses.collect(), ..NicSnapshot::default() }
}

fn route(via: &str) -> RouteSnapshot {
    RouteSnapshot {
        to: "0.0.0.0/0".parse().unwrap(),
        text: format!("default via {via}"),
        table: 254,
        via: vec![via.parse().unwrap()],
        onlink: false,
        by_kernel: false,
        by_nexthop: false,
    }
}

fn received_by(program: &str) -> BoundSocket {
    let (what, program) = ("a packet socket (protocol 0x0003)".to_owned(), Some(program.to_owned()));
    BoundSocket { how: Binding::Packet, what, program, pid: Some(7) }
}

/// The ingress filter that accepts from these devices.
fn accepting(accepting: Accepting) -> FilterState {
    let chain = |drops| Some(Chain { drops, dropped: 0 });
    FilterState {
        nic: chain(accepting == Accepting::Bridge),
        bridge: chain(accepting == Accepting::Nic),
        marked: true,
        unexpected: Vec::new(),
    }
}

/// A healthy node whose eth0 was taken over onto breth0.
fn well() -> NodeSnapshot {
    let (mut eth0, mut breth0) =
        (device(2, "eth0", &[]), device(9, "breth0", &["10.0.0.5/24", "fd00::5/64"]));
    breth0.routes = vec![route("10.0.0.1")];
    eth0.bound = vec![received_by("ovs-vswitchd")];
    let port = Port { name: "eth0".to_owned(), ofport: Some(1), ours: true, ..Port::default() };
    let bridge = Bridge {
        name: "breth0".to_owned(),
        datapath_type: "netdev".to_owned(),
        fail_mode: "standalone".to_owned(),
        ours: true,
        ports: vec![port],
        ..Bridge::default()
    };
    let switch = SwitchSnapshot {
        answers: true,
        up_to_date: true,
        vswitchd: Some(true),
        datapath_type: "netdev".to_owned(),
        bridges: vec![bridge, ovn::integration()],
        external_ids: ovn::settings(),
        ..SwitchSnapshot::default()
    };
    let links = vec![eth0.link.clone(), breth0.link.clone()];
    let mut status = Status { ready: true, ..Status::default() };
    status.flows.connected = true;
    status.management.location = ManagementLocation::Bridge;
    NodeSnapshot {
        observed: Observed { links, nics: vec![eth0, breth0], switch, ..Observed::default() },
        uplinks: vec![UplinkSnapshot {
            nic: "eth0".to_owned(),
            bridge: "breth0".to_owned(),
            taken_over: true,
            ingress_filter: Some(accepting(Accepting::Bridge)),
            sysctls: [("ipv4/conf/rp_filter", "2"), ("ipv4/conf/arp_evict_nocarrier", "0")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            rp_filter_all: Some("0".to_owned()),
            index_at_takeover: Some(2),
            had_default_v4: true,
            had_default_v6: false,
        }],
        daemons: DaemonsSnapshot {
            stopped_database: None,
            vswitchd: Some(DaemonSnapshot { pid: 7, stopped: false, answer: Ok("3.1.0".to_owned()) }),
        },
        flows: [("breth0".to_owned(), Ok(flows::learning_switch()))].into(),
        leftovers: LeftoversSnapshot { recorded_bridges: ["breth0".to_owned()].into(), ..Default::default() },
        helper: Some(HelperSnapshot { status: Ok(Box::new(status)), flows: None, repaired_during_check: 0 }),
        ovn: ovn::well(),
        takeover_options: Some(options()),
        ..NodeSnapshot::default()
    }
}

/// The report has a finding of this name with a reason and a remedy, and none that is worse.
fn finds(node: &NodeSnapshot, name: &str, severity: Severity) -> Finding {
    let report = report(node);
    let found = report.findings.iter().find(|finding| finding.name == name && finding.severity == severity);
    let found = found.unwrap_or_else(|| panic!("{name}: {report}")).clone();
    assert!(severity == Severity::Ok || (!found.why.is_empty() && !found.remedy.is_empty()), "{found:?}");
    assert_eq!(report.worst, severity, "{report}");
    assert!(report.to_string().contains(name));
    found
}

fn with(change: impl FnOnce(&mut NodeSnapshot)) -> NodeSnapshot {
    let mut node = well();
    change(&mut node);
    node
}

#[test]
fn a_node_that_is_well() {
    let report = report(&well());
    assert_eq!((report.worst, report.exit_code()), (Severity::Ok, 0), "{report}");
    assert!(report.findings.iter().any(|finding| finding.name == "uplink"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((json["worst"].as_str(), json["uplinks"][0].as_str()), (Some("ok"), Some("eth0 on breth0")));
}

#[test]
fn exit_codes() {
    let of = |severities: &[Severity]| {
        let finding = |severity| Finding { severity, ..Finding::ok("x", "y", "z") };
        Report::of(vec![], severities.iter().copied().map(finding).collect()).exit_code()
    };
    use Severity::{Error, Note, Ok, Warning};
    assert_eq!([of(&[]), of(&[Ok, Note]), of(&[Warning, Note]), of(&[Ok, Error, Warning])], [0, 0, 1, 2]);
}

#[test]
fn without_root() {
    finds(&with(|node| node.unprivileged = true), "not-root", Severity::Warning);
    let denied = || Err("permission denied".to_owned());
    let unprivileged = with(|node| {
        node.unprivileged = true;
        node.daemons.vswitchd = Some(DaemonSnapshot { pid: 7, stopped: false, answer: denied() });
        node.ovn.controller = Some(DaemonSnapshot { pid: 8, stopped: false, answer: denied() });
        node.helper = Some(HelperSnapshot {
            status: Err("permission denied".to_owned()),
            flows: None,
            repaired_during_check: 0,
        });
        node.flows.insert("breth0".to_owned(), Err("permission denied".to_owned()));
    });
    finds(&unprivileged, "not-root", Severity::Warning);
    let bad = |finding: &&Finding| finding.severity > Severity::Note;
    assert_eq!(report(&unprivileged).findings.iter().filter(bad).count(), 1, "{}", report(&unprivileged));
}

#[test]
fn the_journal() {
    let journal = |journal| with(|node| node.journal = journal);
    finds(&journal(JournalSnapshot::Open { locked: true, detaching: false }), "journal-open", Severity::Note);
    finds(
        &journal(JournalSnapshot::Open { locked: false, detaching: false }),
        "journal-open",
        Severity::Error,
    );
    let detaching = JournalSnapshot::Open { locked: false, detaching: true };
    assert!(finds(&journal(detaching), "journal-open", Severity::Error).what.contains("bridge-to-nics"));
    finds(&journal(JournalSnapshot::DatabasePending), "journal-pending", Severity::Warning);
    finds(&journal(JournalSnapshot::Unreadable("cut short".into())), "journal-broken", Severity::Error);
}

#[test]
fn prediction_of_a_takeover() {
    let fresh = |change: fn(&mut NodeSnapshot)| {
        with(|node| {
            node.observed.switch.bridges.remove(0);
            node.leftovers.recorded_bridges.clear();
            node.observed.nics[0] = device(2, "eth0", &["10.0.0.5/24"]);
            node.observed.nics[0].routes = vec![route("10.0.0.1")];
            node.observed.nics.truncate(1);
            node.observed.links.truncate(1);
            node.uplinks[0].taken_over = false;
            node.uplinks[0].ingress_filter = None;
            change(node);
        })
    };
    assert!(finds(&fresh(|_| {}), "takeover", Severity::Ok).what.contains("would refuse nothing"));
    let xdp = fresh(|node| node.observed.nics[0].link.xdp = Some("native".to_owned()));
    assert!(finds(&xdp, "xdp-attached", Severity::Warning).why.contains("without --force"));
    finds(&fresh(|node| node.observed.nics.clear()), "not-found", Severity::Warning);
    finds(&fresh(|node| node.observed.nics[0].clsact = true), "clsact-filters", Severity::Note);
}

#[test]
fn everything_may_be_dead() {
    let folder = tempfile::tempdir().unwrap();
    let node = gather::gather(&["lo".to_owned()], folder.path(), &Remote::unix("/nowhere/db.sock")).unwrap();
    let report = report(&node);
    assert!(report.findings.iter().any(|finding| finding.name == "switch-away"), "{report}");
    assert!(report.findings.iter().any(|finding| finding.name == "loopback"), "{report}");
    assert!(report.exit_code() >= 1);
    assert!(!Path::new(folder.path()).join("uplink").exists(), "it changes nothing");
}
