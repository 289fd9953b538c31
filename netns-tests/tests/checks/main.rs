//! What the matrix does not ask: policies, addresses, neighbours, tuples, errors, fragments; for each reply rule.
//!
//! The checks of one rule share a lab and run one after the other; each failed one is named.

mod addresses;
mod fixture;
mod fragments;
mod neighbours;
mod policies;
mod tuples;

use anyhow::{Result, ensure};
use netns_tests::lab::{PortRange, helper::ReplyRule};

use crate::fixture::Fixture;

type Check = fn(&Fixture) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("policy Local: a pod behind each gateway, client address kept", policies::local_pods),
    ("policy Local: a host endpoint by the kernel's translation", policies::local_host),
    ("policy Local: without a usable endpoint nobody answers", policies::local_nobody),
    ("policy Cluster: without a usable endpoint no host process answers", policies::cluster_nobody),
    ("source ranges", policies::source_ranges),
    ("external addresses", addresses::external),
    ("a server bound to the node's address, from pods", addresses::bound_server),
    ("one echo answer for a node's address", addresses::echo),
    ("tunnels are not tracked", addresses::tunnels_untracked),
    ("a tagged frame is the host's", addresses::tagged_frame),
    ("the host after a pod closed the tuple", tuples::host_after_pod),
    ("UDP: pod, host, pod from one source port", tuples::udp_in_turn),
    ("the host from a source port that is a NodePort", tuples::host_from_node_port),
    ("a pod from a source port that is a NodePort", tuples::pod_from_node_port),
    ("one live tuple of host and pod", tuples::shared_live_tuple),
    ("port unreachable reaches pods and hosts", fragments::port_unreachable),
    ("fragments", fragments::datagrams),
    ("fragmented answers to a pod while the host gets fragments", fragments::answers_under_load),
    ("path MTU of what pods and hosts send", fragments::path_mtu_out),
    ("path MTU of what is served", fragments::path_mtu_served),
    ("hosts connect while a router asks for an absent neighbour", neighbours::absent_neighbour),
    ("the upstream router changes its MAC address", neighbours::router_moves),
];

fn check_all(rule: ReplyRule, snat_ports: Option<PortRange>) -> Result<()> {
    let fixture = Fixture::set_up(rule, snat_ports)?;
    let wanted = std::env::var("LAB_CHECK").unwrap_or_default();
    let mut failures = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| name.contains(&wanted)) {
        let start = std::time::Instant::now();
        let outcome = check(&fixture);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{:11} {word:6} {:6.1?} {name}", rule.name(), start.elapsed());
        if let Err(error) = outcome {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{} checks failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

#[test]
fn tracked() -> Result<()> {
    check_all(ReplyRule::Tracked, None)
}

#[test]
fn tracked_with_a_port_range() -> Result<()> {
    check_all(ReplyRule::Tracked, Some(PortRange::USUAL))
}

#[test]
fn partitioned() -> Result<()> {
    check_all(ReplyRule::Partitioned, Some(PortRange::USUAL))
}
