//! Plans of `bridge-to-nics`.

use super::*;

#[test]
fn detach_plans_and_their_refusals() {
    let plan = plan_detach(&taken());
    assert_eq!((plan.refusals.as_slice(), plan.warnings.as_slice()), (&[][..], &[][..]));
    assert_eq!((plan.uplinks[0].nic.as_str(), plan.uplinks[0].half_way), ("eth0", false));
    assert!(plan.to_string().contains("address 10.0.0.5/24 scope global dev eth0"), "{plan}");

    refused(&detach(&node(), &["breth0".to_owned()], &[]), "not-found", false);
    let mut observed = taken();
    observed.switch.bridges[0].ours = false;
    refused(&plan_detach(&observed), "not-ours", false);
    observed.switch.bridges[0].original = true;
    warned(&plan_detach(&observed), "original-bridge");
    let mut observed = taken();
    observed.switch.bridges[0]
        .ports
        .push(Port { of: Some("physnet".to_owned()), ..port("patch-1", "patch", false) });
    refused(&plan_detach(&observed), "gateway-router", true);
    let mut observed = taken();
    observed.switch.bridges[0].ports.push(port("tap0", "", false));
    refused(&plan_detach(&observed), "other-ports", true);
    let mut observed = taken();
    observed.links.retain(|link| link.name != "eth0");
    refused(&plan_detach(&observed), "not-found", false);
    let mut observed = taken();
    observed.switch.bridges.clear();
    refused(&plan_detach(&observed), "not-ours", false);
    // Addresses and routes go back without the switch.
    observed.switch.answers = false;
    warned(&plan_detach(&observed), "switch-away");
}

#[test]
fn a_socket_bound_to_the_bridge_is_only_a_warning_on_detach() {
    let mut observed = taken();
    let breth0 = observed.nics.iter_mut().find(|nic| nic.link.name == "breth0").unwrap();
    breth0.bound = vec![bound(Binding::Device, "sshd")];
    warned(&plan_detach(&observed), "bound-socket");
}
