//! One file: what it gives, what is refused, and what stays in force.
#![allow(clippy::unwrap_used, reason = "a test reports by failing")]

use proptest::prelude::*;

use super::*;

fn read(text: &str, before: &Parsed) -> Parsed {
    parse("web.yaml", text, &before.objects, &mut Names::default())
}

fn fresh(text: &str) -> Parsed {
    read(text, &Parsed::default())
}

fn names(parsed: &Parsed) -> Vec<String> {
    parsed.objects.iter().map(|(_, object)| object.name().1.to_string()).collect()
}

fn problems(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

fn service(name: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  ports:\n  - port: 80\n    \
         nodePort: {port}\n"
    )
}

#[test]
fn documents_are_checked_one_by_one() {
    let text = format!(
        "# a comment\n---\n{}---\nkind: [unclosed\n---\n{}",
        service("a", "30001"),
        service("b", "30002")
    );
    let got = fresh(&text);
    assert_eq!(names(&got), ["default/a", "default/b"]);
    let [problem] = &problems(&got)[..] else { unreachable!("one problem: {:?}", got.problems) };
    assert!(problem.starts_with("web.yaml, document 2: line 1"), "{problem}");
    assert!(got.broken);
}

#[test]
fn a_refused_object_is_named_with_its_place() {
    let text = format!("{}---\n{}", service("a", "70000"), service("b", "30002"));
    let got = fresh(&text);
    assert_eq!(names(&got), ["default/b"]);
    let expected =
        "web.yaml, document 1: Service default/a: spec.ports[0].nodePort: 70000 is no port from 1 to 65535";
    assert_eq!(problems(&got), [expected]);
    assert!(!got.broken);
}

#[test]
fn a_refused_version_leaves_the_one_before_in_force() {
    let before = fresh(&format!("{}---\n{}", service("a", "30001"), service("b", "30002")));
    let got = read(&format!("{}---\n{}", service("a", "70000"), service("b", "30003")), &before);
    assert_eq!(names(&got), ["default/a", "default/b"]);
    let kept =
        |parsed: &Parsed| parsed.objects.iter().find(|(_, object)| &*object.name().1.name == "a").cloned();
    assert_eq!(format!("{:?}", kept(&before).unwrap().1), format!("{:?}", kept(&got).unwrap().1));
    assert!(problems(&got)[0].ends_with("the version before stays in force"), "{:?}", got.problems);
}

#[test]
fn nothing_is_taken_away_while_a_document_does_not_parse() {
    let before = fresh(&format!("{}---\n{}", service("a", "30001"), service("b", "30002")));
    let got = read(&format!("{}---\nkind: Serv", service("a", "30009")), &before);
    assert_eq!(names(&got), ["default/a"], "a text that is cut off between two tokens still parses");
    let got = read(&format!("{}---\nkind: \"Serv", service("a", "30009")), &before);
    assert_eq!(names(&got), ["default/a", "default/b"]);
    assert!(got.broken);
    let got = read(&service("a", "30009"), &got);
    assert_eq!(names(&got), ["default/a"], "and when it parses again, what is not in it is gone");
}

#[test]
fn lists_and_json_are_read_and_other_kinds_are_named() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "items": [
            {"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv4"}]}
    ]}"#;
    let got = fresh(json);
    assert_eq!(names(&got), ["default/a", "default/s"]);
    let [problem] = &problems(&got)[..] else { unreachable!("one problem: {:?}", got.problems) };
    assert!(
        problem.starts_with("web.yaml, document 1, item 2: ConfigMap c: kind \"ConfigMap\" is not used"),
        "{problem}"
    );
}

#[test]
fn what_an_api_server_would_refuse_is_refused() {
    let wrong = |spec: &str| {
        let got = fresh(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}\n"));
        assert!(got.objects.is_empty(), "{spec}");
        problems(&got).join(" ")
    };
    for (spec, expected) in [
        ("{ports: []}", "spec.ports: there is none"),
        ("{ports: [{port: 1}, {port: 2}]}", "each needs a name"),
        ("{ports: [{port: 1, name: a}, {port: 1, name: b}]}", "TCP 1 is there twice"),
        ("{ports: [{port: 1, name: a}, {port: 2, name: a}]}", "\"a\" is there twice"),
        ("{ports: [{port: 1, nodePort: 30000}]}", "type ClusterIP has none"),
        (
            "{type: NodePort, ports: [{port: 1, name: a, nodePort: 3}, {port: 2, name: b, nodePort: 3}]}",
            "TCP 3 is there twice",
        ),
        ("{ports: [{port: 1}], externalIPs: [127.0.0.1]}", "127.0.0.1 is a loopback address"),
        ("{ports: [{port: 1}], externalIPs: ['::ffff:192.0.2.1']}", "an IPv4 address written as IPv6"),
        ("{ports: [{port: 1}], clusterIPs: [10.0.0.1, 10.0.0.2]}", "at most one of each family"),
        ("{type: NodePort, clusterIP: None, ports: [{port: 1}]}", "does not go with NodePort"),
        ("{ports: [{port: '80'}]}", "invalid type: string"),
    ] {
        let got = wrong(spec);
        assert!(got.contains(expected), "{spec}: {got}");
    }
    let bad_name =
        fresh("apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\nspec: {ports: [{port: 1}]}\n");
    assert!(problems(&bad_name)[0].contains("is no name"));
}

#[test]
fn documents_that_are_no_objects_are_refused() {
    for (text, expected) in [
        ("just a text\n", "kind is missing"),
        ("[1, 2]\n", "kind is missing"),
        ("kind: Service\nmetadata: {name: a}\n", "apiVersion \"\": a Service is v1"),
        ("apiVersion: v2\nkind: Service\nmetadata: {name: a}\n", "apiVersion \"v2\""),
        ("apiVersion: v1\nkind: Service\nmetadata: 7\n", "Service without a name"),
        ("apiVersion: v1\nkind: List\nitems: 7\n", "there is no list of objects"),
        ("kind: Service\nkind: Service\n", "duplicate"),
    ] {
        let got = problems(&fresh(text)).join(" ");
        assert!(got.contains(expected), "{text:?}: {got}");
    }
    for empty in ["", "---\n", "# nothing\n---\n# still nothing\n...\n", "%YAML 1.2\n---\n", "\u{feff}\n"] {
        let got = fresh(empty);
        assert!(got.objects.is_empty() && got.problems.is_empty(), "{empty:?}: {:?}", got.problems);
    }
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    let got = fresh(&text);
    assert!(got.broken && got.objects.is_empty(), "{:?}", got.problems);
}

#[test]
fn incomplete_objects_are_used_with_a_remark() {
    let got = fresh(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, ports: [{port: 1}]}\n",
    );
    assert_eq!(names(&got), ["default/a"]);
    assert!(problems(&got)[0].contains("it is open on no node port"));
    let got = fresh(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\n",
    );
    assert_eq!(names(&got), ["default/s"]);
    assert!(problems(&got)[0].contains("belongs to no Service"));
}

proptest! {
    /// Cut anywhere, with any byte changed: read or refused, never more than that, and nothing is taken away while
    /// it does not parse.
    #[test]
    fn a_damaged_file_deletes_nothing(cut in 0usize..400, at in 0usize..400, byte in 0u8..128) {
        let whole = format!("{}---\n{}", service("a", "30001"), service("b", "30002"));
        let before = fresh(&whole);
        let mut damaged = whole.into_bytes();
        if let Some(target) = damaged.get_mut(at) {
            *target = byte;
        }
        damaged.truncate(cut);
        let got = read(std::str::from_utf8(&damaged).unwrap(), &before);
        if got.broken {
            prop_assert!(names(&got).len() >= 2);
        }
    }
}
