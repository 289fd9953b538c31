//! The ingress filter, which makes the host accept each frame once: from the device that has the addresses.

use host::ingress_filter::Accepting;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::UplinkSnapshot;

/// Whether the filter is complete and accepts from the device that has the addresses.
pub(super) fn check(uplink: &UplinkSnapshot, location: Option<Accepting>) -> Option<Finding> {
    const REMEDY: &str = "`ovn-k8s-util recover`, or start ovn-k8s-gateway-helper, which maintains it";
    let error = |name, what: String, why| Some(Finding::error(name, &uplink.bridge, what, why, REMEDY));
    let location = location?;
    let Some(filter) = uplink.ingress_filter.as_ref().filter(|filter| filter.is_complete()) else {
        return error(
            "guard-missing",
            "its ingress filter is missing or incomplete".to_owned(),
            "the host receives every frame twice, from the NIC and from the bridge: it answers twice, counters are wrong, and it may reset pods' connections",
        );
    };
    if filter.is_accepting(location) {
        return None;
    }
    match filter.accepting() {
        None => error(
            "guard-wrong",
            "its ingress filter drops frames from both devices".to_owned(),
            "the host receives nothing on this uplink",
        ),
        Some(Accepting::Both) => error(
            "guard-wrong",
            "its ingress filter accepts frames from both devices".to_owned(),
            "the host receives every frame twice",
        ),
        Some(accepting) => error(
            "guard-wrong",
            format!("its ingress filter accepts frames from {accepting}, the addresses are on {location}"),
            "frames for the addresses are dropped: only part of the traffic passes",
        ),
    }
}
