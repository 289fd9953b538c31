//! What a plan hands to the run that executes it: datapath, steps, requests, device configuration.

use super::*;
use crate::journal::TakeoverRecord;
use crate::observe::SwitchSnapshot;

#[test]
fn the_datapath_comes_from_the_bridge_then_the_flag_then_ovn() {
    let of = |default: &str, own: Option<&str>, asked: Option<Datapath>| {
        let mut observed = node();
        observed.switch.datapath_type = default.to_owned();
        let bridge = |own: &str| Bridge {
            name: "breth0".to_owned(),
            datapath_type: own.to_owned(),
            ours: true,
            ..Bridge::default()
        };
        observed.switch.bridges = own.map(bridge).into_iter().collect();
        attach(&observed, &["eth0".to_owned()], &Options { datapath: asked, ..options() })
    };
    let (netdev, system) = (Datapath::Netdev, Datapath::System);
    for (default, asked, datapath) in [
        ("", None, system),
        ("netdev", None, netdev),
        ("netdev", Some(system), system),
        ("", Some(netdev), netdev),
    ] {
        let plan = of(default, None, asked);
        assert_eq!(
            (plan.uplinks[0].datapath, plan.refusals.as_slice()),
            (datapath, &[][..]),
            "{default} {asked:?}"
        );
    }
    assert_eq!(of("netdev", Some(""), None).uplinks[0].datapath, system);
    let plan = of("", Some(""), Some(netdev));
    refused(&plan, "datapath-differs", false);
    assert!(plan.refusals[0].remedy.contains("leave --datapath-type out"));
    refused(&of("dpdk", None, None), "datapath-unknown", false);
    let mut few = node();
    few.switch.datapath_type = String::new();
    few.switch.datapath_types = vec!["netdev".to_owned()];
    let plan = plan_attach(&few);
    refused(&plan, "datapath-missing", false);
    assert!(plan.refusals[0].remedy.contains("it has netdev"));
}

#[test]
fn the_steps_are_those_of_the_datapath() {
    let names = |plan: &Plan| plan.steps.iter().map(|step| step.name()).collect::<Vec<_>>();
    let plan = plan_attach(&node());
    let of = |steps: &[steps::Step]| steps.iter().map(|step| step.name()).collect::<Vec<_>>();
    assert_eq!(names(&plan), of(steps::attach(Datapath::Netdev)));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["sequence"], serde_json::json!(names(&plan)));
    // Every line belongs to a step, in the order of the steps.
    let order = |line: &String| names(&plan).iter().position(|name| line.starts_with(&format!("{name:<11}")));
    let at: Vec<_> = plan.lines().iter().map(|line| order(line).unwrap()).collect();
    assert!(at.is_sorted() && at.len() >= plan.steps.len(), "{plan}");
    // Every kernel request is shown under its step.
    assert!(
        json["requests"]
            .as_array()
            .unwrap()
            .iter()
            .any(|text| text == "addresses: replace address 10.0.0.5/24 scope global dev breth0"),
        "{json}"
    );
    let back = plan_detach(&taken());
    assert_eq!(
        names(&back),
        [
            "journal",
            "u-addr",
            "u-routes",
            "u-ears",
            "u-old-off",
            "verify",
            "u-down",
            "u-ovsdb",
            "u-guard",
            "commit"
        ]
    );
    assert!(plan_attach(&whole()).steps.is_empty());
}

/// A takeover that is complete.
fn whole() -> Observed {
    let mut observed = taken();
    let eth0 = observed.nics.iter_mut().find(|nic| nic.link.name == "eth0").unwrap();
    eth0.addresses.clear();
    observed
}

#[test]
fn a_change_between_plan_and_lock_is_named() {
    let planned = plan_attach(&node());
    assert_eq!(planned.difference(&plan_attach(&node())), None);
    let with = |change: &dyn Fn(&mut Observed)| {
        let mut observed = node();
        change(&mut observed);
        planned.difference(&plan_attach(&with_rows(observed))).unwrap_or_default()
    };
    for (what, text) in [
        (with(&|it| it.nics[0].addresses.push(address("10.0.0.77/24"))), "eth0 got address 10.0.0.77/24"),
        (with(&|it| drop(it.nics[0].addresses.remove(1))), "eth0 lost address fd00::5/64"),
        (
            with(&|it| it.nics[0].routes.push(route("192.168.7.0/24", &["10.0.0.1"]))),
            "eth0 got route 192.168.7.0/24 via 10.0.0.1 dev eth0",
        ),
        (with(&|it| it.nics[0].link.mac = "02:00:00:00:00:99".to_owned()), "eth0 is another device"),
        (with(&|it| it.nics[0].link.mtu = 9000), "eth0 has MTU 9000 now, not 1500"),
        (
            with(&|it| it.switch.datapath_type = "system".to_owned()),
            "breth0 has datapath system now, not netdev",
        ),
        (
            with(&|it| {
                it.switch.bridges = vec![Bridge {
                    name: "breth0".to_owned(),
                    datapath_type: "netdev".to_owned(),
                    ours: true,
                    ..Bridge::default()
                }];
            }),
            "the rows of breth0 in the switch's database changed",
        ),
        (with(&|it| it.switch.bridges = taken().switch.bridges), "eth0 is a port of breth0 now"),
    ] {
        assert!(what.contains(text), "{text}: {what}");
    }
    // What routing daemons and routers change at any time is no difference.
    let mut lease = node();
    lease.nics[0].neighbours = 9;
    let mut learned = route_row(2, &route("192.168.9.0/24", &["10.0.0.1"])).into_row();
    learned.header[5] = 186;
    let mut observed = with_rows(lease);
    observed.devices.get_mut("eth0").unwrap().routes.push(learned);
    assert_eq!(planned.difference(&plan_attach(&observed)), None);
    // The kernel makes a link-local address of its own when a link comes up.
    let automatic = with(&|it| it.nics[0].addresses.push(address("fe80::77/64")));
    assert_eq!(automatic, "");
}

#[test]
fn a_refusal_that_is_new_under_the_lock_is_not_forced() {
    let planned = plan_attach(&node());
    let mut now = plan_attach(&node());
    now.refusals.push(Refusal {
        name: "socket-bound",
        about: "eth0".to_owned(),
        what: "sshd is bound to it".to_owned(),
        remedy: String::new(),
        forceable: true,
    });
    assert_eq!(planned.difference(&now).as_deref(), Some("eth0: sshd is bound to it [socket-bound]"));
    assert_eq!(now.difference(&now.clone()), None);
}

#[test]
fn only_another_nic_is_a_difference_on_detach() {
    let planned = plan_detach(&taken());
    let mut without_database = taken();
    without_database.switch =
        SwitchSnapshot { error: Some("no answer".to_owned()), ..SwitchSnapshot::default() };
    assert_eq!(planned.difference(&plan_detach(&without_database)), None);
    let mut another = taken();
    another.nics.iter_mut().find(|nic| nic.link.name == "eth0").unwrap().link.mac =
        "02:00:00:00:00:99".to_owned();
    another.links.iter_mut().find(|link| link.name == "eth0").unwrap().mac = "02:00:00:00:00:99".to_owned();
    let difference = planned.difference(&plan_detach(&another)).unwrap_or_default();
    assert!(difference.contains("eth0 is another device"), "{difference}");
}

#[test]
fn detach_restores_the_recorded_sysctls_of_this_boot_and_the_offloads() {
    let mut observed = taken();
    observed.boot_id = "this".to_owned();
    let mut uplink = plan_attach(&node()).uplinks[0].config.clone().unwrap();
    uplink.rows.sysctls.insert("ipv4/conf/rp_filter".to_owned(), "1".to_owned());
    uplink.rows.merging = vec!["rx-gro".to_owned()];
    let record = |boot: &str| TakeoverRecord { version: 1, boot_id: boot.to_owned(), uplink: uplink.clone() };
    let config = |boot: &str| {
        detach(&observed, &["breth0".to_owned()], &[record(boot)]).uplinks[0].config.clone().unwrap()
    };
    assert_eq!(config("this").rows.sysctls, uplink.rows.sysctls);
    assert_eq!((config("that").rows.sysctls.len(), config("that").rows.merging.len()), (0, 1));
}
