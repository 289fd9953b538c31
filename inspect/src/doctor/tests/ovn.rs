//! OVN, healthy and not, and a node without it.

use std::collections::BTreeMap;

use super::*;
use crate::doctor::snapshot::OvnSnapshot;

pub(super) fn settings() -> BTreeMap<String, String> {
    let pairs = [
        ("system-id", "node1"),
        ("ovn-remote", "tcp:10.0.0.9:6642"),
        ("ovn-encap-type", "geneve,vxlan"),
        ("ovn-encap-ip", "10.0.0.5"),
        ("ovn-bridge-mappings", "physnet:breth0"),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

pub(super) fn integration() -> Bridge {
    Bridge { name: "br-int".to_owned(), fail_mode: "secure".to_owned(), ..Bridge::default() }
}

fn database(origin: &str, answer: Option<Result<(), String>>) -> Option<DatabaseSnapshot> {
    Some(DatabaseSnapshot { origin: origin.to_owned(), configured_by: "external_ids:ovn-nb", answer })
}

pub(super) fn well() -> OvnSnapshot {
    OvnSnapshot {
        controller: Some(DaemonSnapshot { pid: 8, stopped: false, answer: Ok("connected\n".to_owned()) }),
        name_overridden: false,
        southbound: database("tcp:10.0.0.9:6642", Some(Ok(()))),
        northbound: database("tcp:10.0.0.9:6641", Some(Ok(()))),
        integration_flows: Some(1234),
        addresses: ["10.0.0.5".parse().unwrap()].into(),
    }
}

fn patched(node: &mut NodeSnapshot) {
    let patch = Port { name: "p".into(), kind: "patch".into(), ..Port::default() };
    node.observed.switch.bridges[0].ports.push(patch);
    node.flows.clear();
}

#[test]
fn a_node_without_it() {
    let none = with(|node| {
        node.ovn = OvnSnapshot::default();
        node.observed.switch.external_ids = [("system-id".to_owned(), "x".to_owned())].into();
    });
    finds(&none, "ovn", Severity::Note);
    let mut helped = none;
    patched(&mut helped);
    finds(&helped, "ovn", Severity::Note);
}

#[test]
fn ovn_controller() {
    let answering = |answer: Result<&str, &str>, stopped| {
        let answer = answer.map(str::to_owned).map_err(str::to_owned);
        with(|node| node.ovn.controller = Some(DaemonSnapshot { pid: 8, stopped, answer }))
    };
    let cases = [
        with(|node| node.ovn.controller = None),
        answering(Ok("not connected"), false),
        answering(Err("no answer in 2 s"), false),
        answering(Err("no answer in 2 s"), true),
    ];
    for mut node in cases {
        finds(&node, "ovn-controller", Severity::Warning);
        patched(&mut node);
        finds(&node, "ovn-controller", Severity::Error);
    }
}

#[test]
fn its_settings() {
    let set = |key: &str, value: &str| {
        with(|node| drop(node.observed.switch.external_ids.insert(key.to_owned(), value.to_owned())))
    };
    let cases = [
        ("ovn-remote", "10.0.0.9"),
        ("ovn-remote", ""),
        ("system-id", ""),
        ("ovn-encap-type", "gre"),
        ("ovn-encap-type", ""),
        ("ovn-encap-ip", "10.0.0.6"),
        ("ovn-encap-ip", "node1"),
        ("ovn-encap-ip", ""),
    ];
    for (key, value) in cases {
        let found = finds(&set(key, value), "ovn-settings", Severity::Warning);
        assert_eq!(found.about, format!("external_ids:{key}"));
    }
    let mut named = set("system-id", "");
    named.ovn.name_overridden = true;
    assert_eq!(report(&named).worst, Severity::Ok);
    // The setting of this chassis takes precedence.
    let mut own = set("ovn-encap-ip", "10.9.9.9");
    own.observed.switch.external_ids.insert("ovn-encap-ip-node1".to_owned(), "10.0.0.5".to_owned());
    assert_eq!(report(&own).worst, Severity::Ok);
}

#[test]
fn mappings() {
    let set = |value: &str| {
        let (key, value) = ("ovn-bridge-mappings".to_owned(), value.to_owned());
        with(|node| drop(node.observed.switch.external_ids.insert(key, value)))
    };
    finds(&set("physnet"), "ovn-bridge-mappings", Severity::Warning);
    finds(&set("physnet:brnone"), "ovn-bridge-mappings", Severity::Warning);
    let nic = finds(&set("physnet:eth0"), "ovn-bridge-mappings", Severity::Warning);
    assert!(nic.what.contains("its bridge is breth0") && nic.remedy.contains("physnet:breth0"), "{nic:?}");
    finds(&set(""), "ovn-no-way", Severity::Note);
    finds(&set("physnet:br-int"), "ovn-no-way", Severity::Note);
    let mut by_patch = set("");
    patched(&mut by_patch);
    assert_eq!(report(&by_patch).worst, Severity::Ok);
}

#[test]
fn its_bridge() {
    finds(&with(|node| node.ovn.integration_flows = Some(0)), "ovn-flows", Severity::Warning);
    finds(&with(|node| node.observed.switch.bridges.truncate(1)), "ovn-bridge", Severity::Warning);
}

#[test]
fn its_databases() {
    let refused = || Some(Err("refused".to_owned()));
    let southbound = with(|node| node.ovn.southbound = database("tcp:10.0.0.9:6642", refused()));
    finds(&southbound, "ovn-southbound", Severity::Warning);
    let tls = with(|node| node.ovn.southbound = database("ssl:10.0.0.9:6642", None));
    assert_eq!(report(&tls).worst, Severity::Ok);
    let mut northbound = with(|node| node.ovn.northbound = database("tcp:10.0.0.9:6641", refused()));
    assert_eq!(report(&northbound).worst, Severity::Ok, "a running helper reports its own connection");
    northbound.helper = None;
    finds(&northbound, "ovn-northbound", Severity::Warning);
}
