//! Frames as bytes, with right lengths and checksums: conntrack turns away those that have wrong ones.

use std::net::IpAddr;

use crate::frame::{ethertype, protocol};
use crate::mac::Mac;

/// The two ends of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub source: IpAddr,
    pub destination: IpAddr,
}

/// What goes into an IP header besides its ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub protocol: u8,
    pub identification: u32,
    /// Offset in bytes, a multiple of 8.
    pub offset: u16,
    pub more: bool,
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers by protocol number, each with what follows its "next header" octet.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

pub(crate) fn ethernet(destination: Mac, source: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &kind.to_be_bytes(), payload].concat()
}

/// Puts a tag before the Ethernet type of a frame.
pub(crate) fn tag(frame: &mut Vec<u8>, kind: u16, tci: u16) {
    let at = frame.len().min(12);
    frame.splice(at..at, [kind.to_be_bytes(), tci.to_be_bytes()].concat());
}

pub(crate) fn ethertype_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 }
}

pub(crate) fn ip(ends: Ends, header: &Header, payload: &[u8]) -> Vec<u8> {
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = 20 + header.options.len();
            let pieces = (header.offset / 8) | (u16::from(header.more) << 13);
            let mut bytes = vec![0x40 | (length / 4) as u8, 0];
            bytes.extend(((length + payload.len()) as u16).to_be_bytes());
            bytes.extend((header.identification as u16).to_be_bytes());
            bytes.extend(pieces.to_be_bytes());
            bytes.extend([64, header.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(&header.options);
            let sum = checksum(&bytes);
            put(&mut bytes, 10, sum);
            bytes.extend(payload);
            bytes
        }
        _ => {
            let mut chain = header.extensions.clone();
            if header.offset != 0 || header.more {
                let pieces = header.offset | u16::from(header.more);
                let body = [&[0][..], &pieces.to_be_bytes(), &header.identification.to_be_bytes()].concat();
                chain.push((protocol::FRAGMENT, body));
            }
            let next = chain.iter().map(|(number, _)| *number).chain([header.protocol]).collect::<Vec<_>>();
            let bodies = chain.iter().zip(next.iter().skip(1));
            let extensions =
                bodies.flat_map(|((_, body), next)| [&[*next][..], body].concat()).collect::<Vec<u8>>();
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend(((extensions.len() + payload.len()) as u16).to_be_bytes());
            bytes.extend([next.first().copied().unwrap_or(header.protocol), 64]);
            bytes.extend(octets(ends.source));
            bytes.extend(octets(ends.destination));
            bytes.extend(extensions);
            bytes.extend(payload);
            bytes
        }
    }
}

pub(crate) fn tcp(ends: Ends, ports: (u16, u16), flags: u16, numbers: (u32, u32), data: &[u8]) -> Vec<u8> {
    let mut bytes = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    bytes.extend(numbers.0.to_be_bytes());
    bytes.extend(numbers.1.to_be_bytes());
    bytes.extend((0x5000 | flags & 0x0fff).to_be_bytes());
    bytes.extend([0x20, 0, 0, 0, 0, 0]);
    bytes.extend(data);
    let sum = pseudo_checksum(ends, protocol::TCP, &bytes);
    put(&mut bytes, 16, sum);
    bytes
}

pub(crate) fn udp(ends: Ends, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len()) as u16;
    let mut bytes = [ports.0, ports.1, length, 0].map(u16::to_be_bytes).concat();
    bytes.extend(data);
    let sum = pseudo_checksum(ends, protocol::UDP, &bytes);
    // A sum of zero is sent as all ones (RFC 768).
    put(&mut bytes, 6, if sum == 0 { u16::MAX } else { sum });
    bytes
}

/// One INIT or data chunk with the CRC32c that kernels ask for (RFC 9260, appendix A).
pub(crate) fn sctp(ports: (u16, u16), opens: bool) -> Vec<u8> {
    let mut bytes = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    bytes.extend(if opens { [0; 4] } else { [0, 0, 0, 1] });
    bytes.extend([0; 4]);
    bytes.extend(if opens { [1, 0, 0, 20] } else { [0, 3, 0, 20] });
    bytes.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&bytes).to_le_bytes();
    bytes.splice(8..12, sum);
    bytes
}

/// ICMP or ICMPv6, by the ends' family. `rest` is the second word of the header.
pub(crate) fn icmp(ends: Ends, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &rest, data].concat();
    let sum = match ends.destination {
        IpAddr::V4(_) => checksum(&bytes),
        IpAddr::V6(_) => pseudo_checksum(ends, protocol::ICMPV6, &bytes),
    };
    put(&mut bytes, 2, sum);
    bytes
}

pub(crate) fn arp(operation: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        bytes.extend(mac.0);
        bytes.extend(address);
    }
    bytes
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let sum = bytes.chunks(2).map(word).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn pseudo_checksum(ends: Ends, number: u8, segment: &[u8]) -> u16 {
    let mut bytes = [octets(ends.source), octets(ends.destination)].concat();
    bytes.extend((segment.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, number]);
    bytes.extend(segment);
    checksum(&bytes)
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, octet| {
        (0..8).fold(sum ^ u32::from(*octet), |sum, _| sum >> 1 ^ 0x82f6_3b78 & (sum & 1).wrapping_neg())
    })
}
