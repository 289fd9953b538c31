//! Answers of the switch: flows, sums, ports.

use std::fmt;
use std::time::Duration;

use super::bytes::Reader;
use super::message::{HEADER, multipart};
use super::{Malformed, NotOurs, action, oxm};
use crate::openflow::flow::{Flow, FlowKey, FlowValue, OfPort};

/// One flow as a switch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The flow, or what is known of one that this crate cannot express.
    pub flow: Result<Flow, Opaque>,
    /// Cookie, the mark of the flow's owner.
    pub cookie: u64,
    /// Packets that met it.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How long it has been there.
    pub duration: Duration,
}

/// A flow with matches or actions that this crate does not know: a foreign flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Its identity, if only the actions are unknown.
    pub key: Option<FlowKey>,
    /// The unknown part, for a person.
    pub unknown: String,
}

/// Sums over a set of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Packets that met the flows.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How many flows.
    pub flows: u32,
}

/// A port of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// OpenFlow port number; it can change when the switch restarts.
    pub number: OfPort,
    /// Name, at most 15 bytes.
    pub name: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Administratively down (`OFPPC_PORT_DOWN`).
    pub down: bool,
    /// No link (`OFPPS_LINK_DOWN`).
    pub no_link: bool,
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key} (unknown here: {})", self.unknown),
            None => {
                write!(f, "table={},priority={} (unknown here: {})", self.table, self.priority, self.unknown)
            }
        }
    }
}

impl fmt::Display for Dumped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.flow {
            Ok(flow) => write!(f, "{flow}"),
            Err(opaque) => write!(f, "cookie={:#x}, {opaque}", self.cookie),
        }
    }
}

impl Dumped {
    /// The flow's identity, if its match is known.
    pub fn key(&self) -> Option<&FlowKey> {
        match &self.flow {
            Ok(flow) => Some(&flow.key),
            Err(opaque) => opaque.key.as_ref(),
        }
    }
}

/// A multipart reply: what it is about, whether more follow, and its body.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) more: bool,
    pub(crate) body: Reader<'a>,
}

/// Opens a multipart reply (the whole message, header included) that must be about `what`.
pub(crate) fn read_part(message: &[u8], what: u16) -> Result<Part<'_>, Malformed> {
    let mut body = Reader::new(message);
    body.skip(HEADER)?;
    let about = body.u16()?;
    let more = body.u16()? & 1 != 0;
    body.skip(4)?;
    if about != what {
        return Err(body.malformed("multipart reply is about something else"));
    }
    Ok(Part { more, body })
}

/// Reads the flows of one reply; true when more replies follow.
pub(crate) fn read_flows(message: &[u8], flows: &mut Vec<Dumped>) -> Result<bool, Malformed> {
    let mut part = read_part(message, multipart::FLOW)?;
    while !part.body.is_empty() {
        let length = usize::from(part.body.u16()?);
        let Some(rest) = length.checked_sub(2) else {
            return Err(part.body.malformed("flow entry is shorter than its header"));
        };
        flows.push(read_flow(&mut part.body.part(rest)?)?);
    }
    Ok(part.more)
}

fn read_flow(entry: &mut Reader<'_>) -> Result<Dumped, Malformed> {
    let table = entry.u8()?;
    entry.skip(1)?;
    let (seconds, nanoseconds) = (entry.u32()?, entry.u32()?);
    let priority = entry.u16()?;
    let (idle_timeout, hard_timeout) = (entry.u16()?, entry.u16()?);
    // Flags, importance, padding.
    entry.skip(6)?;
    let cookie = entry.u64()?;
    let (packets, bytes) = (entry.u64()?, entry.u64()?);
    let opaque = |key, unknown| Err(Opaque { table, priority, key, unknown });
    let flow = match oxm::read_match(entry) {
        Err(NotOurs::Malformed(malformed)) => return Err(malformed),
        Err(NotOurs::Unknown(unknown)) => opaque(None, unknown),
        Ok(matches) => {
            let key = FlowKey { table, priority, matches };
            match action::read_instructions(entry) {
                Err(NotOurs::Malformed(malformed)) => return Err(malformed),
                Err(NotOurs::Unknown(unknown)) => opaque(Some(key), unknown),
                Ok(actions) => {
                    Ok(Flow { key, value: FlowValue { cookie, idle_timeout, hard_timeout, actions } })
                }
            }
        }
    };
    let duration = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into());
    Ok(Dumped { flow, cookie, packets, bytes, duration })
}

/// Reads the sums over a set of flows.
pub(crate) fn read_aggregate(message: &[u8]) -> Result<Aggregate, Malformed> {
    let mut body = read_part(message, multipart::AGGREGATE)?.body;
    Ok(Aggregate { packets: body.u64()?, bytes: body.u64()?, flows: body.u32()? })
}

/// Reads the ports of one reply; true when more replies follow.
pub(crate) fn read_ports(message: &[u8], ports: &mut Vec<Port>) -> Result<bool, Malformed> {
    let mut part = read_part(message, multipart::PORT_DESC)?;
    while !part.body.is_empty() {
        let number = OfPort(part.body.u32()?);
        let length = usize::from(part.body.u16()?);
        let Some(rest) = length.checked_sub(6) else {
            return Err(part.body.malformed("port entry is shorter than its header"));
        };
        let mut entry = part.body.part(rest)?;
        entry.skip(2)?;
        let mac = entry.mac()?;
        entry.skip(2)?;
        let name = entry.take(16)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let (config, state) = (entry.u32()?, entry.u32()?);
        ports.push(Port {
            number,
            name: String::from_utf8_lossy(name).into_owned(),
            mac,
            down: config & 1 != 0,
            no_link: state & 1 != 0,
        });
    }
    Ok(part.more)
}
