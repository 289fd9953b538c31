//! Other programs that use the NIC: network managers, and programs or rules that are bound to its name.

use uplink::managers::Manager;
use uplink::plan;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{NodeSnapshot, UplinkSnapshot};

/// Names of a plan's findings that also hold after the takeover.
const STILL_TRUE: [&str; 4] = ["firewall-names-nic", "bound-socket", "multicast-membership", "afxdp-socket"];

/// Network managers that still manage the NIC.
pub(super) fn check(node: &NodeSnapshot, uplink: &UplinkSnapshot) -> Vec<Finding> {
    let of_nic = node.observed.managers.iter().filter(|found| found.nic == uplink.nic);
    // ifupdown and netplan act only when they are called.
    let active = of_nic.filter(|found| !matches!(found.manager, Manager::Ifupdown | Manager::Netplan));
    active
        .filter(|found| !found.evidence.contains("00-ovn-k8s-"))
        .map(|found| {
            Finding::warning(
                "manager",
                &uplink.nic,
                format!("{} still manages it ({})", found.manager, found.evidence),
                "it adds addresses and routes to the NIC again, or waits there for answers that never arrive",
                format!(
                    "`ovn-k8s-util nics-to-bridge {}` hands it over to the bridge; or make it ignore the NIC",
                    uplink.nic
                ),
            )
        })
        .collect()
}

/// Sockets, multicast memberships and firewall rules that are bound to the NIC, and have no effect now.
pub(super) fn left_behind(node: &NodeSnapshot, uplink: &UplinkSnapshot) -> Vec<Finding> {
    let plan = plan::left_behind(&node.observed, &uplink.nic);
    let refusals = plan.refusals.into_iter().map(|it| (it.name, it.what, it.remedy));
    let warnings = plan.warnings.into_iter().map(|it| (it.name, it.what, it.remedy));
    refusals
        .chain(warnings)
        .filter(|(name, ..)| STILL_TRUE.contains(name))
        .map(|(name, what, remedy)| {
            Finding::warning(name, &uplink.nic, what, "management is on the bridge now", remedy)
        })
        .collect()
}
