//! Whole messages: framing, and every request.

use bytes::{Bytes, BytesMut};

use super::bytes::{put_u16s, set_length};
use super::{Malformed, Unencodable, VERSION, action, oxm};
use crate::openflow::flow::{Flow, FlowKey, Match};
use crate::openflow::mods::{Cookies, FlowMod};

/// Bytes of the header that begins every message.
pub const HEADER: usize = 8;

/// What kind of message it is (`ofp_type`, OpenFlow 1.4).
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod kind {
    pub const HELLO: u8 = 0;
    pub const ERROR: u8 = 1;
    pub const ECHO_REQUEST: u8 = 2;
    pub const ECHO_REPLY: u8 = 3;
    pub const SET_CONFIG: u8 = 9;
    pub const FLOW_MOD: u8 = 14;
    pub const MULTIPART_REQUEST: u8 = 18;
    pub const MULTIPART_REPLY: u8 = 19;
    pub const BARRIER_REQUEST: u8 = 20;
    pub const BARRIER_REPLY: u8 = 21;
    pub const SET_ASYNC: u8 = 28;
    pub const BUNDLE_CONTROL: u8 = 33;
    pub const BUNDLE_ADD_MESSAGE: u8 = 34;
}

/// Kinds of multipart request (`ofp_multipart_type`).
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod multipart {
    pub const FLOW: u16 = 1;
    pub const AGGREGATE: u16 = 2;
    pub const PORT_DESC: u16 = 13;
    pub const FLOW_MONITOR: u16 = 16;
}

/// Kinds of bundle control message (`ofp_bundle_ctrl_type`); a reply is the request plus one.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod bundle {
    pub const OPEN: u16 = 0;
    pub const CLOSE: u16 = 2;
    pub const COMMIT: u16 = 4;
    pub const DISCARD: u16 = 6;
}

/// `OFPFMF_ADD | OFPFMF_REMOVED | OFPFMF_MODIFY`. Without `NO_ABBREV`, changes that this connection makes are
/// reported in brief, which distinguishes them from those of others.
const ADD_REMOVED_MODIFY: u16 = 0b1110;
/// `OFPBF_ATOMIC | OFPBF_ORDERED`.
const BUNDLE_FLAGS: u16 = 0b11;
const ANY: u32 = 0xffff_ffff;
const ALL_TABLES: u8 = 0xff;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Protocol version, 5 for OpenFlow 1.4.
    pub version: u8,
    /// See [`kind`].
    pub kind: u8,
    /// Length of the message, this header included.
    pub length: u16,
    /// Number by which an answer is known.
    pub xid: u32,
}

impl Header {
    /// Reads the first eight bytes of a message.
    pub fn read(bytes: &[u8; HEADER]) -> Header {
        let [version, kind, l0, l1, x0, x1, x2, x3] = *bytes;
        Header {
            version,
            kind,
            length: u16::from_be_bytes([l0, l1]),
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
        }
    }
}

/// Takes one whole message off the front, if it is there.
pub(crate) fn next_message(received: &mut BytesMut) -> Result<Option<(Header, Bytes)>, Malformed> {
    let Some(head) = received.first_chunk::<HEADER>() else { return Ok(None) };
    let header = Header::read(head);
    let length = usize::from(header.length);
    if length < HEADER {
        return Err(Malformed { what: "a message shorter than its header", at: 2 });
    }
    if received.len() < length {
        return Ok(None);
    }
    Ok(Some((header, received.split_to(length).freeze())))
}

/// Appends a hello that offers OpenFlow 1.4 and nothing else.
pub fn put_hello(out: &mut Vec<u8>, xid: u32) {
    // One element: the bitmap of versions, eight bytes long.
    put_short(out, kind::HELLO, xid, &[0, 1, 0, 8, 0, 0, 0, 1 << VERSION]);
}

/// Appends the answer to an echo request.
pub fn put_echo_reply(out: &mut Vec<u8>, xid: u32, payload: &[u8]) {
    put_short(out, kind::ECHO_REPLY, xid, payload);
}

/// Appends an echo request.
pub fn put_echo_request(out: &mut Vec<u8>, xid: u32) {
    put_short(out, kind::ECHO_REQUEST, xid, &[]);
}

/// Appends a barrier request.
pub fn put_barrier(out: &mut Vec<u8>, xid: u32) {
    put_short(out, kind::BARRIER_REQUEST, xid, &[]);
}

/// Appends the request to send no asynchronous messages: no packets, no port or flow status.
pub fn put_quiet(out: &mut Vec<u8>, xid: u32) {
    put_short(out, kind::SET_CONFIG, xid, &[0, 0, 0, 0]);
    // Packet-in, port status, flow removed, role status, table status, request forward; for either role.
    let mut properties = Vec::with_capacity(12 * 8);
    for property in 0..12 {
        put_u16s(&mut properties, &[property, 8, 0, 0]);
    }
    put_short(out, kind::SET_ASYNC, xid, &properties);
}

/// Appends a request for the ports.
pub fn put_port_request(out: &mut Vec<u8>, xid: u32) {
    let start = begin(out, kind::MULTIPART_REQUEST, xid);
    put_u16s(out, &[multipart::PORT_DESC, 0, 0, 0]);
    finish_short(out, start);
}

/// Appends a request for flows, or (with [`multipart::AGGREGATE`]) for their sums.
pub fn put_flow_request(out: &mut Vec<u8>, xid: u32, what: u16, cookies: Cookies) {
    let start = begin(out, kind::MULTIPART_REQUEST, xid);
    put_u16s(out, &[what, 0, 0, 0]);
    out.extend_from_slice(&[ALL_TABLES, 0, 0, 0]);
    out.extend_from_slice(&ANY.to_be_bytes());
    out.extend_from_slice(&ANY.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&cookies.value.to_be_bytes());
    out.extend_from_slice(&cookies.mask.to_be_bytes());
    // An empty match with its padding.
    out.extend_from_slice(&[0, 1, 0, 4, 0, 0, 0, 0]);
    finish_short(out, start);
}

/// Appends the request to report every change of a flow that this connection does not make itself.
pub fn put_monitor_request(out: &mut Vec<u8>, xid: u32) {
    let start = begin(out, kind::MULTIPART_REQUEST, xid);
    put_u16s(out, &[multipart::FLOW_MONITOR, 0, 0, 0]);
    // The monitor's number; any output port, any output group.
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.extend_from_slice(&[0xff; 8]);
    put_u16s(out, &[ADD_REMOVED_MODIFY]);
    // All tables; a new monitor; an empty match.
    out.extend_from_slice(&[ALL_TABLES, 0, 0, 1, 0, 4, 0, 0, 0, 0]);
    finish_short(out, start);
}

/// Appends a bundle control message.
pub fn put_bundle_control(out: &mut Vec<u8>, xid: u32, id: u32, what: u16) {
    let start = begin(out, kind::BUNDLE_CONTROL, xid);
    out.extend_from_slice(&id.to_be_bytes());
    put_u16s(out, &[what, BUNDLE_FLAGS]);
    finish_short(out, start);
}

/// Appends a flow change inside the message that puts it in a bundle; both carry the same xid, as they must.
pub fn put_bundle_add(out: &mut Vec<u8>, xid: u32, id: u32, change: &FlowMod) -> Result<(), Unencodable> {
    let start = begin(out, kind::BUNDLE_ADD_MESSAGE, xid);
    out.extend_from_slice(&id.to_be_bytes());
    put_u16s(out, &[0, BUNDLE_FLAGS]);
    let added = put_flow_mod(out, xid, change);
    finish(out, start, added)
}

/// Appends a flow change. When it cannot be encoded, nothing is appended.
pub fn put_flow_mod(out: &mut Vec<u8>, xid: u32, change: &FlowMod) -> Result<(), Unencodable> {
    let start = begin(out, kind::FLOW_MOD, xid);
    let body = match change {
        FlowMod::Add(flow) => put_flow(out, 0, flow),
        FlowMod::Modify(flow) => put_flow(out, 2, flow),
        FlowMod::Delete { key, cookies } => put_deletion(out, 4, *cookies, key),
        FlowMod::DeleteAll { cookies, table } => {
            let table = table.unwrap_or(ALL_TABLES);
            put_deletion(out, 3, *cookies, &FlowKey { table, priority: 0, matches: Match::any() })
        }
    };
    finish(out, start, body)
}

fn put_flow(out: &mut Vec<u8>, command: u8, flow: &Flow) -> Result<(), Unencodable> {
    let (key, value) = (&flow.key, &flow.value);
    let cookies = Cookies { value: value.cookie, mask: 0 };
    put_flow_mod_head(out, command, cookies, key, [value.idle_timeout, value.hard_timeout]);
    oxm::put_match(out, &key.matches)?;
    action::put_instructions(out, &value.actions)
}

fn put_deletion(out: &mut Vec<u8>, command: u8, cookies: Cookies, key: &FlowKey) -> Result<(), Unencodable> {
    put_flow_mod_head(out, command, cookies, key, [0, 0]);
    oxm::put_match(out, &key.matches)
}

fn put_flow_mod_head(out: &mut Vec<u8>, command: u8, cookies: Cookies, key: &FlowKey, timeouts: [u16; 2]) {
    out.extend_from_slice(&cookies.value.to_be_bytes());
    out.extend_from_slice(&cookies.mask.to_be_bytes());
    out.extend_from_slice(&[key.table, command]);
    put_u16s(out, &timeouts);
    put_u16s(out, &[key.priority]);
    // No buffered packet; any output port, any output group.
    out.extend_from_slice(&[0xff; 12]);
    // No flags, no importance.
    out.extend_from_slice(&[0; 4]);
}

fn begin(out: &mut Vec<u8>, kind: u8, xid: u32) -> usize {
    let start = out.len();
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
    out.extend_from_slice(&xid.to_be_bytes());
    start
}

fn finish(out: &mut Vec<u8>, start: usize, body: Result<(), Unencodable>) -> Result<(), Unencodable> {
    let whole = body
        .and_then(|()| if set_length(out, start + 2, start) { Ok(()) } else { Err(Unencodable::TooLong) });
    if whole.is_err() {
        out.truncate(start);
    }
    whole
}

fn put_short(out: &mut Vec<u8>, kind: u8, xid: u32, body: &[u8]) {
    let start = begin(out, kind, xid);
    out.extend_from_slice(body);
    finish_short(out, start);
}

/// For messages whose size is known to fit; an echo's payload comes from a message that fitted.
fn finish_short(out: &mut [u8], start: usize) {
    let fits = set_length(out, start + 2, start);
    debug_assert!(fits, "a message of fixed size fits 16 bits");
}
