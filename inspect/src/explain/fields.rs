//! A frame as the flow that `ofproto/trace` takes: fields, never bytes.
//!
//! With packet bytes the trace has side effects (ofproto/trace in ovs-vswitchd(8): learning, committing to conntrack);
//! with fields it has none.

use std::fmt::Write as _;
use std::net::IpAddr;

use demux::decide::Owner;
use demux::frame::{Fragment, Frame, Ip, Network, TransportHeader, ethertype, protocol};

use flows::{MARK_HOST, MARK_PODS};

/// `vlan_tci`: the tag is there.
const TAG_PRESENT: u16 = 0x1000;

/// The flow of a frame that enters through `in_port`, on a connection of `owner`.
pub(super) fn flow_of(frame: &Frame, in_port: &str, owner: Option<Owner>) -> String {
    let mut flow = format!("in_port={in_port},dl_src={},dl_dst={}", frame.source, frame.destination);
    if let Some(tci) = frame.vlan {
        put(&mut flow, "vlan_tci", format_args!("{:#06x}", tci | TAG_PRESENT));
    }
    put(&mut flow, "dl_type", format_args!("{:#06x}", frame.ethertype));
    match &frame.network {
        Network::Ip(ip) => put_ip(&mut flow, ip, frame.ethertype == ethertype::IPV6),
        Network::Arp(arp) => {
            put(&mut flow, "arp_op", arp.operation);
            put(&mut flow, "arp_spa", arp.sender);
            put(&mut flow, "arp_tpa", arp.target);
        }
        Network::Other => {}
    }
    // The mark that conntrack would restore.
    match owner {
        Some(Owner::Pods) => put(&mut flow, "ct_mark", MARK_PODS),
        Some(Owner::Host) => put(&mut flow, "ct_mark", MARK_HOST),
        None => {}
    }
    flow
}

/// The connection state after conntrack, for `--ct-next`.
pub(super) fn state_of(owner: Option<Owner>) -> &'static str {
    if owner.is_some() { "trk,est" } else { "trk,new" }
}

fn put_ip(flow: &mut String, ip: &Ip, v6: bool) {
    let (source, destination) = if v6 { ("ipv6_src", "ipv6_dst") } else { ("nw_src", "nw_dst") };
    put(flow, source, ip.source);
    put(flow, destination, ip.destination);
    put(flow, "nw_proto", ip.protocol);
    // Any usual value: with 0, OVN's routers would drop the frame.
    put(flow, "nw_ttl", 64);
    match ip.fragment {
        Fragment::No => {}
        Fragment::First => put(flow, "nw_frag", "first"),
        Fragment::Later => return put(flow, "nw_frag", "later"),
    }
    // Names of each protocol: here the general tp_src means TCP's.
    match (ip.protocol, ip.transport) {
        (protocol::TCP, TransportHeader::Tcp { source, destination, flags }) => {
            put(flow, "tcp_src", source);
            put(flow, "tcp_dst", destination);
            put(flow, "tcp_flags", format_args!("{flags:#x}"));
        }
        (protocol::UDP, TransportHeader::Ports { source, destination }) => {
            put(flow, "udp_src", source);
            put(flow, "udp_dst", destination);
        }
        (protocol::SCTP, TransportHeader::Ports { source, destination }) => {
            put(flow, "sctp_src", source);
            put(flow, "sctp_dst", destination);
        }
        (protocol::ICMP, TransportHeader::Icmp { kind, code, .. }) if matches!(ip.source, IpAddr::V4(_)) => {
            put(flow, "icmp_type", kind);
            put(flow, "icmp_code", code);
        }
        (protocol::ICMPV6, TransportHeader::Icmp { kind, code, target, .. }) if v6 => {
            put(flow, "icmpv6_type", kind);
            put(flow, "icmpv6_code", code);
            if let Some(target) = target {
                put(flow, "nd_target", target);
            }
        }
        _ => {}
    }
}

fn put(flow: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(flow, ",{name}={value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::packet::{Packet, PacketOptions};
    use demux::decide::Ingress;
    use demux::mac::Mac;

    fn flow(line: &str, options: PacketOptions, owner: Option<Owner>) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let frame = Packet::read(&words, &options).unwrap().frame(Ingress::Uplink, Mac([2, 0, 0, 0, 0, 9]));
        flow_of(&frame, "1", owner)
    }

    #[test]
    fn fields_follow_the_protocol() {
        let options = || PacketOptions::default();
        assert_eq!(
            flow("tcp 192.0.2.1:5 192.0.2.2:80", options(), Some(Owner::Pods)),
            "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:09,dl_type=0x0800,nw_src=192.0.2.1,\
             nw_dst=192.0.2.2,nw_proto=6,nw_ttl=64,tcp_src=5,tcp_dst=80,tcp_flags=0x2,ct_mark=1"
        );
        let solicitation = PacketOptions { kind: Some("135".into()), ..options() };
        let text = flow("icmp6 fe80::1 2001:db8::2", solicitation, None);
        assert!(text.ends_with(",icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::2"), "{text}");
        let later = PacketOptions { fragment: Some("later".into()), vlan: Some(7), ..options() };
        let text = flow("udp 192.0.2.1 192.0.2.2", later, None);
        assert!(
            text.contains(",vlan_tci=0x1007,") && text.ends_with(",nw_proto=17,nw_ttl=64,nw_frag=later"),
            "{text}"
        );
        let text = flow("arp 192.0.2.1 192.0.2.2", options(), None);
        assert!(text.ends_with(",dl_type=0x0806,arp_op=1,arp_spa=192.0.2.1,arp_tpa=192.0.2.2"), "{text}");
    }
}
