//! Conflicts in the switch, and takeovers that were interrupted.

use super::*;

#[test]
fn a_conflict_with_bridge_device_table_or_switch_is_refused() {
    let mut observed = node();
    observed.switch.bridges =
        vec![Bridge { name: "br-ex".to_owned(), ports: vec![port("eth0", "", false)], ..Bridge::default() }];
    refused(&plan_attach(&observed), "port-of-other-bridge", false);
    let mut observed = node();
    observed.links.push(link(7, "breth0", "bridge"));
    refused(&plan_attach(&observed), "bridge-name-taken", false);
    let mut observed = node();
    observed.foreign_guards = vec!["ovn_k8s_breth0".to_owned()];
    refused(&plan_attach(&observed), "guard-name-taken", false);
    let mut observed = node();
    observed.switch.bridges =
        vec![Bridge { name: "breth0".to_owned(), datapath_type: String::new(), ..Bridge::default() }];
    let netdev = Options { datapath: Some(Datapath::Netdev), ..options() };
    refused(&attach(&observed, &["eth0".to_owned()], &netdev), "datapath-differs", false);
    // Without the flag the existing bridge decides.
    assert_eq!(plan_attach(&observed).uplinks[0].datapath, Datapath::System);
    let mut observed = node();
    observed.switch.uninitialised = true;
    refused(&plan_attach(&observed), "switch-not-initialised", false);
    assert!(plan_attach(&observed).to_string().contains("ovs-vsctl init"));
    for mut observed in [node(), node()] {
        observed.switch.vswitchd = Some(false);
        refused(&plan_attach(&observed), "switch-away", false);
        observed.switch.answers = false;
        refused(&plan_attach(&observed), "switch-away", false);
    }
}

#[test]
fn an_interrupted_takeover_is_half_way() {
    let plan = plan_attach(&taken());
    assert!(plan.uplinks[0].half_way);
    assert_eq!(plan.refusals, []);
    let mut foreign = taken();
    foreign.switch.bridges[0].ours = false;
    assert_eq!(plan_attach(&foreign).refusals, []);
    // Without the NIC the bridge has another owner, and bridge-to-nics would not remove it.
    foreign.switch.bridges[0].ports.clear();
    refused(&plan_attach(&foreign), "bridge-of-others", true);
}
