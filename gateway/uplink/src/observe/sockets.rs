//! Sockets and multicast groups on a NIC, and offloads of the card.

use std::time::Duration;

use host::ethtool;
use host::sockets;

use super::{Binding, BoundSocket, NicSnapshot};
use crate::command;

/// How long `ip xfrm` may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fills in sockets, groups and offloads; returns what could not be read.
pub(super) fn observe(nic: &mut NicSnapshot) -> Vec<String> {
    let mut unknown = Vec::new();
    let (index, name) = (nic.link.index, nic.link.name.clone());
    let mut or_report = |what: &str, outcome: host::Result<()>| {
        if let Err(error) = outcome {
            unknown.push(format!("the {what} of {name}: {error}"));
        }
    };
    or_report("sockets", sockets::bound_to(index).map(|found| nic.bound.extend(found.iter().map(bound))));
    let packets = sockets::packet_sockets_on(index).map(|found| {
        nic.bound.extend(found.iter().map(|socket| {
            let what = format!("a packet socket (protocol {:#06x})", socket.protocol);
            holder(Binding::Packet, what, socket.process.as_ref())
        }));
    });
    or_report("packet sockets", packets);
    let xdp = sockets::xdp_sockets(index).map(|found| {
        nic.bound.extend(found.iter().map(|socket| {
            let what = format!("an AF_XDP socket on queue {}", socket.queue);
            holder(Binding::Xdp, what, socket.process.as_ref())
        }));
    });
    or_report("AF_XDP sockets", xdp);
    let groups = sockets::memberships(index)
        .map(|found| nic.memberships.extend(found.iter().map(|membership| membership.group)));
    or_report("multicast groups", groups);
    let features = ethtool::features(&nic.link.name).map(|features| {
        nic.offloads.extend(ethtool::aggregating(&features).iter().map(|feature| feature.name.clone()));
        let can_ipsec = features.iter().any(|feature| feature.name == "esp-hw-offload" && feature.on);
        if can_ipsec && has_ipsec(&nic.link.name) {
            nic.device_offloads.push("xfrm".to_owned());
        }
    });
    or_report("offloads", features);
    if let Ok(driver) = ethtool::driver(&nic.link.name) {
        nic.driver = driver.map(|driver| driver.name);
    }
    unknown
}

fn bound(socket: &sockets::Socket) -> BoundSocket {
    let how = if socket.is_link_local() { Binding::LinkLocal } else { Binding::Device };
    let protocol = match socket.protocol {
        sockets::Protocol::Tcp => "tcp",
        sockets::Protocol::Udp => "udp",
        sockets::Protocol::Raw => "raw",
    };
    let to = socket.remote.map(|remote| format!(" to {remote}")).unwrap_or_default();
    holder(how, format!("{protocol} {}{to}", socket.local), socket.process.as_ref())
}

fn holder(how: Binding, what: String, process: Option<&sockets::Holder>) -> BoundSocket {
    BoundSocket { how, what, program: process.map(|it| it.name.clone()), pid: process.map(|it| it.pid) }
}

/// Whether the card has an IPsec state: `crypto offload parameters: dev eth0 dir in`.
fn has_ipsec(device: &str) -> bool {
    let command = ["ip", "-o", "xfrm", "state"].map(str::to_owned);
    command::run(&command, PATIENCE).is_ok_and(|answer| names_offload(&answer.output, device))
}

fn names_offload(text: &str, device: &str) -> bool {
    let words: Vec<_> = text.split_whitespace().collect();
    let mut rest = words.as_slice();
    while let Some(at) = rest.iter().position(|word| *word == "offload") {
        rest = &rest[at + 1..];
        let near = &rest[..rest.len().min(4)];
        if near.windows(2).any(|pair| pair == ["dev", device]) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipsec_state_offloaded_to_the_device_is_found() {
        let text = "src 10.0.0.1 dst 10.0.0.2\\ proto esp spi 0x1 reqid 0 mode transport\\ crypto offload parameters: dev eth0 dir out mode crypto\n";
        assert!(names_offload(text, "eth0"));
        assert!(!names_offload(text, "eth1"));
        assert!(!names_offload("src 10.0.0.1 dst 10.0.0.2 dev eth0", "eth0"));
    }
}
