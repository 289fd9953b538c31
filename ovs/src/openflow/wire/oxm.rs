//! Matches as OXM and NXM type-length-value entries (OpenFlow 1.4 section 7.2.3, ovs-fields(7)).

use super::bytes::{Reader, pad8, put_number, set_length};
use super::{NotOurs, Unencodable};
use crate::openflow::flow::{Field, Masked, Match};

const NXM_0: u16 = 0x0000;
const NXM_1: u16 = 0x0001;
const OPENFLOW_BASIC: u16 = 0x8000;
const EXPERIMENTER: u16 = 0xffff;
/// The Open Networking Foundation's experimenter number, under which `tcp_flags` stands in OpenFlow 1.3 and 1.4.
const ONF: u32 = 0x4f4e_4600;
const ONF_TCP_FLAGS: u8 = 42;
const OXM_VLAN_VID: u8 = 6;
const OXM_VLAN_PCP: u8 = 7;
const NXM_IN_PORT: u8 = 0;
const VLAN_VID_BITS: u128 = 0x1fff;
const VLAN_PCP_BITS: u128 = 0xe000;

/// Class, number and bytes of a field, as it is sent. OXM where OpenFlow 1.4 has it, NXM where only Open vSwitch does.
fn code(field: Field) -> (u16, u8, usize) {
    match field {
        Field::InPort => (OPENFLOW_BASIC, 0, 4),
        Field::Metadata => (OPENFLOW_BASIC, 2, 8),
        Field::EthDst => (OPENFLOW_BASIC, 3, 6),
        Field::EthSrc => (OPENFLOW_BASIC, 4, 6),
        Field::EthType => (OPENFLOW_BASIC, 5, 2),
        Field::VlanTci => (NXM_0, 4, 2),
        Field::IpProto => (OPENFLOW_BASIC, 10, 1),
        Field::IpFrag => (NXM_1, 26, 1),
        Field::Ipv4Src => (OPENFLOW_BASIC, 11, 4),
        Field::Ipv4Dst => (OPENFLOW_BASIC, 12, 4),
        Field::TcpSrc => (OPENFLOW_BASIC, 13, 2),
        Field::TcpDst => (OPENFLOW_BASIC, 14, 2),
        Field::TcpFlags => (NXM_1, 34, 2),
        Field::UdpSrc => (OPENFLOW_BASIC, 15, 2),
        Field::UdpDst => (OPENFLOW_BASIC, 16, 2),
        Field::SctpSrc => (OPENFLOW_BASIC, 17, 2),
        Field::SctpDst => (OPENFLOW_BASIC, 18, 2),
        Field::Icmpv4Type => (OPENFLOW_BASIC, 19, 1),
        Field::Icmpv4Code => (OPENFLOW_BASIC, 20, 1),
        Field::ArpOp => (OPENFLOW_BASIC, 21, 2),
        Field::ArpSpa => (OPENFLOW_BASIC, 22, 4),
        Field::ArpTpa => (OPENFLOW_BASIC, 23, 4),
        Field::Ipv6Src => (OPENFLOW_BASIC, 26, 16),
        Field::Ipv6Dst => (OPENFLOW_BASIC, 27, 16),
        Field::Icmpv6Type => (OPENFLOW_BASIC, 29, 1),
        Field::Icmpv6Code => (OPENFLOW_BASIC, 30, 1),
        Field::NdTarget => (OPENFLOW_BASIC, 31, 16),
        Field::CtState => (NXM_1, 105, 4),
        Field::CtZone => (NXM_1, 106, 2),
        Field::CtMark => (NXM_1, 107, 4),
    }
}

/// The field of a header, under any of its codes. The second member is its size in bytes under that code.
fn field_of(class: u16, number: u8) -> Option<(Field, usize)> {
    let field = match (class, number) {
        (NXM_0, 1) => Field::EthDst,
        (NXM_0, 2) => Field::EthSrc,
        (NXM_0, 3) => Field::EthType,
        (NXM_0, 4) => Field::VlanTci,
        (NXM_0, 6) => Field::IpProto,
        (NXM_0, 7) => Field::Ipv4Src,
        (NXM_0, 8) => Field::Ipv4Dst,
        (NXM_0, 9) => Field::TcpSrc,
        (NXM_0, 10) => Field::TcpDst,
        (NXM_0, 11) => Field::UdpSrc,
        (NXM_0, 12) => Field::UdpDst,
        (NXM_0, 13) => Field::Icmpv4Type,
        (NXM_0, 14) => Field::Icmpv4Code,
        (NXM_0, 15) => Field::ArpOp,
        (NXM_0, 16) => Field::ArpSpa,
        (NXM_0, 17) => Field::ArpTpa,
        (NXM_1, 19) => Field::Ipv6Src,
        (NXM_1, 20) => Field::Ipv6Dst,
        (NXM_1, 21) => Field::Icmpv6Type,
        (NXM_1, 22) => Field::Icmpv6Code,
        (NXM_1, 23) => Field::NdTarget,
        (NXM_1, 26) => Field::IpFrag,
        (NXM_1, 34) => Field::TcpFlags,
        (NXM_1, 105) => Field::CtState,
        (NXM_1, 106) => Field::CtZone,
        (NXM_1, 107) => Field::CtMark,
        (OPENFLOW_BASIC, 0) => Field::InPort,
        (OPENFLOW_BASIC, 2) => Field::Metadata,
        (OPENFLOW_BASIC, 3) => Field::EthDst,
        (OPENFLOW_BASIC, 4) => Field::EthSrc,
        (OPENFLOW_BASIC, 5) => Field::EthType,
        (OPENFLOW_BASIC, 10) => Field::IpProto,
        (OPENFLOW_BASIC, 11) => Field::Ipv4Src,
        (OPENFLOW_BASIC, 12) => Field::Ipv4Dst,
        (OPENFLOW_BASIC, 13) => Field::TcpSrc,
        (OPENFLOW_BASIC, 14) => Field::TcpDst,
        (OPENFLOW_BASIC, 15) => Field::UdpSrc,
        (OPENFLOW_BASIC, 16) => Field::UdpDst,
        (OPENFLOW_BASIC, 17) => Field::SctpSrc,
        (OPENFLOW_BASIC, 18) => Field::SctpDst,
        (OPENFLOW_BASIC, 19) => Field::Icmpv4Type,
        (OPENFLOW_BASIC, 20) => Field::Icmpv4Code,
        (OPENFLOW_BASIC, 21) => Field::ArpOp,
        (OPENFLOW_BASIC, 22) => Field::ArpSpa,
        (OPENFLOW_BASIC, 23) => Field::ArpTpa,
        (OPENFLOW_BASIC, 26) => Field::Ipv6Src,
        (OPENFLOW_BASIC, 27) => Field::Ipv6Dst,
        (OPENFLOW_BASIC, 29) => Field::Icmpv6Type,
        (OPENFLOW_BASIC, 30) => Field::Icmpv6Code,
        (OPENFLOW_BASIC, 31) => Field::NdTarget,
        (OPENFLOW_BASIC, 42) => Field::TcpFlags,
        _ => return None,
    };
    Some((field, code(field).2))
}

/// Appends the 32-bit header of a field.
pub(crate) fn put_header(out: &mut Vec<u8>, field: Field, masked: bool) {
    let (class, number, bytes) = code(field);
    let payload = if masked { 2 * bytes } else { bytes };
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&[number << 1 | u8::from(masked), payload as u8]);
}

/// Appends one exact field: header and value.
pub(crate) fn put_exact(out: &mut Vec<u8>, field: Field, value: u128) {
    put_header(out, field, false);
    put_number(out, value, code(field).2);
}

/// Appends an `ofp_match`, padded. [`Field`]'s order puts every prerequisite before what needs it, as the switch requires.
pub(crate) fn put_match(out: &mut Vec<u8>, matches: &Match) -> Result<(), Unencodable> {
    let start = out.len();
    out.extend_from_slice(&[0, 1, 0, 0]);
    for (field, masked) in matches.iter() {
        if field == Field::VlanTci && !can_be_reported(masked) {
            return Err(Unencodable::VlanPriority);
        }
        if masked.mask == field.full_mask() {
            put_exact(out, field, masked.value);
        } else {
            let bytes = code(field).2;
            put_header(out, field, true);
            put_number(out, masked.value, bytes);
            put_number(out, masked.mask, bytes);
        }
    }
    if !set_length(out, start + 2, start) {
        return Err(Unencodable::TooLong);
    }
    pad8(out, start);
    Ok(())
}

/// Reads an `ofp_match` with its padding.
pub(crate) fn read_match(reader: &mut Reader<'_>) -> Result<Match, NotOurs> {
    if reader.u16()? != 1 {
        return Err(reader.malformed("match is not of the OXM type").into());
    }
    let length = usize::from(reader.u16()?);
    let Some(payload) = length.checked_sub(4) else {
        return Err(reader.malformed("match is shorter than its header").into());
    };
    let mut entries = reader.part(payload)?;
    // Take the padding before an unknown entry can end the reading: the caller goes on behind the match.
    reader.skip(length.next_multiple_of(8) - length)?;
    let mut matches = Match::any();
    while !entries.is_empty() {
        matches = read_entry(&mut entries, matches)?;
    }
    Ok(matches)
}

fn read_entry(entries: &mut Reader<'_>, matches: Match) -> Result<Match, NotOurs> {
    let (class, number, masked, length) = read_raw_header(entries)?;
    let mut payload = entries.part(length)?;
    let (field, bytes) = match (class, number) {
        (EXPERIMENTER, number) => match (payload.u32()?, number) {
            (ONF, ONF_TCP_FLAGS) => (Field::TcpFlags, 2),
            (vendor, number) => {
                return Err(NotOurs::Unknown(format!("match field {number} of experimenter {vendor:#x}")));
            }
        },
        (OPENFLOW_BASIC, OXM_VLAN_VID) => (Field::VlanTci, 2),
        (OPENFLOW_BASIC, OXM_VLAN_PCP) => (Field::VlanTci, 1),
        (NXM_0, NXM_IN_PORT) => (Field::InPort, 2),
        _ => field_of(class, number)
            .ok_or_else(|| NotOurs::Unknown(format!("match field {number} of class {class:#x}")))?,
    };
    if payload.remaining() != if masked { 2 * bytes } else { bytes } {
        return Err(payload.malformed("match field has a wrong length").into());
    }
    let value = payload.number(bytes)?;
    let mask = if masked { payload.number(bytes)? } else { u128::MAX };
    Ok(match (class, number) {
        // OpenFlow reports a tag in two fields; together they are the tag control information.
        (OPENFLOW_BASIC, OXM_VLAN_VID) => with_bits(matches, Field::VlanTci, value, mask & VLAN_VID_BITS),
        (OPENFLOW_BASIC, OXM_VLAN_PCP) => with_bits(matches, Field::VlanTci, value << 13, VLAN_PCP_BITS),
        (NXM_0, NXM_IN_PORT) => matches.with(Field::InPort, port_from_16_bits(value)),
        _ => matches.masked(field, value, mask),
    })
}

/// The field that a learn specification names, which must be a whole one under the code that carries all its bits.
pub(crate) fn read_whole_field(reader: &mut Reader<'_>, bits: u32) -> Result<Field, NotOurs> {
    let (class, number, masked, _) = read_raw_header(reader)?;
    if class == EXPERIMENTER {
        reader.skip(4)?;
    }
    let offset = reader.u16()?;
    match field_of(class, number) {
        Some((field, _)) if !masked && offset == 0 && field.bits() == bits => Ok(field),
        _ => Err(NotOurs::Unknown(format!(
            "learn of {bits} bits from bit {offset} of field {number}, class {class:#x}"
        ))),
    }
}

/// Reads an exact field with its value, as `set_field` carries it.
pub(crate) fn read_exact(reader: &mut Reader<'_>) -> Result<(Field, u128), NotOurs> {
    let (class, number, masked, length) = read_raw_header(reader)?;
    let mut payload = reader.part(length)?;
    match field_of(class, number) {
        Some((field, bytes)) if !masked && bytes == length => Ok((field, payload.number(bytes)?)),
        _ => Err(NotOurs::Unknown(format!("set_field of field {number}, class {class:#x}"))),
    }
}

fn read_raw_header(reader: &mut Reader<'_>) -> Result<(u16, u8, bool, usize), NotOurs> {
    let class = reader.u16()?;
    let number = reader.u8()?;
    let length = usize::from(reader.u8()?);
    Ok((class, number >> 1, number & 1 == 1, length))
}

/// Whether a match of tags comes back from the switch as it was sent. A dump has it in two fields, of which the one
/// for the priority has no mask, and is left out where no tag is matched.
fn can_be_reported(tag: Masked) -> bool {
    match tag.mask & VLAN_PCP_BITS {
        0 => true,
        VLAN_PCP_BITS => tag.value & VLAN_VID_BITS != 0,
        _ => false,
    }
}

fn with_bits(matches: Match, field: Field, value: u128, mask: u128) -> Match {
    let (old_value, old_mask) = matches.get(field).map_or((0, 0), |old| (old.value, old.mask));
    matches.masked(field, old_value | value & mask, old_mask | mask)
}

/// OpenFlow 1.0's port numbers: the reserved ones lie at the end of 16 bits.
fn port_from_16_bits(port: u128) -> u128 {
    if port >= 0xff00 { port | 0xffff_0000 } else { port }
}
