use super::*;

fn reader(bytes: &[u8]) -> MessageReader {
    let mut reader = MessageReader::new(&Remote::unix("/s"), 1000);
    reader.buffer().extend_from_slice(bytes);
    reader
}

#[test]
fn messages_are_classified() {
    let stream = concat!(
        r#"{"id":7,"result":[1],"error":null}{"id":"echo","result":[],"error":null}"#,
        r#"{"id":8,"result":null,"error":"no"}{"id":9}"#,
        r#"{"id":null,"method":"update3","params":["data"]}{"method":"x"}"#,
        r#"{"id":"e","method":"echo","params":["p"]}{"id":1,"method":"steal"}{"i"#,
    );
    let mut reader = reader(stream.as_bytes());
    let mut found = Vec::new();
    while let Some(message) = reader.next().unwrap() {
        found.push(match message {
            Message::Event(Event::Reply { id, outcome: Ok(body) }) => format!("{id} {}", body.text()),
            Message::Event(Event::Reply { id, outcome: Err(error) }) => format!("{id} error {error}"),
            Message::Event(Event::Notification { method, params }) => format!("{method} {}", params.text()),
            Message::Request { reply } => reply,
        });
    }
    let expected = [
        "7 [1]",
        r#"8 error "no""#,
        "9 error neither result nor error",
        r#"update3 ["data"]"#,
        "x ",
        r#"{"id":"e","result":["p"],"error":null}"#,
        r#"{"id":1,"result":null,"error":"unknown method"}"#,
    ];
    assert_eq!(found, expected);
    assert!(matches!(reader.ended(), Error::Framing { .. }), "{}", reader.ended());
}

#[test]
fn malformed_messages_are_refused() {
    for bytes in [r#"[1]"#, r#"{"method":1}"#, r#"{"id":0,"id":1}"#] {
        let error = reader(bytes.as_bytes()).next().unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{bytes}: {error}");
    }
    assert!(matches!(reader(b"").ended(), Error::Closed { .. }));
}
