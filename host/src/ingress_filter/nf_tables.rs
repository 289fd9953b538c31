//! nf_tables' messages for a table with two chains (linux/netfilter/nf_tables.h).

use crate::netlink_format::{self, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFPROTO_NETDEV: u8 = 5;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
/// Offset of a list request behind the message that creates.
const GET: u16 = 1;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const NF_NETDEV_INGRESS: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NF_DROP: u32 = 0;
/// libnftnl's type of a table's comment.
const USERDATA_COMMENT: u8 = 0;
const COUNTER: &str = "counter";
const IMMEDIATE: &str = "immediate";

/// Before every other netfilter hook.
pub(super) const PRIORITY: i32 = -500;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Table { comment: &'a str },
    Chain { name: &'a str, device: &'a str },
    RemoveChain { name: &'a str },
    Flush { chain: &'a str },
    Drop { chain: &'a str },
    RemoveTable,
}

/// The changes of a table as one transaction. The first one has the sequence number `lead` + 1.
pub(super) fn transaction(table: &str, changes: &[Change<'_>], lead: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let edge = |bytes: &mut Vec<u8>, kind, sequence| {
        netlink_format::push_message(bytes, kind, NLM_F_REQUEST, sequence, |body| {
            body.extend([0, 0]);
            body.extend(SUBSYSTEM.to_be_bytes());
        });
    };
    edge(&mut bytes, BATCH_BEGIN, lead);
    let mut sequence = lead;
    for change in changes {
        sequence = sequence.wrapping_add(1);
        let (kind, flags) = match change {
            Change::Table { .. } => (NEWTABLE, NLM_F_CREATE),
            Change::Chain { .. } => (NEWCHAIN, NLM_F_CREATE),
            Change::RemoveChain { .. } => (DELCHAIN, 0),
            Change::Flush { .. } => (DELRULE, 0),
            Change::Drop { .. } => (NEWRULE, NLM_F_CREATE | netlink_format::NLM_F_APPEND),
            Change::RemoveTable => (DELTABLE, 0),
        };
        netlink_format::push_message(
            &mut bytes,
            number(kind),
            NLM_F_REQUEST | NLM_F_ACK | flags,
            sequence,
            |body| {
                body.extend(header());
                // The table's name has the same number in all of them.
                netlink_format::push_attribute(body, TABLE_NAME, &netlink_format::terminated(table));
                push(body, change);
            },
        );
    }
    edge(&mut bytes, BATCH_END, sequence.wrapping_add(1));
    bytes
}

fn push(body: &mut Vec<u8>, change: &Change<'_>) {
    let text = |body: &mut Vec<u8>, kind, text: &str| {
        netlink_format::push_attribute(body, kind, &netlink_format::terminated(text));
    };
    let big = |body: &mut Vec<u8>, kind, number: u32| {
        netlink_format::push_attribute(body, kind, &number.to_be_bytes());
    };
    match change {
        Change::Table { comment } => {
            let comment = netlink_format::terminated(comment);
            let mut userdata = vec![USERDATA_COMMENT, comment.len() as u8];
            userdata.extend(comment);
            netlink_format::push_attribute(body, TABLE_USERDATA, &userdata);
        }
        Change::Chain { name, device } => {
            text(body, CHAIN_NAME, name);
            netlink_format::push_nest(body, CHAIN_HOOK, |hook| {
                big(hook, HOOK_NUMBER, NF_NETDEV_INGRESS);
                netlink_format::push_attribute(hook, HOOK_PRIORITY, &PRIORITY.to_be_bytes());
                text(hook, HOOK_DEVICE, device);
            });
            big(body, CHAIN_POLICY, NF_ACCEPT);
            text(body, CHAIN_TYPE, "filter");
        }
        Change::RemoveChain { name } => text(body, CHAIN_NAME, name),
        Change::Flush { chain } => text(body, RULE_CHAIN, chain),
        Change::Drop { chain } => {
            text(body, RULE_CHAIN, chain);
            netlink_format::push_nest(body, RULE_EXPRESSIONS, |list| {
                netlink_format::push_nest(list, ELEMENT, |counter| {
                    text(counter, EXPRESSION_NAME, COUNTER);
                    netlink_format::push_nest(counter, EXPRESSION_DATA, |_| {});
                });
                netlink_format::push_nest(list, ELEMENT, |immediate| {
                    text(immediate, EXPRESSION_NAME, IMMEDIATE);
                    netlink_format::push_nest(immediate, EXPRESSION_DATA, |data| {
                        big(data, IMMEDIATE_REGISTER, 0);
                        netlink_format::push_nest(data, IMMEDIATE_DATA, |value| {
                            netlink_format::push_nest(value, DATA_VERDICT, |verdict| {
                                big(verdict, VERDICT_CODE, NF_DROP);
                            });
                        });
                    });
                });
            });
        }
        Change::RemoveTable => {}
    }
}

/// The request that lists the tables: message type and body.
pub(super) fn list_tables() -> (u16, Vec<u8>) {
    (number(NEWTABLE + GET), header().to_vec())
}

/// The request that lists all chains of the family.
pub(super) fn list_chains() -> (u16, Vec<u8>) {
    (number(NEWCHAIN + GET), header().to_vec())
}

/// The request that lists the rules of a table.
pub(super) fn list_rules(table: &str) -> (u16, Vec<u8>) {
    let mut body = header().to_vec();
    netlink_format::push_attribute(&mut body, RULE_TABLE, &netlink_format::terminated(table));
    (number(NEWRULE + GET), body)
}

/// A table as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(super) name: String,
    pub(super) comment: Option<String>,
}

/// A chain as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) devices: Vec<String>,
    pub(super) priority: Option<i32>,
}

/// A rule as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(super) table: String,
    pub(super) chain: String,
    /// It drops every frame.
    pub(super) drops: bool,
    /// Frames counted.
    pub(super) packets: u64,
}

pub(crate) fn table(body: &[u8]) -> Option<Table> {
    let attributes = after_header(body)?;
    let comment = netlink_format::find(attributes, TABLE_USERDATA).and_then(comment);
    Some(Table { name: netlink_format::text(netlink_format::find(attributes, TABLE_NAME)?), comment })
}

pub(crate) fn chain(body: &[u8]) -> Option<Chain> {
    let attributes = after_header(body)?;
    let hook = netlink_format::find(attributes, CHAIN_HOOK).unwrap_or_default();
    let mut devices: Vec<String> = netlink_format::find(hook, HOOK_DEVICES)
        .map(|list| netlink_format::attributes(list).map(|(_, name)| netlink_format::text(name)).collect())
        .unwrap_or_default();
    devices.extend(netlink_format::find(hook, HOOK_DEVICE).map(netlink_format::text));
    devices.sort();
    devices.dedup();
    Some(Chain {
        table: netlink_format::text(netlink_format::find(attributes, CHAIN_TABLE)?),
        name: netlink_format::text(netlink_format::find(attributes, CHAIN_NAME)?),
        devices,
        priority: netlink_format::find(hook, HOOK_PRIORITY)
            .and_then(|bytes| Some(i32::from_be_bytes(*bytes.first_chunk()?))),
    })
}

pub(crate) fn rule(body: &[u8]) -> Option<Rule> {
    let attributes = after_header(body)?;
    let list = netlink_format::find(attributes, RULE_EXPRESSIONS).unwrap_or_default();
    let (mut drops, mut packets, mut conditions) = (false, 0, false);
    for (_, expression) in netlink_format::attributes(list) {
        let name =
            netlink_format::find(expression, EXPRESSION_NAME).map(netlink_format::text).unwrap_or_default();
        let data = netlink_format::find(expression, EXPRESSION_DATA).unwrap_or_default();
        match name.as_str() {
            COUNTER => {
                let count = netlink_format::find(data, COUNTER_PACKETS).and_then(|bytes| bytes.first_chunk());
                packets = count.map_or(0, |bytes| u64::from_be_bytes(*bytes));
            }
            IMMEDIATE => {
                let code = netlink_format::find(data, IMMEDIATE_DATA).and_then(|value| {
                    netlink_format::find(netlink_format::find(value, DATA_VERDICT)?, VERDICT_CODE)?
                        .first_chunk()
                });
                drops = code.is_some_and(|code| u32::from_be_bytes(*code) == NF_DROP);
            }
            _ => conditions = true,
        }
    }
    Some(Rule {
        table: netlink_format::text(netlink_format::find(attributes, RULE_TABLE)?),
        chain: netlink_format::text(netlink_format::find(attributes, RULE_CHAIN)?),
        drops: drops && !conditions,
        packets,
    })
}

/// The comment among libnftnl's user data: type, length, value.
fn comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            return Some(netlink_format::text(value));
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

fn number(kind: u16) -> u16 {
    SUBSYSTEM << 8 | kind
}

/// `struct nfgenmsg`.
fn header() -> [u8; 4] {
    [NFPROTO_NETDEV, 0, 0, 0]
}

fn after_header(body: &[u8]) -> Option<&[u8]> {
    body.get(4..).filter(|_| body.first() == Some(&NFPROTO_NETDEV))
}
