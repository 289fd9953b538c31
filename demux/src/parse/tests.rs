use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::generate::Generator;

/// A frame as a line of `ovs-ofctl parse-pcap`: the fields that the split looks at.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    vlan: bool,
    source: String,
    destination: String,
    network: String,
}

/// The bridge's own reading of frames. It needs the program, no daemon.
fn read_by_open_vswitch(frames: &[Vec<u8>]) -> Vec<Fields> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("frames.pcap");
    let mut writer = pcap_file::pcap::PcapWriter::new(std::fs::File::create(&path).unwrap()).unwrap();
    for frame in frames {
        let packet = pcap_file::pcap::PcapPacket::new(std::time::Duration::ZERO, frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let output = Command::new("ovs-ofctl").arg("parse-pcap").arg(&path).output();
    let output = output.expect("ovs-ofctl is needed: install openvswitch-switch");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(fields_of_line).collect()
}

fn fields_of_line(line: &str) -> Fields {
    let get = |name: &str| {
        let values = line.split(',').filter_map(|field| field.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    };
    let or = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
    let kind = line.split(',').next().unwrap_or_default();
    let has_icmp = kind.starts_with("icmp");
    let number = match kind {
        "tcp" | "tcp6" => "6".to_owned(),
        "udp" | "udp6" => "17".to_owned(),
        "sctp" | "sctp6" => "132".to_owned(),
        "icmp" => "1".to_owned(),
        "icmp6" => "58".to_owned(),
        _ => or("nw_proto", "0"),
    };
    let network = match kind {
        "arp" => {
            format!("arp {} {} {}", or("arp_op", "0"), or("arp_spa", "0.0.0.0"), or("arp_tpa", "0.0.0.0"))
        }
        _ if get("nw_frag").is_some() => {
            let source = get("nw_src").or(get("ipv6_src")).unwrap();
            let destination = get("nw_dst").or(get("ipv6_dst")).unwrap();
            let (first, second) = match number.as_str() {
                // It reads IGMP, too; the split does not.
                "2" => ("0".to_owned(), "0".to_owned()),
                "1" | "58" if has_icmp => (or("icmp_type", "0"), or("icmp_code", "0")),
                _ => (or("tp_src", "0"), or("tp_dst", "0")),
            };
            let flags = match or("tcp_flags", "0") {
                text if text.starts_with(|c: char| c.is_ascii_digit()) => text,
                names => flags_of_names(&names).to_string(),
            };
            let target = or("nd_target", "-");
            let frag = or("nw_frag", "no");
            format!("ip {source} {destination} {number} {frag} {first} {second} {flags} {target}")
        }
        "rarp" => "0x8035".to_owned(),
        "mpls" => "0x8847".to_owned(),
        "mplsm" => "0x8848".to_owned(),
        _ => or("dl_type", "0x0000"),
    };
    Fields {
        vlan: get("dl_vlan").is_some(),
        source: or("dl_src", ""),
        destination: or("dl_dst", ""),
        network,
    }
}

fn flags_of_names(names: &str) -> u16 {
    let known = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
    names.split('|').fold(0, |flags, name| match known.iter().position(|known| *known == name) {
        Some(bit) => flags | 1 << bit,
        None => {
            flags | u16::from_str_radix(name.trim_matches(['[', ']']).trim_start_matches("0x"), 16).unwrap()
        }
    })
}

/// The same line, of our reading.
fn fields_of_frame(bytes: &[u8]) -> Fields {
    let frame = Frame::parse(bytes);
    let network = match frame.network {
        Network::Arp(arp) => format!("arp {} {} {}", arp.operation, arp.sender, arp.target),
        Network::Ip(ip) => {
            let (first, second, flags, target) = match ip.transport {
                TransportHeader::None => (0, 0, 0, "-".to_owned()),
                TransportHeader::Tcp { source, destination, flags } => {
                    (source, destination, flags, "-".to_owned())
                }
                TransportHeader::Ports { source, destination } => (source, destination, 0, "-".to_owned()),
                TransportHeader::Icmp { kind, code, target, .. } => {
                    let target = target.filter(|_| ip.destination.is_ipv6());
                    let target = target.map_or("-".to_owned(), |target| target.to_string());
                    (kind.into(), code.into(), 0, target)
                }
            };
            let fragment = match ip.fragment {
                Fragment::No => "no",
                Fragment::First => "first",
                Fragment::Later => "later",
            };
            let Ip { source, destination, protocol, .. } = ip;
            format!("ip {source} {destination} {protocol} {fragment} {first} {second} {flags} {target}")
        }
        Network::Other => format!("{:#06x}", frame.ethertype),
    };
    Fields {
        vlan: frame.vlan.is_some(),
        source: frame.source.to_string(),
        destination: frame.destination.to_string(),
        network,
    }
}

#[test]
fn frames_read_as_open_vswitch_reads_them() {
    let mut generator = Generator::new(3);
    let mut frames = Vec::new();
    for _ in 0..40 {
        let policy = generator.policy();
        for case in generator.cases(&policy, 100) {
            // It unwraps as many as two tags by default, a bridge one; tagged frames are not looked into here.
            if Frame::parse(&case.bytes).vlan.is_none() {
                frames.push(case.bytes);
            }
            frames.extend(case.pieces);
        }
    }
    // Every length of a frame of each kind.
    for case in generator.cases(&crate::policy::Policy::default(), 30) {
        frames.extend((1..case.bytes.len().min(120)).map(|length| case.bytes[..length].to_vec()));
    }
    frames.retain(|frame| Frame::parse(frame).vlan.is_none());
    let theirs = read_by_open_vswitch(&frames);
    assert_eq!(theirs.len(), frames.len());
    for (frame, theirs) in frames.iter().zip(theirs) {
        assert_eq!(fields_of_frame(frame), theirs, "{}", hex(frame));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn well_formed_frames_read_as_they_were_built() {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64);
    let mut bytes = Vec::new();
    builder.tcp(40000, 80, 1, 1024).syn().write(&mut bytes, &[0; 9]).unwrap();
    let frame = Frame::parse(&bytes);
    let ip = frame.ip().unwrap();
    assert_eq!(frame.source.0, [2; 6]);
    assert_eq!((ip.source, ip.protocol), (Ipv4Addr::new(192, 0, 2, 1).into(), protocol::TCP));
    assert_eq!(ip.transport, TransportHeader::Tcp { source: 40000, destination: 80, flags: 2 });
    assert_eq!(frame.tuple().unwrap().reversed().source_port, 80);
}

#[test]
fn a_tag_is_seen_and_looked_behind() {
    let tagged = PacketBuilder::ethernet2([2; 6], [4; 6]).single_vlan(7.try_into().unwrap());
    let mut bytes = Vec::new();
    let (source, destination) = (Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets());
    tagged.ipv6(source, destination, 64).udp(1, 6081).write(&mut bytes, &[]).unwrap();
    let frame = Frame::parse(&bytes);
    assert_eq!((frame.vlan, frame.ethertype), (Some(7), ethertype::IPV6));
    assert_eq!(frame.ip().unwrap().destination_port(), 6081);
    // A tag with nothing behind it is none.
    assert_eq!(Frame::parse(&bytes[..17]).vlan, None);
}

#[test]
fn an_echo_and_its_answer_are_one_connection() {
    let echo = |reply: bool| {
        let (source, destination) =
            if reply { ([192, 0, 2, 2], [192, 0, 2, 1]) } else { ([192, 0, 2, 1], [192, 0, 2, 2]) };
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64);
        let mut bytes = Vec::new();
        let builder = if reply { builder.icmpv4_echo_reply(9, 1) } else { builder.icmpv4_echo_request(9, 1) };
        builder.write(&mut bytes, &[]).unwrap();
        Frame::parse(&bytes).tuple().unwrap()
    };
    assert_eq!(echo(false).reversed(), echo(true));
}

proptest! {
    #[test]
    fn any_bytes_give_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let frame = Frame::parse(&bytes);
        let _ = (frame.tuple(), frame.datagram());
    }

    #[test]
    fn any_payload_of_known_types_gives_a_frame(
        kind in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x0040]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = [&[0; 12][..], &kind.to_be_bytes(), &bytes].concat();
        let frame = Frame::parse(&frame);
        let _ = (frame.tuple(), frame.datagram());
    }
}
