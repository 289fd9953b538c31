//! Netlink's framing: messages and attributes, read and written (netlink(7), linux/netlink.h).
//!
//! A length that leads out of its bounds ends the reading: nothing that is read is trusted to be whole.

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The answer to a request, or its refusal.
pub(crate) const NLMSG_ERROR: u16 = 2;
/// The end of a dump.
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
/// The table changed while it was dumped.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
/// In an acknowledgement: attributes follow, the kernel's message among them.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// In an acknowledgement: the body of the request is not repeated.
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// An attribute that holds attributes.
pub(crate) const NLA_F_NESTED: u16 = 0x8000;
/// An attribute's number without its flags.
pub(crate) const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The kernel's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 for "done".
    pub(crate) errno: i32,
    /// The kernel's own message (extended acknowledgement), if there is one.
    pub(crate) message: Option<String>,
}

impl Message<'_> {
    /// The content of an `NLMSG_ERROR`; also the code at the end of a dump.
    pub(crate) fn answer(&self) -> Answer {
        let errno = number(self.body, 0).map_or(0, |code| i32::from_ne_bytes(code.to_ne_bytes()));
        let mut message = None;
        if self.kind == NLMSG_ERROR && self.flags & NLM_F_ACK_TLVS != 0 {
            let request = match number(self.body, 4) {
                // The request's header is always repeated, its body unless capped.
                Some(length) if self.flags & NLM_F_CAPPED == 0 => aligned(length as usize).max(HEADER),
                _ => HEADER,
            };
            let tail = request.checked_add(4).and_then(|at| self.body.get(at..)).unwrap_or_default();
            message = attributes(tail)
                .find(|(kind, _)| kind & NLA_TYPE_MASK == NLMSGERR_ATTR_MSG)
                .map(|(_, value)| text(value));
        }
        Answer { errno: errno.saturating_neg(), message }
    }
}

/// The messages of a datagram.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = number(rest, 0)? as usize;
        let message = Message {
            kind: short(rest, 4)?,
            flags: short(rest, 6)?,
            sequence: number(rest, 8)?,
            body: rest.get(HEADER..length)?,
        };
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a body: number (with its flags) and value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(short(rest, 0)?);
        let kind = short(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Appends a message whose body the closure writes.
pub(crate) fn push_message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // port id: the kernel's
    body(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(start + aligned(bytes.len() - start), 0);
}

/// Writes an attribute. What does not fit one (64 KiB) is cut: nothing the kernel takes is that long.
pub(crate) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX) - 4)];
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len() + aligned(value.len()) - value.len(), 0);
}

/// Writes an attribute that holds what the closure writes.
pub(crate) fn push_nest(bytes: &mut Vec<u8>, kind: u16, inner: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    inner(&mut value);
    push_attribute(bytes, kind | NLA_F_NESTED, &value);
}

/// The attribute with that number, flags aside.
pub(crate) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| kind & NLA_TYPE_MASK == wanted).map(|(_, value)| value)
}

/// A u32 in the machine's order.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A u16 in the machine's order.
pub(crate) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Text up to its NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Text with its NUL.
pub(crate) fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// NLMSG_ALIGN and NLA_ALIGN.
pub(crate) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        push_message(&mut bytes, 24, NLM_F_REQUEST, 7, |body| {
            body.extend([1, 2, 3, 4]);
            push_attribute(body, 3, b"eth0\0");
            push_nest(body, 4, |inner| push_attribute(inner, 1, &[9]));
        });
        push_message(&mut bytes, 25, 0, 8, |_| {});
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!((read.len(), read[0].kind, read[0].sequence, read[1].kind), (2, 24, 7, 25));
        let inside: Vec<_> = attributes(&read[0].body[4..]).collect();
        assert_eq!(inside[0], (3, &b"eth0\0"[..]));
        assert_eq!(inside[1].0, 4 | NLA_F_NESTED);
        assert_eq!(attributes(inside[1].1).collect::<Vec<_>>(), [(1, &[9][..])]);
        assert_eq!(text(inside[0].1), "eth0");
    }

    #[test]
    fn the_kernels_message_is_found_capped_or_not() {
        for capped in [true, false] {
            let mut bytes = Vec::new();
            let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
            push_message(&mut bytes, NLMSG_ERROR, flags, 1, |body| {
                body.extend((-17_i32).to_ne_bytes());
                body.extend(28_u32.to_ne_bytes());
                body.extend([0; 12]);
                if !capped {
                    body.extend([5; 12]);
                }
                push_attribute(body, NLMSGERR_ATTR_MSG, b"No such thing\0");
            });
            let answer = messages(&bytes).next().unwrap().answer();
            assert_eq!(answer, Answer { errno: 17, message: Some("No such thing".into()) });
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = message.answer();
                let _ = attributes(message.body).count();
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
