//! The API server as a fixture: in a namespace of its own, and gone without leftovers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

use std::net::TcpStream;
use std::process::Command;

use netns_tests::apiserver::{ApiServer, Place};
use serde_json::json;

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

/// Removed at the end, also of a test that fails.
struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn it_serves_in_a_namespace_of_the_test() {
    let netns = Netns(format!("apisrv-{}", std::process::id()));
    ip(&format!("netns add {}", netns.0));
    ip(&format!("-n {} link set lo up", netns.0));
    ip(&format!("-n {} address add 2001:db8::10/128 dev lo nodad", netns.0));
    let place = Place::Netns { name: netns.0.clone(), ip: "2001:db8::10".parse().unwrap() };
    let api = ApiServer::start(&place).unwrap();
    assert_eq!(api.url(), "https://[2001:db8::10]:6443");
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
            "spec": { "ports": [{ "port": 80 }] },
        })
    };
    let made = api.apply(&service("web")).unwrap();
    let cluster_ip = made["spec"]["clusterIP"].as_str().unwrap();
    assert!(cluster_ip.starts_with("fd"), "the first range is of the server's family: {cluster_ip}");
    api.create_all(&[service("a"), service("b")]).unwrap();
    assert_eq!(api.get("/api/v1/namespaces/default/services").unwrap()["items"].as_array().unwrap().len(), 4);
    assert!(api.create_all(&[service("a")]).is_err(), "what is there already cannot be made");
}

#[test]
fn it_ends_with_its_value() {
    let api = ApiServer::start(&Place::Loopback).unwrap();
    let address = api.url().trim_start_matches("https://").to_owned();
    assert!(TcpStream::connect(&address).is_ok());
    drop(api);
    assert!(TcpStream::connect(&address).is_err());
}
