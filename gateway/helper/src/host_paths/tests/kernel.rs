//! Against the real kernel and nft: made, found again, changed by deltas, taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use demux::policy::ServiceKey;
use host::sysctl;

use super::world::{World, cluster, direct, inputs, range, right, run};
use crate::host_paths::plan::NftChange;
use crate::host_paths::{HostInputs, HostPaths, PodsPorts};

const FOREIGN: &str = "table inet theirs {\n set a { type inet_service; elements = { 1, 2 } }\n chain c { type filter hook input priority 0; tcp dport @a counter accept; }\n}\n";

fn everything() -> HostInputs {
    inputs(
        PodsPorts::Range(range(40000, 59999)),
        &[("default/web", cluster(30080)), ("default/local", direct(30090, 8090))],
    )
}

async fn expect_nothing_to_do(paths: &mut HostPaths, inputs: &HostInputs) {
    let plan = paths.plan(inputs).await.unwrap();
    assert!(plan.is_empty(), "not empty:\n{plan}");
}

#[test]
fn every_setting_is_taken_by_the_kernel_and_found_again() {
    for pods in [PodsPorts::Any, PodsPorts::Range(range(40000, 59999))] {
        let mut all = everything();
        all.node.pods = pods;
        World::new().at_node(async |paths| {
            assert!(!paths.plan(&all).await.unwrap().is_empty());
            right(&paths.converge(&all, None).await);
            expect_nothing_to_do(paths, &all).await;
            assert!(paths.converge(&all, None).await.plan.is_empty());
            paths.forget_table();
            assert!(paths.converge(&all, None).await.plan.is_empty());
        });
    }
}

#[test]
fn where_the_kernel_cannot_ask_for_sockets_the_rest_still_loads() {
    use crate::host_paths::plan::{TableSnapshot, diff};
    use crate::host_paths::rules::Features;
    use crate::host_paths::state::desired;
    let world = World::new();
    world.at_node(async |paths| {
        let plan = paths.plan(&everything()).await.unwrap();
        let none = TableSnapshot::default();
        let nft = host::nft::Nft::default();
        for pods in [PodsPorts::Any, PodsPorts::Range(range(40000, 59999))] {
            let mut all = everything();
            all.node.pods = pods;
            let state = desired(&all, Features { socket: false });
            assert!(state.rules.iter().all(|rule| !rule.text.contains("socket")));
            assert_eq!(
                state.left_out.iter().any(|what| what.contains("CONFIG_NFT_SOCKET")),
                pods == PodsPorts::Any
            );
            let observed = crate::host_paths::plan::HostSnapshot {
                devices: vec![],
                routes: vec![],
                table: none.clone(),
                ports: host::sysctl::Sysctls::new(std::path::Path::new("/nonexistent")).ports().unwrap(),
                arp_announce: None,
            };
            nft.apply("try", &diff(&state, &observed).nft.script().unwrap()).await.unwrap();
        }
        assert!(matches!(plan.nft, NftChange::Replace(..)));
    });
}

#[test]
fn a_changed_service_changes_its_elements_only() {
    World::new().at_node(async |paths| {
        let mut all = everything();
        right(&paths.converge(&all, None).await);
        all.services.insert(ServiceKey::new("default/new"), Arc::new(cluster(30081)));
        all.services.remove(&ServiceKey::new("default/local"));
        let report = paths.converge(&all, None).await;
        right(&report);
        let NftChange::Elements(changes) = &report.plan.nft else { panic!("{}", report.plan) };
        // In: two addresses, two protocols. Out: two addresses and the endpoint of both families.
        assert_eq!(changes.len(), 4 + 4, "{}", report.plan);
        assert!(report.plan.sysctls.is_empty() && report.plan.routes.is_empty(), "{}", report.plan);
        expect_nothing_to_do(paths, &all).await;
    });
}

#[test]
fn changes_of_the_node_rewrite_rules_and_keep_elements() {
    World::new().at_node(async |paths| {
        let mut all = everything();
        right(&paths.converge(&all, None).await);
        all.node.uplink = None;
        let report = paths.converge(&all, None).await;
        right(&report);
        assert!(
            matches!(&report.plan.nft, NftChange::Rules(_, changes) if changes.is_empty()),
            "{}",
            report.plan
        );
        all.node.shared = ["192.0.2.10".parse().unwrap()].into();
        let report = paths.converge(&all, None).await;
        right(&report);
        assert!(
            matches!(&report.plan.nft, NftChange::Rules(_, changes) if changes.len() == 2),
            "{}",
            report.plan
        );
        expect_nothing_to_do(paths, &all).await;
    });
}

#[test]
fn drift_is_found_and_mended() {
    World::new().at_node(async |paths| {
        let all = everything();
        right(&paths.converge(&all, None).await);
        for damage in [
            "flush chain inet ovn_k8s_gateway guard",
            "add rule inet ovn_k8s_gateway out counter",
            "insert rule inet ovn_k8s_gateway pods accept",
            "flush map inet ovn_k8s_gateway svc4",
            "add element inet ovn_k8s_gateway node_ports { 6 . 22 }",
            "add set inet ovn_k8s_gateway odd { type mark; }",
            "delete table inet ovn_k8s_gateway",
        ] {
            host::nft::Nft::default().apply("damage", damage).await.unwrap();
            paths.forget_table();
            let report = paths.converge(&all, None).await;
            assert!(report.plan.nft != NftChange::None, "{damage} was not seen");
            right(&report);
            expect_nothing_to_do(paths, &all).await;
        }
        run("ip", "route del 10.96.0.0/16");
        sysctl::write(&sysctl::RESERVED_PORTS, "9999").unwrap();
        let report = paths.converge(&all, None).await;
        right(&report);
        assert_eq!((report.plan.routes.len(), report.plan.sysctls.len()), (1, 1), "{}", report.plan);
        assert_eq!(sysctl::read(&sysctl::RESERVED_PORTS).unwrap(), "9999,30000-32767,40000-59999");
    });
}

#[test]
fn a_delta_that_the_kernel_refuses_is_followed_by_a_full_look() {
    World::new().at_node(async |paths| {
        let mut all = everything();
        right(&paths.converge(&all, None).await);
        host::nft::Nft::default().apply("damage", "flush set inet ovn_k8s_gateway node_ports").await.unwrap();
        all.services.clear();
        let report = paths.converge(&all, None).await;
        assert!(!report.failed.is_empty(), "elements to delete are gone: {}", report.plan);
        right(&paths.converge(&all, None).await);
        expect_nothing_to_do(paths, &all).await;
    });
}

#[test]
fn cleanup_leaves_nothing_of_ours_and_all_of_others() {
    let world = World::new();
    world.at_node(async |paths| {
        host::nft::Nft::default().apply("make theirs", FOREIGN).await.unwrap();
        run("ip", "route add 10.200.0.0/16 via 10.128.0.1");
        run("ip", "route add 10.201.0.0/16 via 10.128.0.1 proto 200");
        sysctl::write(&sysctl::RESERVED_PORTS, "8080").unwrap();
        let look = || {
            let sysctls =
                [sysctl::RESERVED_PORTS, sysctl::LOCAL_PORT_RANGE].map(|key| sysctl::read(&key).unwrap());
            let announce = sysctl::read(&sysctl::Key::arp_announce("k8s-node").unwrap()).unwrap();
            (run("nft", "list ruleset"), run("ip", "route"), run("ip", "-6 route"), sysctls, announce)
        };
        let before = look();
        let all = everything();
        right(&paths.converge(&all, None).await);
        assert_eq!(run("nft", "list table inet theirs"), before.0, "theirs is untouched while ours is there");
        assert_ne!(look(), before);
        assert_eq!(look().4, "2", "the management port asks in its own name");
        assert!(paths.cleanup().await.is_empty());
        assert_eq!(look(), before);
        assert!(paths.cleanup().await.is_empty());
        // And from there it all comes back.
        right(&paths.converge(&all, None).await);
        expect_nothing_to_do(paths, &all).await;
        assert!(paths.cleanup().await.is_empty());
        assert_eq!(look(), before);
    });
    assert_eq!(world.state_files(), 0);
}

#[test]
fn another_process_takes_over_without_writing() {
    let world = World::new();
    let all = everything();
    world.converge(&all);
    world.at_node(async |paths| {
        let report = paths.converge(&all, None).await;
        assert!(report.plan.is_empty(), "{}", report.plan);
        assert!(paths.cleanup().await.is_empty());
    });
}

#[test]
fn thousands_of_services_are_one_transaction_and_a_change_is_small() {
    World::new().at_node(async |paths| {
        let mut all = inputs(PodsPorts::Any, &[]);
        all.services = (0..2500_u16)
            .map(|i| (ServiceKey::new(format!("a/{i:05}")), Arc::new(cluster(30000 + i))))
            .collect::<BTreeMap<_, _>>();
        right(&paths.converge(&all, None).await);
        expect_nothing_to_do(paths, &all).await;
        all.services.insert(ServiceKey::new("a/00007"), Arc::new(cluster(32700)));
        let report = paths.converge(&all, None).await;
        right(&report);
        let NftChange::Elements(changes) = &report.plan.nft else { panic!("{}", report.plan) };
        assert_eq!(changes.len(), 8);
    });
}
