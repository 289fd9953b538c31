//! Bytes from outside: whatever they are, reading ends in a value or an error. What we write reads back equal.

use proptest::collection::vec;
use proptest::prelude::*;

use super::bytes::Reader;
use super::message::{self, HEADER, Header, kind};
use super::stats::{Dumped, read_aggregate, read_flows, read_ports};
use super::*;
use crate::openflow::flow::{Action, Ct, Field, Flow, FlowKey, FlowValue, Learn, LearnSpec, Match, OfPort};
use crate::openflow::mods::{Cookies, FlowMod};

const FIELDS: [Field; 30] = [
    Field::InPort,
    Field::EthDst,
    Field::EthSrc,
    Field::EthType,
    Field::VlanTci,
    Field::IpProto,
    Field::IpFrag,
    Field::Ipv4Src,
    Field::Ipv4Dst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
    Field::UdpSrc,
    Field::UdpDst,
    Field::SctpSrc,
    Field::SctpDst,
    Field::Icmpv4Type,
    Field::Icmpv4Code,
    Field::Icmpv6Type,
    Field::Icmpv6Code,
    Field::ArpOp,
    Field::ArpSpa,
    Field::ArpTpa,
    Field::NdTarget,
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::Metadata,
];

fn field() -> impl Strategy<Value = Field> {
    proptest::sample::select(&FIELDS[..])
}

fn matches() -> impl Strategy<Value = Match> {
    let mask = prop_oneof![Just(u128::MAX), any::<u128>()];
    vec((field(), any::<u128>(), mask), 0..12).prop_map(|fields| {
        fields.into_iter().fold(Match::any(), |matches, (field, value, mask)| {
            // A tag's priority is not to be matched in part.
            let mask = if field == Field::VlanTci { mask & 0x1fff } else { mask };
            matches.masked(field, value, mask)
        })
    })
}

fn learn() -> impl Strategy<Value = Action> {
    let spec = prop_oneof![
        (field(), any::<u128>())
            .prop_map(|(field, value)| LearnSpec::MatchValue(field, value & field.full_mask())),
        (field(), field())
            .prop_filter("one width", |(one, other)| one.bits() == other.bits())
            .prop_map(|(field, source)| LearnSpec::MatchField(field, source)),
        field().prop_map(LearnSpec::OutputField),
    ];
    let numbers = any::<(u8, u16, u64, u16, bool, u32)>();
    (numbers, vec(spec, 0..8)).prop_map(
        |((table, priority, cookie, idle_timeout, delete_learned, limit), specs)| {
            Action::Learn(Learn { table, priority, cookie, idle_timeout, delete_learned, limit, specs })
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let ct = (any::<u16>(), any::<bool>(), proptest::option::of(0..0xff_u8), any::<Option<u32>>());
    prop_oneof![
        (0..0xffff_fffd_u32).prop_map(|port| Action::Output(OfPort(port))),
        Just(Action::Output(OfPort::LOCAL)),
        any::<u8>().prop_map(Action::Resubmit),
        ct.prop_map(|(zone, commit, table, mark)| Action::Ct(Ct { zone, commit, table, mark })),
        learn(),
    ]
}

fn flow() -> impl Strategy<Value = Flow> {
    let numbers = any::<(u8, u16, u64, u16, u16)>();
    let goto = any::<Option<u8>>().prop_map(|table| table.map(Action::GotoTable));
    (numbers, matches(), vec(action(), 0..5), goto).prop_map(
        |((table, priority, cookie, idle_timeout, hard_timeout), matches, mut actions, goto)| {
            actions.extend(goto);
            let key = FlowKey { table, priority, matches };
            Flow { key, value: FlowValue { cookie, idle_timeout, hard_timeout, actions } }
        },
    )
}

/// A flow as an entry of a dump, made from the message that adds it.
fn as_dumped(flow: &Flow) -> Vec<u8> {
    let mut added = Vec::new();
    message::put_flow_mod(&mut added, 1, &FlowMod::Add(flow.clone())).unwrap();
    let (key, value) = (&flow.key, &flow.value);
    let mut entry = vec![0, 0, key.table, 0];
    entry.extend([7_u32.to_be_bytes(), 9_u32.to_be_bytes()].concat());
    for number in [key.priority, value.idle_timeout, value.hard_timeout, 0, 0, 0] {
        entry.extend(number.to_be_bytes());
    }
    for number in [value.cookie, 11, 13] {
        entry.extend(number.to_be_bytes());
    }
    // Match and instructions follow the fixed part of the message.
    entry.extend(&added[HEADER + 40..]);
    let length = u16::try_from(entry.len()).unwrap();
    entry[..2].copy_from_slice(&length.to_be_bytes());
    entry
}

fn reply(about: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![VERSION, kind::MULTIPART_REPLY, 0, 0, 0, 0, 0, 1];
    message.extend(about.to_be_bytes());
    message.extend([0; 6]);
    message.extend(body);
    message
}

fn flows_of(message: &[u8]) -> Result<Vec<Dumped>, Malformed> {
    let mut flows = Vec::new();
    read_flows(message, &mut flows).map(|_| flows)
}

proptest! {
    #[test]
    fn a_written_flow_reads_back_equal(flow in flow()) {
        let read = flows_of(&reply(message::multipart::FLOW, &as_dumped(&flow))).unwrap();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!((read[0].cookie, read[0].packets, read[0].bytes), (flow.value.cookie, 11, 13));
        prop_assert_eq!(read[0].flow.as_ref(), Ok(&flow));
    }

    #[test]
    fn messages_are_framed_and_carry_their_number(flow in flow(), xid: u32, id: u32) {
        let cookies = Cookies { value: 1, mask: 2 };
        let mods = [
            FlowMod::Add(flow.clone()),
            FlowMod::Modify(flow.clone()),
            FlowMod::Delete { key: flow.key.clone(), cookies },
            FlowMod::DeleteAll { cookies, table: Some(3) },
        ];
        let mut out = Vec::new();
        let mut starts = Vec::new();
        for change in &mods {
            starts.push(out.len());
            message::put_flow_mod(&mut out, xid, change).unwrap();
            starts.push(out.len());
            message::put_bundle_add(&mut out, xid, id, change).unwrap();
        }
        let mut rest = &out[..];
        for start in starts {
            prop_assert_eq!(out.len() - rest.len(), start);
            let header = Header::read(rest.first_chunk().unwrap());
            prop_assert_eq!((header.version, header.xid, header.length % 8), (VERSION, xid, 0));
            rest = &rest[usize::from(header.length)..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_truncated_dump_is_an_error_or_fewer_flows(flow in flow(), cut in 0.0..1.0_f64) {
        let whole = reply(message::multipart::FLOW, &as_dumped(&flow));
        let cut = (whole.len() as f64 * cut) as usize;
        // Whole entries only: what is left of one is never taken for a flow.
        if let Ok(flows) = flows_of(&whole[..cut]) {
            prop_assert!(flows.is_empty());
        }
    }

    #[test]
    fn a_corrupted_dump_never_panics(flow in flow(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut message = reply(message::multipart::FLOW, &as_dumped(&flow));
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Ok(flows) = flows_of(&message) {
            // Whatever it became, it can be shown.
            for dumped in flows {
                let _ = dumped.flow.map(|flow| flow.to_string());
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), about in 0..15_u16) {
        let _ = flows_of(&bytes);
        let _ = flows_of(&reply(message::multipart::FLOW, &bytes));
        let _ = read_aggregate(&reply(about, &bytes));
        let _ = read_ports(&reply(message::multipart::PORT_DESC, &bytes), &mut Vec::new());
        let _ = monitor::read_updates(&reply(message::multipart::FLOW_MONITOR, &bytes), |_| {});
        let _ = errors::read_error(&bytes);
        let _ = hello::check(&bytes);
        let _ = oxm::read_match(&mut Reader::new(&bytes));
        let _ = action::read_instructions(&mut Reader::new(&bytes));
    }
}

#[test]
fn what_cannot_be_said_is_refused_and_leaves_no_bytes() {
    let with = |matches, actions| FlowMod::Add(Flow::new(0, 0, matches, 0, actions));
    let tag = |value: u16, mask: u16| Match::any().masked(Field::VlanTci, value, mask);
    let cases = [
        (with(Match::any(), vec![Action::GotoTable(1), Action::GotoTable(2)]), Unencodable::GotoNotLast),
        (with(Match::any(), vec![Action::Resubmit(1); 5000]), Unencodable::TooLong),
        (with(tag(0x2000, 0x2000), vec![]), Unencodable::VlanPriority),
        (with(tag(0x0000, 0xffff), vec![]), Unencodable::VlanPriority),
    ];
    for (change, expected) in cases {
        let mut out = b"before".to_vec();
        assert_eq!(message::put_flow_mod(&mut out, 1, &change), Err(expected));
        assert_eq!(message::put_bundle_add(&mut out, 1, 1, &change), Err(expected));
        assert_eq!(out, b"before");
    }
}

#[test]
fn errors_have_the_names_that_ovs_gives_them() {
    // ovs-ofctl needs no switch for this.
    let name_of = |kind: u16, code: u16, vendor: u32| {
        let mut bytes = vec![VERSION, kind::ERROR, 0, 0, 0, 0, 0, 1];
        bytes.extend([kind.to_be_bytes(), code.to_be_bytes()].concat());
        if vendor != 0 {
            bytes.extend(vendor.to_be_bytes());
        }
        bytes[3] = bytes.len() as u8;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let output = std::process::Command::new("ovs-ofctl").arg("ofp-print").arg(hex).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = errors::read_error(&bytes).unwrap();
        assert!(printed.contains(ours.name().unwrap()), "{ours} is {printed}");
        assert!(ours.to_string().starts_with(ours.name().unwrap()));
    };
    for (kind, code) in errors::known() {
        name_of(kind, code, 0);
    }
    for code in errors::known_of_nicira() {
        name_of(0xffff, code, NICIRA);
    }
    let unknown = errors::SwitchError { kind: 99, code: 1, vendor: 0 };
    assert_eq!(unknown.to_string(), "OpenFlow error type 99 code 1");
}
