use std::path::{Path, PathBuf};
use std::time::Duration;

use host::ingress_filter::Accepting;

use super::snapshot::{Answers, DatabaseSeen, FileSeen, GuardSeen, HelperSeen, JournalSeen, TableSeen};
use super::*;
use cli::OutputFormat;
use helper::restore_wait;
use helper::status::{SourceStatus, Status};
use ovs::ovsdb::Remote;
use uplink::failover::At;
use uplink::managers::{Details, DetectedManager, Manager};
use uplink::observe::{
    AddressSnapshot, Binding, BoundSocket, Bridge, LinkSnapshot, NicSnapshot, Observed, Port, RouteSnapshot,
    SwitchSnapshot,
};
use uplink::options::Options;

mod flows;
mod leftovers;
mod ovn;

fn options() -> Options {
    Options {
        dry_run: true,
        form: OutputFormat::Table,
        force: false,
        datapath: None,
        probe: true,
        verify_timeout: Duration::from_secs(15),
        verify_cmd: None,
        confirm: None,
        state_dir: PathBuf::from("/nowhere"),
        db: Remote::unix("/nowhere/db.sock"),
    }
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

fn heard_by(program: &str) -> BoundSocket {
    let (what, program) = ("a packet socket (protocol 0x0003)".to_owned(), Some(program.to_owned()));
    BoundSocket { how: Binding::Packet, what, program, pid: Some(7) }
}

/// A node whose eth0 was taken onto breth0, and that is well.
fn well() -> Seen {
    let (mut eth0, mut breth0) =
        (device(2, "eth0", &[]), device(9, "breth0", &["10.0.0.5/24", "fd00::5/64"]));
    breth0.routes = vec![route("10.0.0.1")];
    eth0.bound = vec![heard_by("ovs-vswitchd")];
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
    status.management.at = At::Bridge;
    Seen {
        observed: Observed { links, nics: vec![eth0, breth0], switch, ..Observed::default() },
        uplinks: vec![UplinkSeen {
            nic: "eth0".to_owned(),
            bridge: "breth0".to_owned(),
            taken: true,
            guard: Some(GuardSeen { listening: Some(Accepting::Bridge), whole: true }),
            sysctls: [("ipv4/conf/rp_filter", "2"), ("ipv4/conf/arp_evict_nocarrier", "0")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            rp_filter_all: Some("0".to_owned()),
            index_then: Some(2),
            default_v4: true,
            default_v6: false,
        }],
        daemons: snapshot::DaemonsSeen {
            stopped_database: None,
            vswitchd: Some(Answers { pid: 7, stopped: false, said: Ok("3.1.0".to_owned()) }),
        },
        flows: [("breth0".to_owned(), Ok(flows::learning_switch()))].into(),
        left: snapshot::LeftSeen { on_record: ["breth0".to_owned()].into(), ..Default::default() },
        helper: Some(HelperSeen { status: Ok(Box::new(status)), flows: None, repaired_meanwhile: 0 }),
        ovn: ovn::well(),
        options: Some(options()),
        ..Seen::default()
    }
}

/// The finding of this name is there, with why and what to do, and nothing else is worse than it.
fn finds(seen: &Seen, name: &str, severity: Severity) -> Finding {
    let report = report(seen);
    let found = report.findings.iter().find(|finding| finding.name == name && finding.severity == severity);
    let found = found.unwrap_or_else(|| panic!("{name}: {report}")).clone();
    assert!(severity == Severity::Ok || (!found.why.is_empty() && !found.remedy.is_empty()), "{found:?}");
    assert_eq!(report.worst, severity, "{report}");
    assert!(report.to_string().contains(name));
    found
}

fn with(change: impl FnOnce(&mut Seen)) -> Seen {
    let mut seen = well();
    change(&mut seen);
    seen
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
fn the_switch_is_away() {
    let dead = with(|seen| seen.observed.switch.vswitchd = Some(false));
    assert!(finds(&dead, "switch-away", Severity::Error).why.contains("userspace"));
    let kernel = with(|seen| {
        seen.observed.switch.vswitchd = Some(false);
        seen.observed.switch.bridges[0].datapath_type = "system".to_owned();
    });
    let why = finds(&kernel, "switch-away", Severity::Error).why;
    assert!(why.contains("cached flows go on, but ARP runs out after about a minute"), "{why}");
    finds(&with(|seen| seen.observed.switch = SwitchSnapshot::default()), "switch-away", Severity::Error);
    finds(&with(|seen| seen.observed.switch.up_to_date = false), "switch-behind", Severity::Warning);
    let silent = |stopped, said: Result<String, String>| {
        with(|seen| seen.daemons.vswitchd = Some(Answers { pid: 7, stopped, said }))
    };
    let stopped = finds(&silent(true, Err("no answer in 2 s".into())), "switch-silent", Severity::Error);
    assert!(stopped.remedy.contains("kill -CONT 7"), "{stopped:?}");
    let late = finds(&silent(false, Err("no answer in 2 s".into())), "switch-silent", Severity::Error);
    assert!(late.what.contains("no answer in 2 s"), "{late:?}");
    let database = with(|seen| {
        seen.observed.switch = SwitchSnapshot::default();
        seen.daemons.stopped_database = Some(9);
    });
    assert!(finds(&database, "switch-away", Severity::Error).remedy.contains("kill -CONT 9"));
}

#[test]
fn the_key_that_makes_it_wait() {
    let armed = |ours: bool, helper: bool| {
        with(|seen| {
            let key = restore_wait::KEY.to_owned();
            seen.observed.switch.other_config.insert(key, "true".to_owned());
            if ours {
                seen.observed.switch.external_ids.insert(restore_wait::MARK.to_owned(), "true".to_owned());
            }
            if !helper {
                seen.helper = None;
            }
        })
    };
    finds(&armed(true, true), "restore-wait", Severity::Ok);
    finds(&armed(true, false), "restore-wait", Severity::Error);
    finds(&armed(false, true), "restore-wait", Severity::Error);
}

#[test]
fn bridge_and_port() {
    finds(&with(|seen| seen.observed.switch.bridges.clear()), "bridge-missing", Severity::Error);
    finds(&with(|seen| seen.observed.switch.bridges[0].ports.clear()), "port-missing", Severity::Error);
    let broken = with(|seen| {
        let port = &mut seen.observed.switch.bridges[0].ports[0];
        (port.ofport, port.error) = (Some(-1), "could not open network device".to_owned());
    });
    assert!(finds(&broken, "port-broken", Severity::Error).what.contains("could not open"));
    finds(
        &with(|seen| seen.observed.switch.bridges[0].ports[0].ofport = None),
        "port-broken",
        Severity::Warning,
    );
    finds(
        &with(|seen| seen.observed.switch.bridges[0].fail_mode = "secure".to_owned()),
        "fail-mode",
        Severity::Warning,
    );
    finds(&with(|seen| seen.observed.nics.truncate(1)), "device-missing", Severity::Error);
}

#[test]
fn a_nic_that_was_made_anew() {
    let anew = with(|seen| {
        seen.observed.nics[0].link.index = 12;
        seen.observed.nics[0].bound = vec![heard_by("tcpdump")];
    });
    let found = finds(&anew, "port-dead", Severity::Error);
    assert!(found.what.contains("number 2") && found.what.contains("12 now"), "{found:?}");
    let again = with(|seen| seen.observed.nics[0].link.index = 12);
    assert_eq!(report(&again).worst, Severity::Ok, "the switch hears it");
    let mut unknown = anew.clone();
    unknown.observed.unknown = vec!["the packet sockets of eth0: /proc".to_owned()];
    assert_eq!(report(&unknown).worst, Severity::Note);
    let mut kernel = anew;
    kernel.observed.switch.bridges[0].datapath_type.clear();
    finds(&kernel, "port-dead", Severity::Error);
    kernel.observed.nics[0].link.master = Some(3);
    assert_eq!(report(&kernel).worst, Severity::Ok);
}

#[test]
fn without_the_rights() {
    finds(&with(|seen| seen.unprivileged = true), "not-root", Severity::Warning);
    let denied = || Err("permission denied".to_owned());
    let nobody = with(|seen| {
        seen.unprivileged = true;
        seen.daemons.vswitchd = Some(Answers { pid: 7, stopped: false, said: denied() });
        seen.ovn.controller = Some(Answers { pid: 8, stopped: false, said: denied() });
        seen.helper = Some(HelperSeen {
            status: Err("permission denied".to_owned()),
            flows: None,
            repaired_meanwhile: 0,
        });
        seen.flows.insert("breth0".to_owned(), Err("permission denied".to_owned()));
    });
    finds(&nobody, "not-root", Severity::Warning);
    let bad = |finding: &&Finding| finding.severity > Severity::Note;
    assert_eq!(report(&nobody).findings.iter().filter(bad).count(), 1, "{}", report(&nobody));
}

#[test]
fn the_two_devices() {
    finds(&with(|seen| seen.observed.nics[0].link.carrier = false), "link-down", Severity::Error);
    finds(&with(|seen| seen.observed.nics[1].link.up = false), "link-down", Severity::Error);
    finds(&with(|seen| seen.observed.nics[1].link.carrier = false), "link-down", Severity::Warning);
    finds(&with(|seen| seen.observed.nics[1].link.mtu = 1400), "mtu-differs", Severity::Warning);
    finds(
        &with(|seen| seen.observed.nics[1].link.mac = "02:00:00:00:00:09".into()),
        "mac-differs",
        Severity::Error,
    );
    finds(
        &with(|seen| seen.observed.nics[0].offloads = vec!["rx-gro".into()]),
        "offloads",
        Severity::Warning,
    );
}

#[test]
fn where_the_addresses_are() {
    let both = with(|seen| seen.observed.nics[0].addresses = device(2, "", &["10.0.0.5/24"]).addresses);
    assert!(finds(&both, "address-twice", Severity::Warning).what.contains("10.0.0.5"));
    let on_nic = |helper_says: At| {
        with(|seen| {
            seen.observed.nics[0].addresses = std::mem::take(&mut seen.observed.nics[1].addresses);
            seen.observed.nics[0].routes = std::mem::take(&mut seen.observed.nics[1].routes);
            seen.uplinks[0].guard = Some(GuardSeen { listening: Some(Accepting::Nic), whole: true });
            if let Some(HelperSeen { status: Ok(status), .. }) = &mut seen.helper {
                status.management.at = helper_says;
            }
        })
    };
    finds(&on_nic(At::Bridge), "address-on-nic", Severity::Warning);
    let failed_over = on_nic(At::Nic);
    finds(&failed_over, "failed-over", Severity::Warning);
    assert!(report(&failed_over).findings.iter().all(|finding| finding.name != "address-on-nic"));
    finds(&with(|seen| seen.observed.nics[1].addresses.clear()), "no-address", Severity::Error);
    let lost = finds(&with(|seen| seen.observed.nics[1].routes.clear()), "no-route", Severity::Error);
    assert!(lost.what.contains("(IPv4)"), "{lost:?}");
    finds(
        &with(|seen| seen.observed.nics[0].routes = vec![route("10.0.0.1")]),
        "route-on-nic",
        Severity::Warning,
    );
}

#[test]
fn the_guard() {
    let guard = |guard| with(|seen| seen.uplinks[0].guard = guard);
    let turned = |listening| guard(Some(GuardSeen { listening, whole: true }));
    finds(&guard(None), "guard-missing", Severity::Error);
    finds(
        &guard(Some(GuardSeen { listening: Some(Accepting::Bridge), whole: false })),
        "guard-missing",
        Severity::Error,
    );
    for listening in [None, Some(Accepting::Both), Some(Accepting::Nic)] {
        finds(&turned(listening), "guard-wrong", Severity::Error);
    }
    // The kernel datapath needs none.
    let mut kernel = guard(None);
    kernel.observed.switch.bridges[0].datapath_type.clear();
    kernel.observed.nics[0].link.master = Some(3);
    assert_eq!(report(&kernel).worst, Severity::Ok);
}

#[test]
fn settings_of_the_bridge() {
    for (key, value, name) in [
        ("ipv4/conf/rp_filter", "1", "rp-filter"),
        ("ipv4/conf/arp_evict_nocarrier", "1", "evict-nocarrier"),
        ("ipv6/conf/disable_ipv6", "1", "ipv6-off"),
    ] {
        let seen = with(|seen| drop(seen.uplinks[0].sysctls.insert(key.to_owned(), value.to_owned())));
        finds(&seen, name, Severity::Note);
    }
    // The larger counts.
    assert_eq!(
        report(&with(|seen| seen.uplinks[0].rp_filter_all = Some("1".to_owned()))).worst,
        Severity::Ok
    );
}

#[test]
fn leases_and_managers() {
    let client = |nic: &str| DetectedManager {
        manager: Manager::Dhclient,
        nic: nic.to_owned(),
        evidence: "dhclient (pid 7)".to_owned(),
        details: Details::Opaque { why: String::new() },
    };
    let lease = |left, managers: Vec<DetectedManager>| {
        with(|seen| {
            seen.observed.nics[1].addresses[0].left = Some(left);
            seen.observed.managers = managers;
        })
    };
    finds(&lease(7200, vec![client("breth0")]), "lease", Severity::Note);
    finds(&lease(7200, vec![]), "lease", Severity::Warning);
    assert!(finds(&lease(300, vec![]), "lease", Severity::Error).what.contains("ends in 300 s"));
    finds(&with(|seen| seen.observed.managers = vec![client("eth0")]), "manager", Severity::Warning);
    let hook = DetectedManager { manager: Manager::Ifupdown, ..client("eth0") };
    assert_eq!(report(&with(|seen| seen.observed.managers = vec![hook])).worst, Severity::Ok);
    let bound = BoundSocket {
        how: Binding::Device,
        what: "udp :123".into(),
        program: Some("ntpd".into()),
        pid: Some(5),
    };
    finds(&with(|seen| seen.observed.nics[0].bound.push(bound)), "bound-socket", Severity::Warning);
}

#[test]
fn the_journal() {
    let journal = |journal| with(|seen| seen.journal = journal);
    finds(&journal(JournalSeen::Open { busy: true, back: false }), "journal-open", Severity::Note);
    finds(&journal(JournalSeen::Open { busy: false, back: false }), "journal-open", Severity::Error);
    let back = JournalSeen::Open { busy: false, back: true };
    assert!(finds(&journal(back), "journal-open", Severity::Error).what.contains("way back"));
    finds(&journal(JournalSeen::Pending), "journal-pending", Severity::Warning);
    finds(&journal(JournalSeen::Broken("cut short".into())), "journal-broken", Severity::Error);
}

#[test]
fn the_helper() {
    finds(&with(|seen| seen.helper = None), "helper-away", Severity::Warning);
    let patched = with(|seen| {
        seen.flows.clear();
        seen.helper = None;
        let patch = Port { name: "p".into(), kind: "patch".into(), ..Port::default() };
        seen.observed.switch.bridges[0].ports.push(patch);
    });
    finds(&patched, "helper-away", Severity::Error);
    let silent = HelperSeen { status: Err("no answer in 3 s".into()), flows: None, repaired_meanwhile: 0 };
    finds(&with(|seen| seen.helper = Some(silent)), "helper-silent", Severity::Warning);
    let says = |change: fn(&mut Status)| {
        with(|seen| {
            if let Some(HelperSeen { status: Ok(status), .. }) = &mut seen.helper {
                change(status);
            }
        })
    };
    finds(&says(|status| status.flows.connected = false), "flows", Severity::Error);
    let mut unseen = says(|status| status.flows.wanted = 7);
    unseen.flows.clear();
    finds(&unseen, "flows", Severity::Warning);
    finds(&says(|status| status.flows.conflicts = vec!["a flow".into()]), "flows", Severity::Warning);
    finds(&says(|status| status.host.error = Some("nft says no".into())), "host-paths", Severity::Error);
    let source = |status: &mut Status| {
        let name = "northbound".to_owned();
        status.sources =
            vec![SourceStatus { name, error: Some("refused".into()), ..SourceStatus::default() }];
    };
    finds(&says(source), "source", Severity::Warning);
    finds(&says(|status| status.ready = false), "helper", Severity::Warning);
}

#[test]
fn others_who_serve_node_ports() {
    let kube_proxy = |seen: &mut Seen| seen.others = vec!["kube-proxy runs (pid 9)".to_owned()];
    finds(&with(kube_proxy), "node-ports", Severity::Warning);
    let mut alone = Seen::default();
    alone.observed.switch = well().observed.switch;
    alone.ovn = ovn::well();
    kube_proxy(&mut alone);
    assert_eq!(report(&alone).worst, Severity::Note);
}

#[test]
fn what_a_takeover_would_meet() {
    let fresh = |change: fn(&mut Seen)| {
        with(|seen| {
            seen.observed.switch.bridges.remove(0);
            seen.left.on_record.clear();
            seen.observed.nics[0] = device(2, "eth0", &["10.0.0.5/24"]);
            seen.observed.nics[0].routes = vec![route("10.0.0.1")];
            seen.observed.nics.truncate(1);
            seen.observed.links.truncate(1);
            seen.uplinks[0].taken = false;
            seen.uplinks[0].guard = None;
            change(seen);
        })
    };
    assert!(finds(&fresh(|_| {}), "takeover", Severity::Ok).what.contains("nothing against it"));
    let xdp = fresh(|seen| seen.observed.nics[0].link.xdp = Some("native".to_owned()));
    assert!(finds(&xdp, "xdp-attached", Severity::Warning).why.contains("without --force"));
    finds(&fresh(|seen| seen.observed.nics.clear()), "not-found", Severity::Warning);
    finds(&fresh(|seen| seen.observed.nics[0].clsact = true), "clsact-filters", Severity::Note);
}

#[test]
fn everything_may_be_dead() {
    let folder = tempfile::tempdir().unwrap();
    let seen = gather::gather(&["lo".to_owned()], folder.path(), &Remote::unix("/nowhere/db.sock")).unwrap();
    let report = report(&seen);
    assert!(report.findings.iter().any(|finding| finding.name == "switch-away"), "{report}");
    assert!(report.findings.iter().any(|finding| finding.name == "loopback"), "{report}");
    assert!(report.exit_code() >= 1);
    assert!(!Path::new(folder.path()).join("uplink").exists(), "it changes nothing");
}
