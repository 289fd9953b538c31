//! Entry points of the fuzz targets (crate `fuzz`): every reader of what a peer sends.

use bytes::BytesMut;

use crate::openflow::wire::{decode, errors, hello, message, monitor, stats};
use crate::ovsdb;
use crate::ovsdb::framing::JsonFramer;
use crate::ovsdb::fuzz::Reader;

/// One OpenFlow message of any kind.
pub fn openflow(input: &[u8]) {
    if let Some(header) = input.first_chunk() {
        let _ = message::Header::read(header);
    }
    let _ = decode::stream(input);
    let _ = hello::check(input);
    let _ = errors::read_error(input);
    let _ = monitor::read_updates(input, |_| {});
    let _ = stats::read_aggregate(input);
    let _ = stats::read_ports(input, &mut Vec::new());
    let mut flows = Vec::new();
    let _ = stats::read_flows(input, &mut flows);
    for flow in flows {
        let _ = flow.to_string();
    }
}

/// A stream of JSON messages: framed in one portion and in two, with one result; then read as what a server may send.
pub fn ovsdb(input: &[u8]) {
    let _ = ovsdb::decode::messages(input, 1 << 20);
    let whole = messages(&[input]);
    let (first, second) = input.split_at(input.len() / 2);
    assert_eq!(whole, messages(&[first, second]), "the portions make a difference");
    let mut reader = Reader::new();
    for message in whole {
        reader.read(&message);
    }
}

fn messages(portions: &[&[u8]]) -> Vec<String> {
    let mut framer = JsonFramer::new(1 << 20);
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for portion in portions {
        buffer.extend_from_slice(portion);
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(message)) => messages.push(message.get().to_owned()),
                Ok(None) => break,
                // A client closes the connection here.
                Err(_) => return messages,
            }
        }
    }
    messages
}
