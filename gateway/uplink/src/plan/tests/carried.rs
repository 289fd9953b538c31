//! Refusals and warnings about what a NIC carries: sockets, routes, addresses, firewall rules.

use super::*;

#[test]
fn sockets_bound_to_the_nic_are_refused_or_warned_about() {
    let with = |how, program: &str| {
        let mut observed = node();
        observed.nics[0].bound = vec![bound(how, program)];
        plan_attach(&observed)
    };
    refused(&with(Binding::Device, "sshd"), "bound-socket", true);
    refused(&with(Binding::Device, "kubelet"), "bound-socket", true);
    let plan = with(Binding::Device, "ntpd");
    warned(&plan, "bound-socket");
    assert!(plan.warnings[0].what.contains("of ntpd (pid 700)"), "{plan}");
    refused(&with(Binding::LinkLocal, "sshd"), "link-local-connection", true);
    warned(&with(Binding::LinkLocal, "curl"), "link-local-connection");
    warned(&with(Binding::Packet, "lldpd"), "packet-socket");
    assert_eq!(with(Binding::Packet, "dhclient").warnings, []);
    let mut observed = node();
    observed.nics[0].memberships = vec!["239.1.2.3".parse().unwrap()];
    warned(&plan_attach(&observed), "multicast-membership");
}

#[test]
fn a_route_whose_next_hop_is_not_on_link_gives_a_warning() {
    let with = |route: RouteSnapshot| {
        let mut observed = node();
        observed.nics[0].routes.push(route);
        plan_attach(&observed)
    };
    warned(&with(route("192.168.0.0/16", &["172.16.0.1"])), "route-not-remakeable");
    assert_eq!(with(RouteSnapshot { onlink: true, ..route("192.168.0.0/16", &["172.16.0.1"]) }).warnings, []);
    assert_eq!(
        with(RouteSnapshot { by_nexthop: true, ..route("192.168.0.0/16", &["172.16.0.1"]) }).warnings,
        []
    );
    assert_eq!(with(route("fd01::/64", &["fe80::77"])).warnings, []);
    // Any route to the next hop is enough.
    let mut observed = node();
    observed.nics[0].routes.push(RouteSnapshot { by_kernel: false, ..route("172.16.0.1/32", &[]) });
    observed.nics[0].routes.push(route("192.168.0.0/16", &["172.16.0.1"]));
    assert_eq!(plan_attach(&observed).warnings, []);
}

#[test]
fn addresses_with_a_lifetime_need_something_that_renews_them() {
    let with = |address: AddressSnapshot| {
        let mut observed = node();
        observed.nics[0].addresses.push(address);
        observed
    };
    let leased = AddressSnapshot { left: Some(3000), ..address("10.0.0.9/24") };
    refused(&plan_attach(&with(leased.clone())), "dhcp-not-handed-over", true);
    let routed = AddressSnapshot { left: Some(3000), by_router: true, ..address("fd00::9/64") };
    assert_eq!(plan_attach(&with(routed.clone())).refusals, []);
    refused(
        &plan_attach(&with(AddressSnapshot { left: Some(59), ..routed.clone() })),
        "lifetime-too-short",
        true,
    );
    warned(
        &plan_attach(&with(AddressSnapshot { left: Some(5), temporary: true, ..routed })),
        "temporary-addresses",
    );
    // A client that cannot be handed over is named once.
    let mut observed = with(leased);
    observed.managers = vec![DetectedManager {
        manager: Manager::OtherClient,
        nic: "eth0".to_owned(),
        evidence: "dhcpcd eth0 (pid 8)".to_owned(),
        details: Details::Opaque { why: "not known".to_owned() },
    }];
    refused(&plan_attach(&observed), "dhcp-not-handed-over", true);
}

#[test]
fn firewall_rules_that_name_only_the_nic_are_refused() {
    let rule = |text: &str, device: &str, lets_in| FirewallRule {
        source: "nft".to_owned(),
        place: "inet filter input".to_owned(),
        text: text.to_owned(),
        devices: vec![device.to_owned()],
        lets_in,
    };
    let with = |rules: Vec<FirewallRule>| plan_attach(&Observed { firewall: rules, ..node() });
    let ssh = rule("iifname eth0 tcp dport 22 accept", "eth0", true);
    let plan = with(vec![ssh.clone()]);
    refused(&plan, "firewall-names-nic", true);
    assert!(plan.refusals[0].what.contains("new ones (SSH) would be dropped"), "{plan}");
    warned(&with(vec![rule("oifname eth0 masquerade", "eth0", false)]), "firewall-names-nic");
    assert_eq!(with(vec![rule("iifname eth1 accept", "eth1", true)]).refusals, []);
    // Rules for both names: by a pattern, or by a second rule.
    for both in ["*", "+"] {
        assert_eq!(with(vec![rule("accept", both, true)]).refusals, []);
    }
    refused(&with(vec![rule("iifname eth* accept", "eth*", true)]), "firewall-names-nic", true);
    let twin = rule("iifname breth0 tcp dport 22 accept", "breth0", true);
    assert_eq!(with(vec![ssh, twin]).refusals, []);
}
