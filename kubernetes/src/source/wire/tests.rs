//! Reading the API's JSON.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn service(json: Value) -> Result<Service, String> {
    match read(Kind::Service, json, &mut Names::default())? {
        Object::Service(service) => Ok((*service).clone()),
        other => panic!("{other:?}"),
    }
}

fn slice(json: Value) -> Result<EndpointSlice, String> {
    match read(Kind::Slice, json, &mut Names::default())? {
        Object::Slice(slice) => Ok((*slice).clone()),
        other => panic!("{other:?}"),
    }
}

fn with_spec(spec: Value) -> Value {
    json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
}

#[test]
fn a_service_without_anything_has_the_defaults_of_the_api() {
    let got = service(with_spec(json!({ "ports": [{ "port": 80 }] }))).unwrap();
    assert_eq!((got.kind, got.headless, got.external_traffic_policy), Default::default());
    assert_eq!(got.ports[0].protocol, Protocol::Tcp);
    assert_eq!(got.ports[0].target_port, TargetPort::Number(NonZeroU16::new(80).unwrap()));
    assert_eq!((got.source_ranges, got.created), (None, None));
    assert!(got.families.v4 && got.families.v6);
}

#[test]
fn null_is_how_go_writes_an_empty_list() {
    let nulls = json!({
        "type": "LoadBalancer", "ports": null, "externalIPs": null, "clusterIPs": null, "ipFamilies": null,
        "loadBalancerSourceRanges": null, "healthCheckNodePort": 0,
    });
    let mut json = with_spec(nulls);
    json["metadata"]["labels"] = Value::Null;
    json["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }]);
    json["status"] = json!({ "loadBalancer": { "ingress": null } });
    let got = service(json).unwrap();
    assert!(got.ports.is_empty() && got.external_ips.is_empty() && got.ingress.is_empty());
    assert_eq!(got.health_check_node_port, None);
}

#[test]
fn headless_and_external_name_services_have_no_address() {
    let headless = service(with_spec(json!({ "clusterIP": "None", "clusterIPs": ["None"] }))).unwrap();
    assert!(headless.headless && headless.cluster_ips.is_empty() && !headless.is_balanced());
    let alias = service(with_spec(json!({ "type": "ExternalName", "externalName": "a.example" }))).unwrap();
    assert!(alias.cluster_ips.is_empty() && !alias.is_balanced());
}

#[test]
fn families_are_those_written_or_those_of_the_addresses() {
    let got = service(with_spec(json!({ "clusterIPs": ["fd00::5"] }))).unwrap();
    assert_eq!(got.families, Families { v4: false, v6: true });
    let got =
        service(with_spec(json!({ "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"] }))).unwrap();
    assert_eq!(got.families, Families { v4: true, v6: true });
}

#[test]
fn source_ranges_come_from_the_spec_or_else_from_the_annotation() {
    let ranges = |json| {
        service(json).unwrap().source_ranges.map(|nets| nets.iter().map(ToString::to_string).collect())
    };
    let mut json =
        with_spec(json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": [" 192.0.2.7/24 "] }));
    json["metadata"]["annotations"] =
        json!({ "service.beta.kubernetes.io/load-balancer-source-ranges": "198.51.100.0/24, 2001:db8::/32" });
    assert_eq!(ranges(json.clone()), Some(vec!["192.0.2.0/24".to_owned()]));
    json["spec"]["loadBalancerSourceRanges"] = json!([]);
    assert_eq!(ranges(json.clone()), Some(vec!["198.51.100.0/24".to_owned(), "2001:db8::/32".to_owned()]));
    json["spec"]["type"] = "NodePort".into();
    assert_eq!(ranges(json), None, "they guard load balancer addresses and nothing else");
}

#[test]
fn the_health_port_counts_for_local_load_balancers_only() {
    let port = |kind: &str, policy: &str| {
        let spec = json!({ "type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 32000 });
        service(with_spec(spec)).unwrap().health_check_node_port.map(NonZeroU16::get)
    };
    assert_eq!(port("LoadBalancer", "Local"), Some(32000));
    assert_eq!(port("LoadBalancer", "Cluster"), None);
    assert_eq!(port("NodePort", "Local"), None);
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = |spec| service(with_spec(spec)).unwrap_err();
    let cases = [
        (json!({ "ports": [{ "port": 70000 }] }), "spec.ports[0].port: 70000 is no port from 1 to 65535"),
        (json!({ "ports": [{ "port": 0 }] }), "spec.ports[0].port: 0 is no port from 1 to 65535"),
        (json!({ "ports": [{}] }), "spec.ports[0].port: missing"),
        (
            json!({ "ports": [{ "port": 1 }, { "port": 2, "nodePort": -4 }] }),
            "spec.ports[1].nodePort: -4 is no port",
        ),
        (json!({ "ports": [{ "port": 1, "protocol": "tcp" }] }), "\"tcp\" is not TCP, UDP or SCTP"),
        (json!({ "type": "Nodeport" }), "spec.type: \"Nodeport\" is not"),
        (json!({ "externalIPs": ["10.0.0.256"] }), "spec.externalIPs: \"10.0.0.256\" is no IP address"),
        (
            json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/33"] }),
            "spec.loadBalancerSourceRanges: \"10.0.0.0/33\" is no network",
        ),
        (json!({ "externalTrafficPolicy": "local" }), "spec.externalTrafficPolicy: \"local\""),
    ];
    for (spec, expected) in cases {
        let got = wrong(spec);
        assert!(got.contains(expected), "{got:?} does not say {expected:?}");
    }
    assert!(service(json!({ "metadata": {}, "spec": {} })).unwrap_err().contains("metadata.name is missing"));
}

#[test]
fn unknown_conditions_count_as_ready_and_a_drained_endpoint_still_serves() {
    let got = slice(json!({
        "metadata": { "name": "s", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.0.0.1"] },
            { "addresses": ["10.0.0.2"], "conditions": { "ready": false, "serving": true, "terminating": true } },
            { "addresses": ["10.0.0.3"], "conditions": { "ready": false } },
            { "addresses": [] },
        ],
        "ports": [{ "name": null, "port": null }],
    }))
    .unwrap();
    let states: Vec<_> =
        got.endpoints.iter().map(|end| (end.ready, end.serving, end.is_last_resort())).collect();
    assert_eq!(states, [(true, true, false), (false, true, true), (false, false, false)]);
    assert_eq!(got.service.unwrap().to_string(), "shop/web");
    assert_eq!((&*got.ports[0].name, got.ports[0].port), ("", None));
}

#[test]
fn the_older_version_of_a_slice_says_the_node_in_its_topology() {
    let got = slice(json!({
        "metadata": { "name": "s", "namespace": "shop" }, "addressType": "IPv6",
        "endpoints": [{ "addresses": ["fd00::1"], "topology": { "kubernetes.io/hostname": "gw1" } }],
    }))
    .unwrap();
    assert_eq!(got.endpoints[0].node.as_deref(), Some("gw1"));
}

#[test]
fn slices_of_host_names_have_no_endpoints_and_mixed_ones_are_refused() {
    let json = |kind: &str| {
        json!({
            "metadata": { "name": "s", "namespace": "shop" }, "addressType": kind,
            "endpoints": [{ "addresses": ["10.0.0.1"] }],
        })
    };
    assert!(slice(json("FQDN")).unwrap().endpoints.is_empty());
    assert!(slice(json("IPv6")).unwrap_err().contains("not of the slice's addressType"));
    assert!(slice(json("ipv4")).unwrap_err().contains("addressType"));
}

#[test]
fn endpoints_become_a_slice_for_each_subset_and_family() {
    let json = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "subsets": [{
            "addresses": [{ "ip": "10.0.0.1", "nodeName": "gw1" }, { "ip": "fd00::1" }],
            "notReadyAddresses": [{ "ip": "10.0.0.2" }], "ports": [{ "port": 8080 }],
        }],
    });
    let objects = read_endpoints(json, &mut Names::default()).unwrap();
    let shown: Vec<_> = objects
        .iter()
        .map(|object| match object {
            Object::Slice(slice) => (slice.key.name.to_string(), slice.endpoints.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, [("web:subset0:ipv4".into(), 2), ("web:subset0:ipv6".into(), 1)]);
}

#[test]
fn names_are_kept_once_and_forgotten_when_unused() {
    let mut names = Names::default();
    let first = names.get("shop");
    assert!(Arc::ptr_eq(&first, &names.get("shop")));
    for number in 0..1000 {
        names.get(&format!("gone-{number}"));
    }
    assert!(names.known.len() < 200, "{} names are kept", names.known.len());
    assert!(Arc::ptr_eq(&first, &names.get("shop")));
}

/// Any JSON at all, with the names of real fields among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    const KEYS: &[&str] = &[
        "metadata",
        "name",
        "spec",
        "ports",
        "port",
        "status",
        "endpoints",
        "addresses",
        "clusterIPs",
        "type",
    ];
    let key = proptest::sample::select(KEYS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever comes is read or refused, and never more than that.
    #[test]
    fn any_json_is_read_or_refused(json in any_json()) {
        for kind in Kind::ALL {
            let _ = read(kind, json.clone(), &mut Names::default());
        }
        let _ = read_endpoints(json, &mut Names::default());
    }
}
