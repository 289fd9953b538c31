//! An uplink that is taken over.

use super::*;

#[test]
fn bridge_and_port() {
    finds(&with(|node| node.observed.switch.bridges.clear()), "bridge-missing", Severity::Error);
    finds(&with(|node| node.observed.switch.bridges[0].ports.clear()), "port-missing", Severity::Error);
    let broken = with(|node| {
        let port = &mut node.observed.switch.bridges[0].ports[0];
        (port.ofport, port.error) = (Some(-1), "could not open network device".to_owned());
    });
    assert!(finds(&broken, "port-broken", Severity::Error).what.contains("could not open"));
    finds(
        &with(|node| node.observed.switch.bridges[0].ports[0].ofport = None),
        "port-broken",
        Severity::Warning,
    );
    finds(
        &with(|node| node.observed.switch.bridges[0].fail_mode = "secure".to_owned()),
        "fail-mode",
        Severity::Warning,
    );
    finds(&with(|node| node.observed.nics.truncate(1)), "device-missing", Severity::Error);
}

#[test]
fn a_recreated_nic() {
    let recreated = with(|node| {
        node.observed.nics[0].link.index = 12;
        node.observed.nics[0].bound = vec![received_by("tcpdump")];
    });
    let found = finds(&recreated, "port-dead", Severity::Error);
    assert!(found.what.contains("index 2") && found.what.contains("12 now"), "{found:?}");
    let again = with(|node| node.observed.nics[0].link.index = 12);
    assert_eq!(report(&again).worst, Severity::Ok, "the switch receives from it");
    let mut unknown = recreated.clone();
    unknown.observed.unknown = vec!["the packet sockets of eth0: /proc".to_owned()];
    assert_eq!(report(&unknown).worst, Severity::Note);
    let mut kernel = recreated;
    kernel.observed.switch.bridges[0].datapath_type.clear();
    finds(&kernel, "port-dead", Severity::Error);
    kernel.observed.nics[0].link.master = Some(3);
    assert_eq!(report(&kernel).worst, Severity::Ok);
}

#[test]
fn the_two_devices() {
    finds(&with(|node| node.observed.nics[0].link.carrier = false), "link-down", Severity::Error);
    finds(&with(|node| node.observed.nics[1].link.up = false), "link-down", Severity::Error);
    finds(&with(|node| node.observed.nics[1].link.carrier = false), "link-down", Severity::Warning);
    finds(&with(|node| node.observed.nics[1].link.mtu = 1400), "mtu-differs", Severity::Warning);
    finds(
        &with(|node| node.observed.nics[1].link.mac = "02:00:00:00:00:09".into()),
        "mac-differs",
        Severity::Error,
    );
    finds(
        &with(|node| node.observed.nics[0].offloads = vec!["rx-gro".into()]),
        "offloads",
        Severity::Warning,
    );
}

#[test]
fn where_the_addresses_are() {
    let both = with(|node| node.observed.nics[0].addresses = device(2, "", &["10.0.0.5/24"]).addresses);
    assert!(finds(&both, "address-twice", Severity::Warning).what.contains("10.0.0.5"));
    let on_nic = |reported: ManagementLocation| {
        with(|node| {
            node.observed.nics[0].addresses = std::mem::take(&mut node.observed.nics[1].addresses);
            node.observed.nics[0].routes = std::mem::take(&mut node.observed.nics[1].routes);
            node.uplinks[0].ingress_filter = Some(accepting(Accepting::Nic));
            if let Some(HelperSnapshot { status: Ok(status), .. }) = &mut node.helper {
                status.management.location = reported;
            }
        })
    };
    finds(&on_nic(ManagementLocation::Bridge), "address-on-nic", Severity::Warning);
    let failed_over = on_nic(ManagementLocation::Nic);
    finds(&failed_over, "failed-over", Severity::Warning);
    assert!(report(&failed_over).findings.iter().all(|finding| finding.name != "address-on-nic"));
    finds(&with(|node| node.observed.nics[1].addresses.clear()), "no-address", Severity::Error);
    let lost = finds(&with(|node| node.observed.nics[1].routes.clear()), "no-route", Severity::Error);
    assert!(lost.what.contains("(IPv4)"), "{lost:?}");
    finds(
        &with(|node| node.observed.nics[0].routes = vec![route("10.0.0.1")]),
        "route-on-nic",
        Severity::Warning,
    );
}

#[test]
fn the_ingress_filter() {
    let filter = |filter| with(|node| node.uplinks[0].ingress_filter = filter);
    finds(&filter(None), "guard-missing", Severity::Error);
    let incomplete = FilterState { bridge: None, ..accepting(Accepting::Bridge) };
    finds(&filter(Some(incomplete)), "guard-missing", Severity::Error);
    let closed = Some(Chain { drops: true, dropped: 0 });
    let closed = FilterState { nic: closed, bridge: closed, ..FilterState::default() };
    for state in [closed, accepting(Accepting::Both), accepting(Accepting::Nic)] {
        finds(&filter(Some(state)), "guard-wrong", Severity::Error);
    }
    // The kernel datapath needs none.
    let mut kernel = filter(None);
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
        let node = with(|node| drop(node.uplinks[0].sysctls.insert(key.to_owned(), value.to_owned())));
        finds(&node, name, Severity::Note);
    }
    // The larger counts.
    assert_eq!(
        report(&with(|node| node.uplinks[0].rp_filter_all = Some("1".to_owned()))).worst,
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
        with(|node| {
            node.observed.nics[1].addresses[0].left = Some(left);
            node.observed.managers = managers;
        })
    };
    finds(&lease(7200, vec![client("breth0")]), "lease", Severity::Note);
    finds(&lease(7200, vec![]), "lease", Severity::Warning);
    assert!(finds(&lease(300, vec![]), "lease", Severity::Error).what.contains("expires in 300 s"));
    finds(&with(|node| node.observed.managers = vec![client("eth0")]), "manager", Severity::Warning);
    let hook = DetectedManager { manager: Manager::Ifupdown, ..client("eth0") };
    assert_eq!(report(&with(|node| node.observed.managers = vec![hook])).worst, Severity::Ok);
    let bound = BoundSocket {
        how: Binding::Device,
        what: "udp :123".into(),
        program: Some("ntpd".into()),
        pid: Some(5),
    };
    finds(&with(|node| node.observed.nics[0].bound.push(bound)), "bound-socket", Severity::Warning);
}
