//! Refusals and warnings about the NIC as a device.

use super::*;

#[test]
fn a_device_that_is_no_nic_is_refused() {
    let of = |nic: &str, observed: &Observed| attach(observed, &[nic.to_owned()], &options());
    refused(&of("eth9", &node()), "not-found", false);
    refused(&of("lo", &node()), "loopback", false);
    let mut observed = node();
    observed.nics[0].link.ethernet = false;
    refused(&plan_attach(&observed), "not-ethernet", false);
    let mut observed = node();
    observed.nics[0].link.name = "averylongname0".to_owned();
    refused(&of("averylongname0", &observed), "name-too-long", false);
    assert_eq!(attach(&node(), &["eth0".to_owned(), "eth0".to_owned()], &options()).uplinks.len(), 1);
}

#[test]
fn a_nic_without_link_next_hop_or_address() {
    let mut observed = node();
    observed.nics[0].link.up = false;
    refused(&plan_attach(&observed), "down", true);
    let mut observed = node();
    observed.nics[0].link.carrier = false;
    refused(&plan_attach(&observed), "down", true);
    let mut observed = node();
    observed.nics[0].routes.retain(|route| route.via.is_empty());
    refused(&plan_attach(&observed), "no-next-hop", true);
    let plan = attach(&observed, &["eth0".to_owned()], &Options { probe: false, ..options() });
    warned(&plan, "no-next-hop");
    observed.nics[0].addresses.clear();
    warned(&plan_attach(&observed), "no-address");
}

#[test]
fn a_bond_slave_or_bridge_port_is_refused() {
    for (kind, name) in [
        ("bond", "bond-slave"),
        ("team", "bond-slave"),
        ("bridge", "nic-has-master"),
        ("vrf", "nic-has-master"),
    ] {
        let mut observed = node();
        observed.links.push(link(5, "upper0", kind));
        observed.nics[0].link.master = Some(5);
        refused(&plan_attach(&observed), name, false);
    }
    let mut observed = node();
    observed.nics[0].link.master = Some(77);
    refused(&plan_attach(&observed), "nic-has-master", false);
    observed.links.push(link(77, "ovs-system", "openvswitch"));
    assert_eq!(plan_attach(&observed).refusals, []);
}

#[test]
fn a_nic_below_a_vlan_or_macvlan_is_refused() {
    let above = |kind: &str| {
        let mut observed = node();
        observed.links.push(LinkSnapshot { lower: Some(2), ..link(5, "eth0.100", kind) });
        observed
    };
    refused(&plan_attach(&above("vlan")), "vlan-child", true);
    for kind in ["macvlan", "ipvlan", "vxlan", ""] {
        refused(&plan_attach(&above(kind)), "nic-is-lower-device", true);
    }
    assert_eq!(plan_attach(&above("veth")).refusals, []);
    let mut kernel = above("vlan");
    kernel.switch.datapath_type = "system".to_owned();
    warned(&plan_attach(&kernel), "vlan-child");
}

#[test]
fn a_bond_and_a_vlan_device_are_attached_with_a_warning() {
    let mut observed = node();
    observed.nics[0].link.kind = "bond".to_owned();
    observed.links.push(LinkSnapshot { master: Some(2), ..link(6, "ens1", "") });
    warned(&plan_attach(&observed), "bond");
    let mut observed = node();
    observed.nics[0].link = LinkSnapshot { lower: Some(3), ..link(2, "eth0.100", "vlan") };
    observed.links.push(link(3, "eth0", ""));
    let plan = attach(&observed, &["eth0.100".to_owned()], &options());
    warned(&plan, "tagged-uplink");
    assert!(plan.warnings[0].what.contains("VLAN of eth0"));
}

#[test]
fn xdp_wireless_and_offloaded_crypto_are_refused() {
    let with = |mode: &str| {
        let mut observed = node();
        observed.nics[0].link.xdp = Some(mode.to_owned());
        plan_attach(&observed)
    };
    refused(&with("native"), "xdp-attached", true);
    refused(&with("offloaded"), "xdp-attached", true);
    warned(&with("generic"), "xdp-attached");
    let mut observed = node();
    observed.nics[0].bound = vec![bound(Binding::Xdp, "suricata")];
    refused(&plan_attach(&observed), "afxdp-socket", true);
    for what in ["xfrm", "macsec"] {
        let mut observed = node();
        observed.nics[0].device_offloads = vec![what.to_owned()];
        refused(&plan_attach(&observed), "device-offload", true);
    }
    let mut observed = node();
    observed.nics[0].link.wireless = true;
    refused(&plan_attach(&observed), "wireless", true);
    let mut observed = node();
    observed.nics[0].clsact = true;
    warned(&plan_attach(&observed), "clsact-filters");
}
