//! Tables for people, from policy to text.

use demux::decide::{Ingress, Owner};
use demux::policy::Policy;

use super::*;
use crate::explain::args::Input;
use crate::explain::packet::{Packet, PacketOptions};
use crate::explain::{explain_frame, input};

const POLICY: &str = r#"{
    "split": { "mac": "0a:00:00:00:00:01", "shared": ["172.18.0.11"] },
    "services": { "shop/web": [
        { "address": "node/ipv4", "protocol": "tcp", "port": 30080, "owner": "north-south" }
    ] }
}"#;

fn answer(lines: &[&str], owner: Option<Option<Owner>>) -> Answer {
    let policy: Policy = serde_json::from_str(POLICY).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let frames = lines.iter().map(|line| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let packet = Input::Packet(Packet::read(&words, &PacketOptions::default()).unwrap());
        let frame = input::frames(&packet, Ingress::Uplink, policy.split.mac).unwrap().remove(0);
        runtime.block_on(explain_frame(&policy, Ingress::Uplink, &frame, owner, None)).unwrap()
    });
    Answer::of("of a test".to_owned(), None, frames.collect())
}

const NODE_PORT: &str = "tcp 203.0.113.10:40000 172.18.0.11:30080";
const REPLY: &str = "udp 203.0.113.10:53 172.18.0.11:41000";

#[test]
fn one_frame_with_one_verdict() {
    let text = Table { answer: &answer(&[NODE_PORT], None), capture: false }.to_string();
    let expected = "\
frame    tcp 203.0.113.10:40000 > 172.18.0.11:30080 syn, from uplink
verdict  north-south
rule     node-port (31): A NodePort on a shared address: OVN's load balancers.
service  shop/web
policy   of a test
";
    assert_eq!(text, expected);
}

#[test]
fn an_unknown_owner_has_every_branch() {
    let text = Table { answer: &answer(&[REPLY], None), capture: false }.to_string();
    for part in [
        "pods    north-south  owner-pods",
        "host    management   owner-host",
        "nobody  management   owner-unknown",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let text = Table { answer: &answer(&[REPLY], Some(Some(Owner::Pods))), capture: false }.to_string();
    assert!(text.contains("owner    pods (as given)\nverdict  north-south\n"), "{text}");
}

#[test]
fn a_capture_has_a_line_each_and_a_summary() {
    let text = Table { answer: &answer(&[NODE_PORT, REPLY, NODE_PORT], None), capture: true }.to_string();
    assert!(text.contains("north-south | management | management"), "{text}");
    assert!(text.contains("2       node-port\n"), "{text}");
    assert!(text.contains("1       owner-pods | owner-host | owner-unknown\n"), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
}

#[test]
fn differences_are_said_plainly() {
    let mut answer = answer(&[NODE_PORT], None);
    answer.bridge = Some("breth0".to_owned());
    answer.differences = 1;
    answer.frames[0].branches[0].live = Some(LiveAnswer {
        verdict: "drop".to_owned(),
        rule: None,
        flow: None,
        agrees: false,
        difference: Some("the policy says one thing".to_owned()),
    });
    for capture in [false, true] {
        let text = Table { answer: &answer, capture }.to_string();
        assert!(text.contains("DIFFERS") && text.contains("does NOT do what the policy says"), "{text}");
    }
}

#[test]
fn json_has_it_all() {
    let json = serde_json::to_value(answer(&[NODE_PORT, REPLY], None)).unwrap();
    assert_eq!(json["frames"][0]["branches"][0]["rule"], "node-port");
    assert_eq!(json["frames"][1]["branches"][0]["owner"], "pods");
    assert_eq!(json["summary"]["node-port"], 1);
    assert_eq!(json["differences"], 0);
}
