//! Decodes what a switch sends, from bytes alone: an entry point for tests and fuzzing.

use bytes::BytesMut;

use super::Malformed;
use super::message::{Header, kind, multipart, next_message};
use super::stats::{read_aggregate, read_flows, read_ports};
use super::{errors, hello, monitor};

/// Decodes every whole message of a byte stream, as all that it may be; gives how many there are. Never panics; the
/// error is the first message that is malformed.
pub fn stream(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut received = BytesMut::from(bytes);
    let mut count = 0;
    while let Some((header, message)) = next_message(&mut received)? {
        decode(header, &message)?;
        count += 1;
    }
    Ok(count)
}

fn decode(header: Header, message: &[u8]) -> Result<(), Malformed> {
    match header.kind {
        kind::HELLO => {
            // An offer of other versions is no malformed message.
            let _ = hello::check(message);
            Ok(())
        }
        kind::ERROR => errors::read_error(message).map(drop),
        kind::MULTIPART_REPLY => match message.get(8..10).map(|about| [about[0], about[1]]) {
            Some(about) => decode_multipart(u16::from_be_bytes(about), message),
            None => Err(Malformed { what: "message ends too early", at: message.len() }),
        },
        _ => Ok(()),
    }
}

fn decode_multipart(about: u16, message: &[u8]) -> Result<(), Malformed> {
    match about {
        multipart::FLOW => read_flows(message, &mut Vec::new()).map(drop),
        multipart::AGGREGATE => read_aggregate(message).map(drop),
        multipart::PORT_DESC => read_ports(message, &mut Vec::new()).map(drop),
        multipart::FLOW_MONITOR => monitor::read_updates(message, |_| {}),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_messages_are_counted_and_malformed_ones_refused() {
        let barrier = [5, 21, 0, 8, 0, 0, 0, 1];
        let two = [barrier, barrier].concat();
        assert_eq!(stream(&two), Ok(2));
        assert_eq!(stream(&two[..12]), Ok(1));
        assert!(stream(&[5, 21, 0, 7, 0, 0, 0, 1]).is_err());
        assert!(stream(&[5, 19, 0, 9, 0, 0, 0, 1, 0]).is_err());
        assert!(stream(&[5, 19, 0, 18, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            about in 0_u8..18,
            kind in prop_oneof![Just(19_u8), 0..35_u8],
            body in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let length = u16::try_from(16 + body.len()).unwrap();
            let [high, low] = length.to_be_bytes();
            let mut bytes = vec![5, kind, high, low, 0, 0, 0, 1, 0, about, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(&body);
            let _ = stream(&bytes);
            let _ = stream(&body);
        }
    }
}
