//! Addresses with a lifetime: a DHCP client, manager or the kernel has to renew them on the bridge.

use ipnet::IpNet;

use super::{Plan, UplinkPlan};
use crate::managers::{ExpiringAddresses, Handover, Manager};
use crate::observe::{AddressSnapshot, NicSnapshot, Observed};

/// Less than this many seconds is too short for a handover.
const SHORTEST: u32 = 60;

/// The addresses of a device that expire unless they are renewed.
pub(super) fn expiring(device: &NicSnapshot) -> ExpiringAddresses {
    let expiring = device.addresses.iter().filter(|it| it.left.is_some() && !it.temporary && !it.link_local);
    let of_ipv6 = expiring.clone().filter(|it| it.net.addr().is_ipv6());
    ExpiringAddresses {
        v4: expiring.filter(|it| it.net.addr().is_ipv4()).map(|it| it.net).collect(),
        announced: of_ipv6.clone().next().is_some(),
        v6: of_ipv6.filter(|it| !it.by_router).map(|it| it.net).collect(),
    }
}

/// Refuses a takeover after which nothing would renew an address.
pub(super) fn are_kept(
    plan: &mut Plan,
    observed: &Observed,
    device: &NicSnapshot,
    uplink: &UplinkPlan,
    handovers: &[Handover],
) {
    let name = device.link.name.as_str();
    let mine = |address: &&AddressSnapshot| !address.temporary && !address.link_local;
    for (address, left) in
        device.addresses.iter().filter(mine).filter_map(|address| Some((address, address.left?)))
    {
        if left < SHORTEST {
            plan.refuse_unless_forced(
                "lifetime-too-short",
                name,
                format!(
                    "{} expires in {left} s: too soon to check whether it is renewed on {}",
                    address.net, uplink.bridge
                ),
                format!("wait until it has been renewed (at least {SHORTEST} s left), then run this again"),
            );
        }
        let renewed = address.by_router || handovers.iter().any(|handover| renews(handover, address));
        // A detected manager without a handover has a refusal of its own.
        let refused = observed
            .managers
            .iter()
            .any(|found| found.nic == uplink.nic && !handovers.iter().any(|it| it.manager == found.manager));
        if !renewed && !refused {
            plan.refuse_unless_forced(
                "dhcp-not-handed-over",
                name,
                format!(
                    "{} expires in {left} s and nothing was found that renews it: the node would be unreachable then",
                    address.net
                ),
                "find the DHCP client (`ss -ulnp sport = :68`) and end it without release, or make the address static",
            );
        }
    }
}

fn renews(handover: &Handover, address: &AddressSnapshot) -> bool {
    match handover.manager {
        Manager::Networkd => true,
        Manager::Dhclient | Manager::Udhcpc => matches!(address.net, IpNet::V6(_)) == handover.for_ipv6,
        // The kernel processes router advertisements instead of it.
        Manager::NetworkManager => matches!(address.net, IpNet::V6(_)),
        Manager::Ifupdown | Manager::Netplan | Manager::OtherClient => false,
    }
}
