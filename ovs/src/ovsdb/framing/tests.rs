use super::*;
use proptest::prelude::*;

fn frames(portions: &[&[u8]], limit: usize) -> Result<Vec<String>, FramingError> {
    let mut framer = JsonFramer::new(limit);
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for portion in portions {
        buffer.extend_from_slice(portion);
        while let Some(message) = framer.next(&mut buffer)? {
            found.push(message.get().to_owned());
        }
    }
    framer.end().map(|()| found)
}

const TRICKY: &[&str] = &[
    r#"{"a":"}{][","b":["\"}","\\"],"c":{"d":"\\\""}}"#,
    r#"[]"#,
    r#"{}"#,
    r#"{"\u007b":"\u005c\\","é{":"]\n"}"#,
    r#"[[[{"x":[1,2.5,-3e9,null,true]}]],"\\\\"]"#,
];

#[test]
fn every_split_of_tricky_messages_gives_the_same_messages() {
    let stream = TRICKY.join(" \n").into_bytes();
    for first in 0..=stream.len() {
        let (head, tail) = stream.split_at(first);
        assert_eq!(frames(&[head, tail], 1 << 20).unwrap(), TRICKY, "split at {first}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(frames(&bytes, 1 << 20).unwrap(), TRICKY);
}

#[test]
fn many_messages_in_one_portion_come_out_one_by_one() {
    let stream = TRICKY.concat();
    assert_eq!(frames(&[stream.as_bytes()], 1 << 20).unwrap(), TRICKY);
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_ends() {
    let mut framer = JsonFramer::new(100);
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(b"{\"a\":\"");
    buffer.extend_from_slice(&[b'x'; 200]);
    assert!(matches!(framer.next(&mut buffer), Err(FramingError::TooLarge(100))));
    let exact = format!("[{}]", "1".repeat(98));
    assert_eq!(frames(&[exact.as_bytes()], 100).unwrap(), std::slice::from_ref(&exact));
    assert!(matches!(frames(&[exact.as_bytes()], 99), Err(FramingError::TooLarge(99))));
}

#[test]
fn what_is_no_json_is_refused() {
    assert!(matches!(frames(&[b"SSH-2.0-OpenSSH"], 100), Err(FramingError::NotJson(b'S'))));
    assert!(matches!(frames(&[b"\x16\x03\x01"], 100), Err(FramingError::NotJson(0x16))));
    assert!(matches!(frames(&[b"}"], 100), Err(FramingError::NotJson(b'}'))));
    assert!(matches!(frames(&[b"{\"a\" 1}"], 100), Err(FramingError::Invalid(_))));
    assert!(matches!(frames(&[b"{]"], 100), Err(FramingError::Invalid(_))));
    assert!(matches!(frames(&[b"[\"\xff\"]"], 100), Err(FramingError::NotUtf8)));
}

#[test]
fn an_end_inside_a_message_is_told_from_an_end_between_messages() {
    assert!(matches!(frames(&[b"{\"a\":"], 100), Err(FramingError::Truncated(5))));
    assert_eq!(frames(&[b"{} \n "], 100).unwrap(), ["{}"]);
}

/// Any JSON value with strings full of brackets, quotes and backslashes.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let text = proptest::collection::vec(
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            "\\\"",
            "x",
            "é",
            "\u{1f600}",
            "\n",
            "\0",
        ]),
        0..8,
    )
    .prop_map(|parts| parts.concat());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let inner = leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::vec(inner, 0..3).prop_map(Value::Array)
}

proptest! {
    #[test]
    fn any_messages_in_any_portions_come_out_whole(
        messages in proptest::collection::vec(json(), 0..6),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let expected: Vec<String> = messages.iter().map(ToString::to_string).collect();
        let stream = expected.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let portions: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(frames(&portions, 1 << 20).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(portions in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
        let portions: Vec<&[u8]> = portions.iter().map(Vec::as_slice).collect();
        let _ = frames(&portions, 64);
    }
}
