//! Flows as text, in the syntax of ovs-ofctl(8): what `ovs-ofctl add-flow` takes, and word for word what
//! `ovs-ofctl --no-stats --no-names dump-flows` prints of the same flow.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::flow::{Action, Ct, Field, Flow, FlowKey, Learn, LearnSpec, Masked, Match, OfPort};
use super::mods::{Cookies, FlowMod};

/// The priority that ovs-ofctl takes and leaves unsaid.
const DEFAULT_PRIORITY: u16 = 0x8000;

const CT_STATES: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
const TCP_FLAGS: &[&str] = &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];

impl Display for OfPort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            OfPort::LOCAL => f.write_str("LOCAL"),
            OfPort::NORMAL => f.write_str("NORMAL"),
            OfPort::IN_PORT => f.write_str("IN_PORT"),
            OfPort(0xffff_fff9) => f.write_str("TABLE"),
            OfPort(0xffff_fffb) => f.write_str("FLOOD"),
            OfPort(0xffff_fffc) => f.write_str("ALL"),
            OfPort(0xffff_fffd) => f.write_str("CONTROLLER"),
            OfPort(number) => write!(f, "{number}"),
        }
    }
}

impl Display for Flow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (key, value) = (&self.key, &self.value);
        write!(f, "cookie={:#x}, ", value.cookie)?;
        if key.table != 0 {
            write!(f, "table={}, ", key.table)?;
        }
        if value.idle_timeout != 0 {
            write!(f, "idle_timeout={}, ", value.idle_timeout)?;
        }
        if value.hard_timeout != 0 {
            write!(f, "hard_timeout={}, ", value.hard_timeout)?;
        }
        let mut comma = Commas::default();
        if key.priority != DEFAULT_PRIORITY {
            comma.item(f, format_args!("priority={}", key.priority))?;
        }
        write_match(f, &mut comma, &key.matches)?;
        f.write_str(if comma.begun { " actions=" } else { "actions=" })?;
        write_actions(f, &value.actions)
    }
}

impl Display for FlowKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut comma = Commas::default();
        comma.item(f, format_args!("table={}", self.table))?;
        comma.item(f, format_args!("priority={}", self.priority))?;
        write_match(f, &mut comma, &self.matches)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_match(f, &mut Commas::default(), self)
    }
}

impl Display for Cookies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.mask {
            u64::MAX => write!(f, "cookie={:#x}/-1", self.value),
            mask => write!(f, "cookie={:#x}/{mask:#x}", self.value),
        }
    }
}

impl Display for FlowMod {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FlowMod::Add(flow) => write!(f, "add {flow}"),
            FlowMod::Modify(flow) => write!(f, "modify_strict {flow}"),
            FlowMod::Delete { key, cookies } => write!(f, "delete_strict {cookies},{key}"),
            FlowMod::DeleteAll { cookies, table: Some(table) } => write!(f, "delete {cookies},table={table}"),
            FlowMod::DeleteAll { cookies, table: None } => write!(f, "delete {cookies}"),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Output(port) if port.0 < 0xffff_ff00 => write!(f, "output:{port}"),
            Action::Output(port) => write!(f, "{port}"),
            Action::Resubmit(table) => write!(f, "resubmit(,{table})"),
            Action::GotoTable(table) => write!(f, "goto_table:{table}"),
            Action::Ct(ct) => write_ct(f, ct),
            Action::Learn(learn) => write_learn(f, learn),
        }
    }
}

fn write_actions(f: &mut Formatter<'_>, actions: &[Action]) -> fmt::Result {
    if actions.is_empty() {
        return f.write_str("drop");
    }
    let mut comma = Commas::default();
    actions.iter().try_for_each(|action| comma.item(f, format_args!("{action}")))
}

fn write_ct(f: &mut Formatter<'_>, ct: &Ct) -> fmt::Result {
    f.write_str("ct(")?;
    let mut comma = Commas::default();
    if ct.commit {
        comma.item(f, format_args!("commit"))?;
    }
    if let Some(table) = ct.table {
        comma.item(f, format_args!("table={table}"))?;
    }
    if ct.zone != 0 {
        comma.item(f, format_args!("zone={}", ct.zone))?;
    }
    if let Some(mark) = ct.mark {
        let mark = CHex(mark.into());
        comma.item(f, format_args!("exec(set_field:{mark}->ct_mark)"))?;
    }
    f.write_str(")")
}

fn write_learn(f: &mut Formatter<'_>, learn: &Learn) -> fmt::Result {
    write!(f, "learn(table={}", learn.table)?;
    if learn.idle_timeout != 0 {
        write!(f, ",idle_timeout={}", learn.idle_timeout)?;
    }
    if learn.priority != DEFAULT_PRIORITY {
        write!(f, ",priority={}", learn.priority)?;
    }
    if learn.delete_learned {
        f.write_str(",delete_learned")?;
    }
    if learn.cookie != 0 {
        write!(f, ",cookie={:#x}", learn.cookie)?;
    }
    if learn.limit != 0 {
        write!(f, ",limit={}", learn.limit)?;
    }
    for spec in &learn.specs {
        match *spec {
            LearnSpec::MatchValue(field, value) => {
                write!(f, ",{}=", learn_name(field))?;
                let whole = Masked { value, mask: field.full_mask() };
                match field {
                    Field::EthType | Field::VlanTci | Field::CtZone => write!(f, "{value:#x}")?,
                    Field::TcpFlags => write_flags(f, TCP_FLAGS, whole, true)?,
                    Field::CtState => write_flags(f, CT_STATES, whole, true)?,
                    _ => write_value(f, field, whole)?,
                }
            }
            LearnSpec::MatchField(field, source) if field == source => write!(f, ",{}[]", nxm_name(field))?,
            LearnSpec::MatchField(field, source) => {
                write!(f, ",{}[]={}[]", nxm_name(field), nxm_name(source))?
            }
            LearnSpec::OutputField(source) => write!(f, ",output:{}[]", nxm_name(source))?,
        }
    }
    f.write_str(")")
}

/// Writes a match in the order of ovs-ofctl, which is not the order of [`Field`].
fn write_match(f: &mut Formatter<'_>, comma: &mut Commas, matches: &Match) -> fmt::Result {
    let (protocol, names_type, names_protocol) = shorthand(matches);
    let before = [Field::CtState, Field::CtZone, Field::CtMark];
    let after = [
        Field::Metadata,
        Field::InPort,
        Field::VlanTci,
        Field::EthSrc,
        Field::EthDst,
        Field::EthType,
        Field::Ipv6Src,
        Field::Ipv6Dst,
        Field::ArpSpa,
        Field::ArpTpa,
        Field::Ipv4Src,
        Field::Ipv4Dst,
        Field::IpProto,
        Field::ArpOp,
        Field::IpFrag,
        Field::Icmpv4Type,
        Field::Icmpv4Code,
        Field::Icmpv6Type,
        Field::Icmpv6Code,
        Field::NdTarget,
        Field::TcpSrc,
        Field::TcpDst,
        Field::UdpSrc,
        Field::UdpDst,
        Field::SctpSrc,
        Field::SctpDst,
        Field::TcpFlags,
    ];
    let field = |f: &mut Formatter<'_>, comma: &mut Commas, field: Field| match matches.get(field) {
        None => Ok(()),
        Some(_) if field == Field::EthType && names_type => Ok(()),
        Some(_) if field == Field::IpProto && names_protocol => Ok(()),
        Some(masked) => {
            comma.next(f)?;
            write_field(f, field, masked)
        }
    };
    before.into_iter().try_for_each(|one| field(f, comma, one))?;
    if let Some(protocol) = protocol {
        comma.item(f, format_args!("{protocol}"))?;
    }
    after.into_iter().try_for_each(|one| field(f, comma, one))
}

/// The word that stands for `dl_type`, or for `dl_type` and `nw_proto`, and which of the two it says.
fn shorthand(matches: &Match) -> (Option<&'static str>, bool, bool) {
    let exact = |field: Field| matches.get(field).filter(|masked| masked.mask == field.full_mask());
    let Some(kind) = exact(Field::EthType) else { return (None, false, false) };
    let protocol = exact(Field::IpProto).map(|masked| masked.value);
    let (word, says_protocol) = match (kind.value, protocol) {
        (0x0800, Some(1)) => ("icmp", true),
        (0x0800, Some(6)) => ("tcp", true),
        (0x0800, Some(17)) => ("udp", true),
        (0x0800, Some(132)) => ("sctp", true),
        (0x0800, _) => ("ip", false),
        (0x86dd, Some(58)) => ("icmp6", true),
        (0x86dd, Some(6)) => ("tcp6", true),
        (0x86dd, Some(17)) => ("udp6", true),
        (0x86dd, Some(132)) => ("sctp6", true),
        (0x86dd, _) => ("ipv6", false),
        (0x0806, _) => ("arp", false),
        (0x8035, _) => ("rarp", false),
        _ => return (None, false, false),
    };
    (Some(word), true, says_protocol)
}

fn write_field(f: &mut Formatter<'_>, field: Field, masked: Masked) -> fmt::Result {
    let exact = masked.mask == field.full_mask();
    match field {
        Field::VlanTci => return write_vlan(f, masked),
        Field::CtState => {
            f.write_str("ct_state=")?;
            return write_flags(f, CT_STATES, masked, masked.mask & 0xff == 0xff);
        }
        Field::TcpFlags => {
            f.write_str("tcp_flags=")?;
            return write_flags(f, TCP_FLAGS, masked, exact);
        }
        _ => write!(f, "{}=", name(field))?,
    }
    write_value(f, field, masked)
}

/// The value of a field as ovs-ofctl writes it, with its mask if it is not exact.
fn write_value(f: &mut Formatter<'_>, field: Field, Masked { value, mask }: Masked) -> fmt::Result {
    let exact = mask == field.full_mask();
    match field {
        Field::InPort => write!(f, "{}", OfPort(value as u32)),
        Field::EthSrc | Field::EthDst => {
            write_mac(f, value)?;
            if exact { Ok(()) } else { f.write_str("/").and_then(|()| write_mac(f, mask)) }
        }
        Field::EthType => write!(f, "0x{value:04x}"),
        Field::IpFrag => f.write_str(match (value, mask) {
            (1, 1) => "yes",
            (0, 1 | 3) => "no",
            (1, 3) => "first",
            (3, 3) => "later",
            (0, 2) => "not_later",
            (2, 2) => "later",
            _ => "<error>",
        }),
        Field::Ipv4Src | Field::Ipv4Dst | Field::ArpSpa | Field::ArpTpa => {
            write!(f, "{}", Ipv4Addr::from(value as u32))?;
            write_prefix(f, 32, mask, |f, mask| write!(f, "{}", Ipv4Addr::from(mask as u32)))
        }
        Field::Ipv6Src | Field::Ipv6Dst | Field::NdTarget => {
            write!(f, "{}", Ipv6Addr::from(value))?;
            write_prefix(f, 128, mask, |f, mask| write!(f, "{}", Ipv6Addr::from(mask)))
        }
        Field::Metadata | Field::CtMark if exact => write!(f, "{}", CHex(value)),
        Field::Metadata | Field::CtMark => write!(f, "{}/{:#x}", CHex(value), mask),
        _ if exact => write!(f, "{value}"),
        _ => write!(f, "{value:#x}/{mask:#x}"),
    }
}

/// A tag: by its numbers where they are matched whole, else as it stands in the frame.
fn write_vlan(f: &mut Formatter<'_>, Masked { value, mask }: Masked) -> fmt::Result {
    let (vid, pcp) = (mask & 0x0fff, mask & 0xe000);
    let whole = matches!(vid, 0 | 0x0fff) && matches!(pcp, 0 | 0xe000) && (vid != 0 || pcp != 0);
    if mask & 0x1000 != 0 && value & 0x1000 != 0 && whole {
        let mut comma = Commas::default();
        if vid != 0 {
            comma.item(f, format_args!("dl_vlan={}", value & 0x0fff))?;
        }
        if pcp != 0 {
            comma.item(f, format_args!("dl_vlan_pcp={}", value >> 13))?;
        }
        return Ok(());
    }
    match mask {
        0xffff => write!(f, "vlan_tci=0x{value:04x}"),
        mask => write!(f, "vlan_tci=0x{value:04x}/0x{mask:04x}"),
    }
}

/// `+set-unset` for the bits under the mask; an exact match by the names of the bits that are set.
fn write_flags(
    f: &mut Formatter<'_>,
    names: &[&str],
    Masked { value, mask }: Masked,
    exact: bool,
) -> fmt::Result {
    if exact && value == 0 {
        return f.write_str("0");
    }
    let mut begun = false;
    for (bit, name) in names.iter().enumerate() {
        let bit = 1 << bit;
        if exact {
            if value & bit != 0 {
                write!(f, "{}{name}", if begun { "|" } else { "" })?;
                begun = true;
            }
        } else if mask & bit != 0 {
            write!(f, "{}{name}", if value & bit != 0 { "+" } else { "-" })?;
        }
    }
    Ok(())
}

fn write_mac(f: &mut Formatter<'_>, mac: u128) -> fmt::Result {
    let [.., a, b, c, d, e, g] = mac.to_be_bytes();
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}

/// A mask as a prefix length if it is one, nothing if it is whole.
fn write_prefix(
    f: &mut Formatter<'_>,
    bits: u32,
    mask: u128,
    as_address: impl Fn(&mut Formatter<'_>, u128) -> fmt::Result,
) -> fmt::Result {
    let ones = (mask << (128 - bits)).leading_ones();
    if ones == bits {
        Ok(())
    } else if mask.count_ones() == ones {
        write!(f, "/{ones}")
    } else {
        f.write_str("/")?;
        as_address(f, mask)
    }
}

fn name(field: Field) -> &'static str {
    match field {
        Field::InPort => "in_port",
        Field::EthDst => "dl_dst",
        Field::EthSrc => "dl_src",
        Field::EthType => "dl_type",
        Field::VlanTci => "vlan_tci",
        Field::IpProto => "nw_proto",
        Field::IpFrag => "nw_frag",
        Field::Ipv4Src => "nw_src",
        Field::Ipv4Dst => "nw_dst",
        Field::Ipv6Src => "ipv6_src",
        Field::Ipv6Dst => "ipv6_dst",
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => "tp_src",
        Field::TcpDst | Field::UdpDst | Field::SctpDst => "tp_dst",
        Field::TcpFlags => "tcp_flags",
        Field::Icmpv4Type | Field::Icmpv6Type => "icmp_type",
        Field::Icmpv4Code | Field::Icmpv6Code => "icmp_code",
        Field::ArpOp => "arp_op",
        Field::ArpSpa => "arp_spa",
        Field::ArpTpa => "arp_tpa",
        Field::NdTarget => "nd_target",
        Field::CtState => "ct_state",
        Field::CtZone => "ct_zone",
        Field::CtMark => "ct_mark",
        Field::Metadata => "metadata",
    }
}

/// The name that `learn()` gives a field with a constant value: ovs-fields(7)'s own, not the short one.
fn learn_name(field: Field) -> &'static str {
    match field {
        // The plain name is that of OpenFlow 1.0's 16 bits.
        Field::InPort => "in_port_oxm",
        Field::EthDst => "eth_dst",
        Field::EthSrc => "eth_src",
        Field::EthType => "eth_type",
        Field::IpFrag => "ip_frag",
        Field::Ipv4Src => "ip_src",
        Field::Ipv4Dst => "ip_dst",
        Field::TcpSrc => "tcp_src",
        Field::TcpDst => "tcp_dst",
        Field::UdpSrc => "udp_src",
        Field::UdpDst => "udp_dst",
        Field::SctpSrc => "sctp_src",
        Field::SctpDst => "sctp_dst",
        Field::Icmpv6Type => "icmpv6_type",
        Field::Icmpv6Code => "icmpv6_code",
        other => name(other),
    }
}

/// The name that `learn()` uses for a field as a place.
fn nxm_name(field: Field) -> &'static str {
    match field {
        Field::InPort => "OXM_OF_IN_PORT",
        Field::EthDst => "NXM_OF_ETH_DST",
        Field::EthSrc => "NXM_OF_ETH_SRC",
        Field::EthType => "NXM_OF_ETH_TYPE",
        Field::VlanTci => "NXM_OF_VLAN_TCI",
        Field::IpProto => "NXM_OF_IP_PROTO",
        Field::IpFrag => "NXM_NX_IP_FRAG",
        Field::Ipv4Src => "NXM_OF_IP_SRC",
        Field::Ipv4Dst => "NXM_OF_IP_DST",
        Field::Ipv6Src => "NXM_NX_IPV6_SRC",
        Field::Ipv6Dst => "NXM_NX_IPV6_DST",
        Field::TcpSrc => "NXM_OF_TCP_SRC",
        Field::TcpDst => "NXM_OF_TCP_DST",
        Field::TcpFlags => "NXM_NX_TCP_FLAGS",
        Field::UdpSrc => "NXM_OF_UDP_SRC",
        Field::UdpDst => "NXM_OF_UDP_DST",
        Field::SctpSrc => "OXM_OF_SCTP_SRC",
        Field::SctpDst => "OXM_OF_SCTP_DST",
        Field::Icmpv4Type => "NXM_OF_ICMP_TYPE",
        Field::Icmpv4Code => "NXM_OF_ICMP_CODE",
        Field::Icmpv6Type => "NXM_NX_ICMPV6_TYPE",
        Field::Icmpv6Code => "NXM_NX_ICMPV6_CODE",
        Field::ArpOp => "NXM_OF_ARP_OP",
        Field::ArpSpa => "NXM_OF_ARP_SPA",
        Field::ArpTpa => "NXM_OF_ARP_TPA",
        Field::NdTarget => "NXM_NX_ND_TARGET",
        Field::CtState => "NXM_NX_CT_STATE",
        Field::CtZone => "NXM_NX_CT_ZONE",
        Field::CtMark => "NXM_NX_CT_MARK",
        Field::Metadata => "OXM_OF_METADATA",
    }
}

/// A number as C's `%#x` has it: zero without a prefix.
struct CHex(u128);

impl Display for CHex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// Puts commas between items, however many there turn out to be.
#[derive(Default)]
struct Commas {
    begun: bool,
}

impl Commas {
    fn next(&mut self, f: &mut Formatter<'_>) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) { f.write_str(",") } else { Ok(()) }
    }

    fn item(&mut self, f: &mut Formatter<'_>, item: fmt::Arguments<'_>) -> fmt::Result {
        self.next(f)?;
        f.write_fmt(item)
    }
}
