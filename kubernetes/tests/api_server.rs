//! A source against a real API server: what happens to Services and slices arrives, and nothing is lost when the
//! server goes away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use kubernetes::object::{IpMode, ServiceType, TrafficPolicy};
use kubernetes::{ClientConfig, NodeSettings, ObjectKey, Source, Watch};
use netns_tests::apiserver::{ApiServer, Place};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(api: &ApiServer) -> ClientConfig {
    ClientConfig::from_settings(&NodeSettings {
        api_server: Some(api.url()),
        // As it stands in the database: one line.
        ca_certificate: Some(api.ca_pem().replace('\n', "\\n")),
        api_token: Some(api.token().to_owned()),
        ..NodeSettings::default()
    })
    .unwrap()
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

fn slice(name: &str, service: &str, address: &str, node: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": "default", "labels": { "kubernetes.io/service-name": service } },
        "endpoints": [{ "addresses": [address], "nodeName": node, "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// Take batches until something holds. Gives the keys that were named as changed on the way.
async fn until(source: &mut Source, what: &str, holds: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut changed = Vec::new();
    let wait = async {
        while !holds(source) {
            changed.extend(source.next().await.changed.iter().map(ToString::to_string));
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(
        in_time.is_ok(),
        "never came: {what}; health {:?}; problems {:?}",
        source.health(),
        source.problems()
    );
    changed
}

/// One server and one story, since a server takes seconds to start.
#[tokio::test]
async fn a_source_follows_a_real_api_server() {
    let mut api = ApiServer::start(&Place::Loopback).unwrap();
    api.apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "gw1" } })).unwrap();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "gw1" },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "192.0.2.11" }, { "type": "Hostname", "address": "gw1" },
        ] },
    });
    api.apply_status(&node).unwrap();
    let mut web = service(
        "web",
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.7"],
            "ipFamilyPolicy": "PreferDualStack", "loadBalancerSourceRanges": ["203.0.113.0/24"],
            "ports": [{ "port": 80, "targetPort": "http", "nodePort": 30080 }],
        }),
    );
    api.apply(&web).unwrap();
    web["status"] = json!({ "loadBalancer": { "ingress": [
        { "ip": "198.51.100.8" }, { "ip": "198.51.100.9", "ipMode": "Proxy" }, { "hostname": "web.example" },
    ] } });
    api.apply_status(&web).unwrap();
    api.apply(&slice("web-1", "web", "10.1.0.5", "gw1")).unwrap();

    let mut source = Source::api(config(&api), Watch { node: Some("gw1".into()) });
    assert!(!source.synced());
    until(&mut source, "synced", |source| source.synced() && source.health().connected).await;
    until(&mut source, "the ranges and the node", |s| !s.service_cidrs().is_empty() && s.node().is_some())
        .await;
    assert_eq!(
        source.node().unwrap().internal_ips.as_ref(),
        ["192.0.2.11".parse::<std::net::IpAddr>().unwrap()]
    );
    let cidrs: Vec<_> = source.service_cidrs().iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["10.96.0.0/16", "fd10:96::/112"]);

    let view = source.view(&key("web")).unwrap();
    let got = &view.service;
    assert_eq!((got.kind, got.external_traffic_policy), (ServiceType::LoadBalancer, TrafficPolicy::Local));
    assert_eq!(got.cluster_ips.len(), 2);
    assert!(got.health_check_node_port.is_some() && got.created.is_some());
    assert_eq!(got.ports[0].node_port.unwrap().get(), 30080);
    assert_eq!(got.source_ranges.as_ref().unwrap()[0].to_string(), "203.0.113.0/24");
    let ingress: Vec<_> = got.ingress.iter().map(|ingress| (ingress.ip.to_string(), ingress.mode)).collect();
    assert_eq!(ingress, [("198.51.100.8".into(), IpMode::Vip), ("198.51.100.9".into(), IpMode::Proxy)]);
    assert_eq!(view.slices[0].endpoints[0].node.as_deref(), Some("gw1"));
    assert!(source.view(&key("kubernetes")).is_some(), "the API server's own Service is one like any other");

    // Change, add, delete.
    api.apply(&slice("web-2", "web", "10.1.0.6", "gw2")).unwrap();
    until(&mut source, "a second slice", |s| s.slices(&key("web")).len() == 2).await;
    api.apply(&service("db", json!({ "type": "NodePort", "ports": [{ "port": 5432, "nodePort": 30543 }] })))
        .unwrap();
    let changed = until(&mut source, "a new Service", |s| s.view(&key("db")).is_some()).await;
    assert_eq!(changed, ["default/db"]);
    api.delete(&slice("web-1", "web", "", "")).unwrap();
    until(&mut source, "a slice less", |s| s.slices(&key("web")).len() == 1).await;
    api.delete(&service("db", Value::Null)).unwrap();
    until(&mut source, "a Service less", |s| s.view(&key("db")).is_none()).await;

    // The server is killed: everything stays. It comes back: what happened meanwhile comes, and nothing else.
    api.kill().unwrap();
    until(&mut source, "the loss is noticed", |s| !s.health().connected && s.health().last_error.is_some())
        .await;
    assert!(source.synced() && source.view(&key("web")).is_some());
    api.restart().unwrap();
    let changed = until(&mut source, "connected again", |s| s.health().connected).await;
    assert_eq!(changed, Vec::<String>::new());
    api.apply(&service("late", json!({ "ports": [{ "port": 1 }] }))).unwrap();
    until(&mut source, "a Service made after the restart", |s| s.view(&key("late")).is_some()).await;

    // A gap that the server cannot fill: the source is cut off while things happen, and their history is forgotten.
    api.kill().unwrap();
    until(&mut source, "the loss is noticed", |s| !s.health().connected).await;
    let away = ClientConfig::from_settings(&NodeSettings {
        api_server: Some("http://127.0.0.1:1".into()),
        ..NodeSettings::default()
    });
    let mut witness = Source::api(config(&api), Watch::default());
    api.restart().unwrap();
    until(&mut witness, "a second source", |s| s.synced() && s.health().connected).await;
    source.reconfigure(away.unwrap());
    api.delete(&service("late", Value::Null)).unwrap();
    api.apply(&service("new", json!({ "ports": [{ "port": 2 }] }))).unwrap();
    source.reconfigure(config(&api));
    let changed = until(&mut source, "the gap is closed", |s| {
        s.health().connected && s.view(&key("late")).is_none() && s.view(&key("new")).is_some()
    })
    .await;
    assert!(changed.iter().all(|name| name == "default/late" || name == "default/new"), "{changed:?}");

    // Watch expired: the witness watches from before, the server forgets that time and comes again.
    until(&mut witness, "the witness follows", |s| s.view(&key("new")).is_some()).await;
    api.kill().unwrap();
    until(&mut witness, "the loss is noticed", |s| !s.health().connected).await;
    api.compact().unwrap();
    api.restart().unwrap();
    api.apply(&service("after", json!({ "ports": [{ "port": 3 }] }))).unwrap();
    let expired = |s: &Source| s.health().last_error.as_ref().is_some_and(|error| error.contains("410"));
    let mut changed = until(&mut witness, "the server says 410", expired).await;
    changed.extend(until(&mut witness, "after the compaction", |s| s.view(&key("after")).is_some()).await);
    assert_eq!(changed, ["default/after"]);
}
