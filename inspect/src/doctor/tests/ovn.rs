//! OVN as it may be found, or not.

use std::collections::BTreeMap;

use super::*;
use crate::doctor::snapshot::OvnSeen;

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

fn database(origin: &str, answer: Option<Result<(), String>>) -> Option<DatabaseSeen> {
    Some(DatabaseSeen { origin: origin.to_owned(), told_by: "external_ids:ovn-nb", answer })
}

pub(super) fn well() -> OvnSeen {
    OvnSeen {
        controller: Some(Answers { pid: 8, stopped: false, said: Ok("connected\n".to_owned()) }),
        named_otherwise: false,
        southbound: database("tcp:10.0.0.9:6642", Some(Ok(()))),
        northbound: database("tcp:10.0.0.9:6641", Some(Ok(()))),
        integration_flows: Some(1234),
        addresses: ["10.0.0.5".parse().unwrap()].into(),
    }
}

fn patched(seen: &mut Seen) {
    let patch = Port { name: "p".into(), kind: "patch".into(), ..Port::default() };
    seen.observed.switch.bridges[0].ports.push(patch);
    seen.flows.clear();
}

#[test]
fn a_node_without_it() {
    let none = with(|seen| {
        seen.ovn = OvnSeen::default();
        seen.observed.switch.external_ids = [("system-id".to_owned(), "x".to_owned())].into();
    });
    finds(&none, "ovn", Severity::Note);
    let mut helped = none;
    patched(&mut helped);
    finds(&helped, "ovn", Severity::Note);
}

#[test]
fn ovn_controller() {
    let says = |said: Result<&str, &str>, stopped| {
        let said = said.map(str::to_owned).map_err(str::to_owned);
        with(|seen| seen.ovn.controller = Some(Answers { pid: 8, stopped, said }))
    };
    let cases = [
        with(|seen| seen.ovn.controller = None),
        says(Ok("not connected"), false),
        says(Err("no answer in 2 s"), false),
        says(Err("no answer in 2 s"), true),
    ];
    for mut seen in cases {
        finds(&seen, "ovn-controller", Severity::Warning);
        patched(&mut seen);
        finds(&seen, "ovn-controller", Severity::Error);
    }
}

#[test]
fn its_settings() {
    let set = |key: &str, value: &str| {
        with(|seen| drop(seen.observed.switch.external_ids.insert(key.to_owned(), value.to_owned())))
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
    named.ovn.named_otherwise = true;
    assert_eq!(report(&named).worst, Severity::Ok);
    // What is said of this chassis goes before what is said of all.
    let mut own = set("ovn-encap-ip", "10.9.9.9");
    own.observed.switch.external_ids.insert("ovn-encap-ip-node1".to_owned(), "10.0.0.5".to_owned());
    assert_eq!(report(&own).worst, Severity::Ok);
}

#[test]
fn mappings() {
    let set = |value: &str| {
        let (key, value) = ("ovn-bridge-mappings".to_owned(), value.to_owned());
        with(|seen| drop(seen.observed.switch.external_ids.insert(key, value)))
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
    finds(&with(|seen| seen.ovn.integration_flows = Some(0)), "ovn-flows", Severity::Warning);
    finds(&with(|seen| seen.observed.switch.bridges.truncate(1)), "ovn-bridge", Severity::Warning);
}

#[test]
fn its_databases() {
    let refused = || Some(Err("refused".to_owned()));
    let southbound = with(|seen| seen.ovn.southbound = database("tcp:10.0.0.9:6642", refused()));
    finds(&southbound, "ovn-southbound", Severity::Warning);
    let tls = with(|seen| seen.ovn.southbound = database("ssl:10.0.0.9:6642", None));
    assert_eq!(report(&tls).worst, Severity::Ok);
    let mut northbound = with(|seen| seen.ovn.northbound = database("tcp:10.0.0.9:6641", refused()));
    assert_eq!(report(&northbound).worst, Severity::Ok, "a running helper speaks for itself");
    northbound.helper = None;
    finds(&northbound, "ovn-northbound", Severity::Warning);
}
