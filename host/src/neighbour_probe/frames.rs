//! Probes for a neighbour's MAC address, and their answers, as frames: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Mac;

/// An answer as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The address whose MAC address it announces.
    pub target: IpAddr,
    /// The MAC address.
    pub mac: Mac,
    /// The address it is for; the unspecified address when it is for all.
    pub requester: IpAddr,
}

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The request for the MAC address of an address, from a device with that MAC address; `None` when source and target
/// are of different families. From the unspecified address it leaves no entry at the target (RFC 5227, RFC 4862).
#[must_use]
pub(crate) fn question(mac: Mac, source: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => Some(arp_request(mac, source, target)),
        (IpAddr::V6(source), IpAddr::V6(target)) => Some(solicitation(mac, source, target)),
        _ => None,
    }
}

fn arp_request(mac: Mac, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, mac, ARP);
    for word in [1, 0x0800, 0x0604, REQUEST] {
        frame.extend(u16::to_be_bytes(word));
    }
    frame.extend(mac.0);
    frame.extend(source.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    // The group of all that may have the address (RFC 4291, 2.7.1).
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if !source.is_unspecified() {
        message.extend([SOURCE_LINK_LAYER, 1]);
        message.extend(mac.0);
    }
    let sum = checksum(source, group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(Mac([0x33, 0x33, 0xff, a, b, c]), mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// Reads an answer. Checksums are not verified: a frame of the same machine may not have one yet.
#[must_use]
pub(crate) fn answer(frame: &[u8]) -> Option<Reply> {
    let sender = Mac(*frame.get(6..)?.first_chunk()?);
    let body = frame.get(14..)?;
    match u16::from_be_bytes(*frame.get(12..)?.first_chunk()?) {
        ARP => arp_reply(body),
        IPV6 => advertisement(sender, body),
        _ => None,
    }
}

fn arp_reply(body: &[u8]) -> Option<Reply> {
    let expected = [1, 0x0800, 0x0604, REPLY].map(u16::to_be_bytes);
    let body: &[u8; 28] = body.first_chunk()?;
    let address = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]).into();
    let reply = Reply { target: address(14), mac: Mac(*body[8..].first_chunk()?), requester: address(24) };
    (body[..8] == *expected.as_flattened()).then_some(reply)
}

fn advertisement(sender: Mac, body: &[u8]) -> Option<Reply> {
    // Hop limit 255: from this link and not forwarded (RFC 4861, 7.1.2).
    if body.get(6..8)? != [ICMPV6, 255] {
        return None;
    }
    let to = Ipv6Addr::from(*body.get(24..)?.first_chunk::<16>()?);
    let length = usize::from(u16::from_be_bytes(*body.get(4..)?.first_chunk()?));
    let message = body.get(40..)?;
    let message = &message[..message.len().min(length)];
    if message.first() != Some(&ADVERTISEMENT) {
        return None;
    }
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let mut mac = sender;
    let mut options = message.get(24..)?;
    while let [kind, length, ..] = *options {
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if kind == TARGET_LINK_LAYER {
            mac = Mac(*option.get(2..)?.first_chunk()?);
        }
        options = &options[option.len()..];
    }
    let requester = if to == ALL_NODES { Ipv6Addr::UNSPECIFIED } else { to };
    Some(Reply { target: target.into(), mac, requester: requester.into() })
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(90);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    frame
}

/// ICMPv6's checksum (RFC 4443, 2.3): of the message and a part of the header.
fn checksum(source: Ipv6Addr, target: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = [source.octets(), target.octets()].concat();
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    internet_checksum(&bytes)
}

/// The Internet's checksum (RFC 1071).
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_arp_request_is_as_rfc_826_has_it() {
        let frame = question(OURS, address("10.0.0.2"), address("10.0.0.1")).unwrap();
        let expected = [
            [0xff; 6].as_slice(),
            &OURS.0,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &OURS.0,
            &[10, 0, 0, 2],
            &[0; 6],
            &[10, 0, 0, 1],
        ];
        assert_eq!(frame, expected.concat());
        assert_eq!(answer(&frame), None, "a request is no answer");
    }

    #[test]
    fn an_arp_reply_is_read() {
        let mut frame = ethernet(OURS, THEIRS, ARP);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(THEIRS.0);
        frame.extend([10, 0, 0, 1]);
        frame.extend(OURS.0);
        frame.extend([10, 0, 0, 2]);
        frame.extend([0; 18]); // padding
        let reply = Reply { target: address("10.0.0.1"), mac: THEIRS, requester: address("10.0.0.2") };
        assert_eq!(answer(&frame), Some(reply));
        for cut in 0..42 {
            assert_eq!(answer(&frame[..cut]), None);
        }
    }

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target() {
        let frame = question(OURS, address("fd01::2"), address("fd01::12:3456")).unwrap();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[18..20], 32_u16.to_be_bytes());
        let to = Ipv6Addr::from(*frame[38..].first_chunk::<16>().unwrap());
        assert_eq!(to, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        // The sum of a message with its checksum is zero.
        let from = Ipv6Addr::from(*frame[22..].first_chunk::<16>().unwrap());
        assert_eq!(checksum(from, to, &frame[54..]), 0);
        assert_eq!(question(OURS, address("10.0.0.2"), address("fd01::1")), None);
    }

    #[test]
    fn an_advertisement_is_read_with_its_option_or_without() {
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend("fd01::1".parse::<Ipv6Addr>().unwrap().octets());
        let frame = |message: &[u8], limit: u8| {
            let mut frame = ethernet(OURS, THEIRS, IPV6);
            frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, limit]);
            frame.extend("fe80::9".parse::<Ipv6Addr>().unwrap().octets());
            frame.extend("fd01::2".parse::<Ipv6Addr>().unwrap().octets());
            frame.extend(message);
            frame
        };
        let reply = Reply { target: address("fd01::1"), mac: THEIRS, requester: address("fd01::2") };
        assert_eq!(answer(&frame(&message, 255)), Some(reply));
        assert_eq!(answer(&frame(&message, 254)), None, "it came through a router");
        message.extend([TARGET_LINK_LAYER, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(answer(&frame(&message, 255)).unwrap().mac, Mac([2, 0, 0, 0, 0, 7]));
        message.extend([14, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer(&frame(&message, 255)), None, "an option without length");
    }

    proptest! {
        #[test]
        fn any_frame_is_read_without_panic(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0..3) {
            if frame.len() > 60 && kind < 2 {
                frame[12..14].copy_from_slice(&[ARP, IPV6][kind as usize].to_be_bytes());
                frame[20..22].copy_from_slice(&[ICMPV6, 255]);
                frame[54] = ADVERTISEMENT;
            }
            let _ = answer(&frame);
        }
    }
}
