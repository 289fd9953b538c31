//! A packet as the command line describes it, and the frame that it stands for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::Args;
use clap::builder::PossibleValuesParser;
use demux::decide::Ingress;
use demux::frame::{Arp, Fragment, Frame, Ip, Network, TransportHeader, ethertype, protocol};
use demux::mac::Mac;

use super::error::ExplainError;

/// Details of a described packet.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct PacketOptions {
    /// TCP flags like syn,ack
    #[arg(long, value_name = "FLAGS")]
    pub flags: Option<String>,
    /// ICMP type by number, or echo, echo-reply; ARP operation, request or reply
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// ICMP code
    #[arg(long, value_name = "CODE")]
    pub code: Option<u8>,
    /// Identifier of an ICMP echo
    #[arg(long, value_name = "NUMBER")]
    pub id: Option<u16>,
    /// Target of a neighbour solicitation or advertisement
    #[arg(long, value_name = "ADDRESS")]
    pub nd_target: Option<Ipv6Addr>,
    /// The packet is a fragment of a datagram
    #[arg(long, value_name = "FRAGMENT", value_parser = PossibleValuesParser::new(["first", "later"]))]
    pub fragment: Option<String>,
    /// VLAN tag
    #[arg(long, value_name = "VID", value_parser = clap::value_parser!(u16).range(0..4096))]
    pub vlan: Option<u16>,
    /// Destination MAC (default: the shared one for frames from outside)
    #[arg(long, value_name = "MAC")]
    pub mac: Option<String>,
    /// Source MAC (default: the shared one for frames from host and overlay)
    #[arg(long, value_name = "MAC")]
    pub source_mac: Option<String>,
}

/// A described packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    network: Network,
    vlan: Option<u16>,
    destination: Option<Mac>,
    source: Option<Mac>,
}

/// Stands for the MAC of another machine on the link.
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
const BROADCAST: Mac = Mac([0xff; 6]);
/// `vlan_tci`: a tag is present.
const TAG_PRESENT: u16 = 0x1000;

impl PacketOptions {
    /// Whether no detail is given.
    pub(super) fn is_empty(&self) -> bool {
        let text = [&self.flags, &self.kind, &self.fragment, &self.mac, &self.source_mac];
        text.iter().all(|text| text.is_none())
            && self.code.is_none()
            && self.id.is_none()
            && self.nd_target.is_none()
            && self.vlan.is_none()
    }
}

impl Packet {
    /// Reads protocol, source and destination, and applies the details.
    pub(super) fn read(words: &[String], options: &PacketOptions) -> Result<Packet, ExplainError> {
        let [name, source, destination] = words else {
            return Err(ExplainError::refused(
                format!("a packet has three words, not {}", words.len()),
                "write PROTOCOL SOURCE DESTINATION, like udp 203.0.113.10:53 172.18.0.11:41000",
            ));
        };
        let (source, destination) = (Endpoint::read(source)?, Endpoint::read(destination)?);
        let network = match name.to_ascii_lowercase().as_str() {
            "arp" => Network::Arp(arp(&source, &destination, options)?),
            name => Network::Ip(ip(name, &source, &destination, options)?),
        };
        let mac = |text: &Option<String>| text.as_deref().map(str::parse::<Mac>).transpose();
        Ok(Packet {
            network,
            vlan: options.vlan.map(|vid| vid | TAG_PRESENT),
            destination: mac(&options.mac)?,
            source: mac(&options.source_mac)?,
        })
    }

    /// The frame, on a bridge whose host and gateway router share this MAC.
    pub(super) fn frame(&self, ingress: Ingress, shared: Mac) -> Frame {
        let asks_all = matches!(self.network, Network::Arp(Arp { operation: 1, .. }));
        let (destination, source) = match ingress {
            _ if asks_all && matches!(ingress, Ingress::Uplink | Ingress::Other) => (BROADCAST, NEIGHBOUR),
            Ingress::Uplink | Ingress::Other => (shared, NEIGHBOUR),
            Ingress::Host | Ingress::Overlay if asks_all => (BROADCAST, shared),
            Ingress::Host | Ingress::Overlay => (NEIGHBOUR, shared),
        };
        Frame {
            destination: self.destination.unwrap_or(destination),
            source: self.source.unwrap_or(source),
            vlan: self.vlan,
            ethertype: match &self.network {
                Network::Arp(_) => ethertype::ARP,
                Network::Ip(ip) if ip.destination.is_ipv6() => ethertype::IPV6,
                _ => ethertype::IPV4,
            },
            network: self.network,
        }
    }
}

/// Address and port of one end.
struct Endpoint {
    text: String,
    address: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    fn read(text: &str) -> Result<Endpoint, ExplainError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let (address, port) = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(address), _) => (address, None),
            (_, Ok(end)) => (end.ip(), Some(end.port())),
            _ => {
                return Err(ExplainError::refused(
                    format!("'{text}' is not an address, or an address with a port"),
                    "write 203.0.113.10:80 or [2001:db8::1]:80, without the port for icmp and arp",
                ));
            }
        };
        Ok(Endpoint { text: text.to_owned(), address, port })
    }

    /// The port, which protocols with ports need.
    fn needed_port(&self) -> Result<u16, ExplainError> {
        self.port.ok_or_else(|| {
            ExplainError::refused(
                format!("'{}' has no port", self.text),
                "write 203.0.113.10:80 or [2001:db8::1]:80",
            )
        })
    }

    fn v4(&self) -> Result<std::net::Ipv4Addr, ExplainError> {
        match self.address {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => Err(ExplainError::refused(
                format!("ARP has no IPv6 addresses: {}", self.text),
                "for IPv6 write icmp6 SOURCE DESTINATION --type 135 --nd-target ADDRESS",
            )),
        }
    }
}

fn arp(source: &Endpoint, destination: &Endpoint, options: &PacketOptions) -> Result<Arp, ExplainError> {
    let operation = match options.kind.as_deref() {
        None | Some("request" | "1") => 1,
        Some("reply" | "2") => 2,
        Some(other) => {
            return Err(ExplainError::refused(
                format!("'{other}' is not an ARP operation"),
                "--type request or reply",
            ));
        }
    };
    Ok(Arp { operation, sender: source.v4()?, target: destination.v4()? })
}

fn ip(
    name: &str,
    source: &Endpoint,
    destination: &Endpoint,
    options: &PacketOptions,
) -> Result<Ip, ExplainError> {
    let v6 = destination.address.is_ipv6();
    if source.address.is_ipv6() != v6 {
        return Err(ExplainError::refused(
            format!("{} and {} are of different families", source.text, destination.text),
            "give two IPv4 or two IPv6 addresses",
        ));
    }
    let number = match name {
        "tcp" | "tcp6" => protocol::TCP,
        "udp" | "udp6" => protocol::UDP,
        "sctp" | "sctp6" => protocol::SCTP,
        "icmp" if !v6 => protocol::ICMP,
        "icmp" | "icmp6" | "icmpv6" => protocol::ICMPV6,
        other => other.parse().map_err(|_| {
            ExplainError::refused(
                format!("'{other}' is not a protocol"),
                "write tcp, udp, sctp, icmp, icmp6, arp or an IP protocol number",
            )
        })?,
    };
    let fragment = match options.fragment.as_deref() {
        None => Fragment::No,
        Some("first") => Fragment::First,
        Some(_) => Fragment::Later,
    };
    let later = fragment == Fragment::Later;
    Ok(Ip {
        source: source.address,
        destination: destination.address,
        // As the bridge parses later fragments of IPv6 (lib/flow.c).
        protocol: if later && v6 { protocol::FRAGMENT } else { number },
        fragment,
        identification: 0,
        transport: if later {
            TransportHeader::None
        } else {
            transport(number, source, destination, options)?
        },
    })
}

fn transport(
    number: u8,
    source: &Endpoint,
    destination: &Endpoint,
    options: &PacketOptions,
) -> Result<TransportHeader, ExplainError> {
    let v6 = destination.address.is_ipv6();
    match number {
        protocol::TCP => Ok(TransportHeader::Tcp {
            source: source.needed_port()?,
            destination: destination.needed_port()?,
            flags: tcp_flags(options.flags.as_deref().unwrap_or("syn"))?,
        }),
        protocol::UDP | protocol::SCTP => Ok(TransportHeader::Ports {
            source: source.needed_port()?,
            destination: destination.needed_port()?,
        }),
        protocol::ICMP | protocol::ICMPV6 => {
            if (number == protocol::ICMPV6) != v6 {
                return Err(ExplainError::refused(
                    format!("{} is not of the family of this ICMP", destination.text),
                    "write icmp for IPv4 and icmp6 for IPv6",
                ));
            }
            let (kind, code) = (icmp_type(v6, options.kind.as_deref())?, options.code.unwrap_or(0));
            let target = match (kind, code) {
                (135 | 136, 0) if v6 => Some(neighbour(destination, options)?),
                _ => None,
            };
            Ok(TransportHeader::Icmp { kind, code, identifier: options.id.unwrap_or(0), target })
        }
        _ => Ok(TransportHeader::None),
    }
}

fn icmp_type(v6: bool, text: Option<&str>) -> Result<u8, ExplainError> {
    match (text, v6) {
        (None | Some("echo" | "echo-request"), false) => Ok(8),
        (None | Some("echo" | "echo-request"), true) => Ok(128),
        (Some("echo-reply"), false) => Ok(0),
        (Some("echo-reply"), true) => Ok(129),
        (Some(text), _) => text.parse().map_err(|_| {
            ExplainError::refused(
                format!("'{text}' is not an ICMP type"),
                "--type echo, echo-reply or a number up to 255",
            )
        }),
    }
}

fn neighbour(destination: &Endpoint, options: &PacketOptions) -> Result<Ipv6Addr, ExplainError> {
    match (options.nd_target, destination.address) {
        (Some(target), _) => Ok(target),
        (None, IpAddr::V6(target)) if !target.is_multicast() => Ok(target),
        _ => Err(ExplainError::refused("a neighbour message needs its target", "give --nd-target ADDRESS")),
    }
}

/// TCP flags by bit (RFC 9293, 3.1), lowest first.
pub(super) const TCP_FLAGS: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];

fn tcp_flags(text: &str) -> Result<u16, ExplainError> {
    let bad = || {
        ExplainError::refused(
            format!("'{text}' is not a set of TCP flags"),
            "--flags syn, or several like syn,ack, or none",
        )
    };
    if text == "none" {
        return Ok(0);
    }
    let bit = |name: &str| TCP_FLAGS.iter().position(|flag| name.eq_ignore_ascii_case(flag));
    let bits =
        text.split([',', '|', '+']).filter(|name| !name.is_empty()).map(|name| bit(name).ok_or_else(bad));
    bits.collect::<Result<Vec<_>, _>>().map(|bits| bits.into_iter().fold(0, |flags, bit| flags | 1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Mac = Mac([0x0a, 0, 0, 0, 0, 9]);

    fn read(line: &str, options: PacketOptions) -> Result<Packet, ExplainError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Packet::read(&words, &options)
    }

    fn frame(line: &str, options: PacketOptions) -> Frame {
        read(line, options).unwrap().frame(Ingress::Uplink, SHARED)
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_tuple_becomes_the_frame_it_describes() {
        let options = PacketOptions { flags: text("syn,ack"), vlan: Some(5), ..PacketOptions::default() };
        let frame = frame("tcp 203.0.113.10:40000 172.18.0.11:30080", options);
        assert_eq!((frame.destination, frame.vlan), (SHARED, Some(0x1005)));
        let tuple = frame.tuple().unwrap();
        assert_eq!((tuple.protocol, tuple.source_port, tuple.destination_port), (6, 40000, 30080));
        assert!(matches!(frame.ip().unwrap().transport, TransportHeader::Tcp { flags: 0x12, .. }));
    }

    #[test]
    fn icmp_follows_the_family() {
        let echo =
            frame("icmp 2001:db8::1 [2001:db8::2]", PacketOptions { id: Some(7), ..Default::default() });
        let tuple = echo.tuple().unwrap();
        assert_eq!((tuple.protocol, tuple.source_port), (protocol::ICMPV6, 7));
        let options = PacketOptions { kind: text("3"), code: Some(1), ..Default::default() };
        let error = frame("icmp 192.0.2.1 192.0.2.2", options);
        assert!(matches!(error.ip().unwrap().transport, TransportHeader::Icmp { kind: 3, code: 1, .. }));
    }

    #[test]
    fn neighbours_ask_for_an_address() {
        let request = frame("arp 192.0.2.1 192.0.2.2", PacketOptions::default());
        assert_eq!((request.destination, request.ethertype), (BROADCAST, ethertype::ARP));
        let solicitation = PacketOptions { kind: text("135"), ..Default::default() };
        let frame = frame("icmp6 fe80::1 2001:db8::2", solicitation.clone());
        let target = Some("2001:db8::2".parse().unwrap());
        assert!(
            matches!(frame.ip().unwrap().transport, TransportHeader::Icmp { target: at, .. } if at == target)
        );
        assert!(read("icmp6 fe80::1 ff02::1", solicitation).is_err());
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let later = PacketOptions { fragment: text("later"), ..Default::default() };
        let fragment = frame("udp 2001:db8::1 2001:db8::2", later);
        assert_eq!(fragment.ip().unwrap().protocol, protocol::FRAGMENT);
        assert_eq!((fragment.tuple(), fragment.datagram().is_some()), (None, true));
    }

    #[test]
    fn host_and_overlay_send_with_the_shared_mac() {
        let packet = read("udp 192.0.2.1:1 192.0.2.2:2", PacketOptions::default()).unwrap();
        assert_eq!(packet.frame(Ingress::Overlay, SHARED).source, SHARED);
        let given = PacketOptions { source_mac: text("02:00:00:00:00:07"), ..Default::default() };
        let packet = read("udp 192.0.2.1:1 192.0.2.2:2", given).unwrap();
        assert_eq!(packet.frame(Ingress::Host, SHARED).source, Mac([2, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn each_fault_is_one_line_with_a_remedy() {
        let flags = |flags| PacketOptions { flags: text(flags), ..Default::default() };
        for (line, options, expected) in [
            ("tcp 192.0.2.1:1", flags("syn"), "three words"),
            ("tcp 192.0.2.1 192.0.2.2:2", flags("syn"), "'192.0.2.1' has no port"),
            ("tcp 2001:db8::1:80 [2001:db8::1]:80", flags("syn"), "write 203.0.113.10:80 or [2001"),
            ("tcp 192.0.2.1:1 [2001:db8::1]:80", flags("syn"), "different families"),
            ("tcp 192.0.2.1:1 192.0.2.2:2", flags("sin"), "'sin' is not a set of TCP flags"),
            ("tcp 192.0.2.1:1 192.0.2.2:70000", flags("syn"), "is not an address"),
            ("quic 192.0.2.1:1 192.0.2.2:2", flags("syn"), "'quic' is not a protocol"),
            ("icmp6 192.0.2.1 192.0.2.2", flags("syn"), "write icmp for IPv4"),
            ("arp 2001:db8::1 2001:db8::2", flags("syn"), "--nd-target"),
        ] {
            let error = read(line, options).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{line}: {error}");
        }
    }
}
