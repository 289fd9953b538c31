//! Against a real ovsdb-server, and against one that misbehaves.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::super::testing::{Server, VSWITCH_SCHEMA, until};
use super::super::{Atom, Condition};
use super::*;
use crate::ovsdb::framing::JsonFramer;
use bytes::BytesMut;

/// Bound for what must happen.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bound for what must not.
const BRIEF: Duration = Duration::from_millis(60);

fn later() -> Instant {
    Instant::now() + TIMEOUT
}

fn brief() -> Instant {
    Instant::now() + BRIEF
}

fn real() -> (Server, Client) {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init"]);
    let client = Client::connect(&server.remote(), TIMEOUT).unwrap();
    (server, client)
}

fn names(client: &mut Client) -> Vec<String> {
    let rows = client.select("Bridge", &["name"], later()).unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// A bridge row that stays: referenced by the root.
fn add_bridge(name: &str) -> [Operation; 2] {
    [
        Operation::insert("Bridge").named("b").set("name", name),
        Operation::mutate("Open_vSwitch").put("bridges", Atom::named("b")),
    ]
}

#[test]
fn writes_reads_and_is_refused() {
    let (_server, mut client) = real();
    let results = client.transact(&add_bridge("br0"), later()).unwrap();
    assert!(results[0].inserted().is_some());
    assert_eq!(results[1].count(), Some(1));
    assert_eq!(names(&mut client), ["br0"]);

    let guard = [
        Operation::wait_absent("Bridge").filter(Condition::equal("name", "br0")),
        Operation::insert("Bridge").set("name", "br1"),
    ];
    let error = client.transact(&guard, later()).unwrap_err();
    assert!(error.is_wait_failed(), "{error}");
    let error = client.transact(&[Operation::insert("Brigde")], later()).unwrap_err();
    assert!(matches!(error, Error::Transaction { operation: Some(0), .. }), "{error}");
    assert_eq!(names(&mut client), ["br0"], "after errors it is used on");
}

#[test]
fn another_database_is_refused_by_name() {
    let (server, _) = real();
    let mut client = Client::connect_to(&server.remote(), "Nowhere", TIMEOUT).unwrap();
    let error = client.transact(&[Operation::comment("x")], later()).unwrap_err().to_string();
    assert!(error.contains("unknown database"), "{error}");
}

#[test]
fn waits_for_what_another_client_writes() {
    let (server, mut client) = real();
    let mut other = Client::connect(&server.remote(), TIMEOUT).unwrap();
    let writer = std::thread::spawn(move || {
        for name in ["br0", "br1", "br2"] {
            std::thread::sleep(Duration::from_millis(10));
            other.transact(&add_bridge(name), later()).unwrap();
        }
    });
    let mut seen = 0;
    let found = client.wait("Bridge", &["_uuid", "name"], later(), |rows| {
        seen += 1;
        rows.iter().find(|row| row["name"].as_str() == Some("br2"))?["_uuid"].as_uuid()
    });
    assert!(found.unwrap().is_some());
    assert!(seen >= 2, "it looked {seen} times");
    writer.join().unwrap();
    // What is there already is found without a change.
    assert_eq!(client.wait("Bridge", &["name"], later(), |rows| Some(rows.len())).unwrap(), Some(3));
}

#[test]
fn what_does_not_happen_is_no_error() {
    let (_server, mut client) = real();
    assert_eq!(client.wait("Bridge", &["name"], brief(), |_| None::<()>).unwrap(), None);
    assert_eq!(names(&mut client), [""; 0]);
}

#[test]
fn a_restart_between_requests_is_not_noticed() {
    let (mut server, mut client) = real();
    client.transact(&add_bridge("br0"), later()).unwrap();
    server.kill();
    server.start();
    assert_eq!(names(&mut client), ["br0"]);
    server.kill();
    let error = client.transact(&[Operation::comment("x")], brief()).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[test]
fn a_stopped_server_is_given_up_in_time_and_used_on_when_it_goes_on() {
    let (server, mut client) = real();
    server.signal(Signal::SIGSTOP);
    let error = client.transact(&add_bridge("br0"), brief()).unwrap_err();
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
    assert!(error.to_string().contains("may yet be done"), "{error}");
    let error = client.wait("Bridge", &["name"], brief(), |_| Some(())).unwrap_err();
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
    server.signal(Signal::SIGCONT);
    assert_eq!(names(&mut client), ["br0"], "the late answers are skipped");
}

#[test]
fn a_stopped_server_with_a_full_queue_is_given_up_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Client::connect(&Remote::unix(&path), BRIEF) {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100_000, "the queue never fills");
    };
    assert!(matches!(&error, Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::TimedOut));
}

#[test]
fn over_tcp_as_well() {
    let (server, _) = real();
    server.appctl(&["ovsdb-server/add-remote", "ptcp:0:127.0.0.1"]);
    let mut port = None;
    until("the log names the port", || {
        let log = std::fs::read_to_string(server.path("log")).unwrap();
        port =
            log.lines().find_map(|line| line.split("listening on port ").nth(1)?.trim().parse::<u16>().ok());
        port.is_some()
    });
    let port = port.unwrap();
    let remote = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let mut client = Client::connect(&remote, TIMEOUT).unwrap();
    client.transact(&add_bridge("br0"), later()).unwrap();
    assert_eq!(names(&mut client), ["br0"]);
}

#[test]
fn a_missing_server_is_named_and_tls_is_refused() {
    let error = Client::connect(&Remote::unix("/nonexistent/db.sock"), BRIEF).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/db.sock") && error.contains("is ovsdb-server running"), "{error}");
    let error = Client::connect(&"ssl:127.0.0.1:1".parse().unwrap(), BRIEF).unwrap_err();
    assert!(matches!(error, Error::BadRemote { .. }), "{error}");
}

/// A server of one connection after the other that follows a script.
struct Fake {
    _dir: TempDir,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Each connection is served by `serve`, `times` times.
    fn new(times: usize, serve: impl Fn(usize, UnixStream) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            for time in 0..times {
                serve(time, listener.accept().unwrap().0);
            }
        });
        Self { _dir: dir, path, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        Client::connect(&Remote::unix(&self.path), TIMEOUT).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

/// Reads one request and gives its number; `None` when the client has gone.
fn request(stream: &mut UnixStream) -> Option<u64> {
    let mut buffer = BytesMut::new();
    let mut framer = JsonFramer::default();
    loop {
        if let Some(message) = framer.next(&mut buffer).unwrap() {
            let value: serde_json::Value = serde_json::from_str(message.get()).unwrap();
            return value["id"].as_u64();
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(length) => buffer.extend_from_slice(&bytes[..length]),
        }
    }
}

fn ask(fake: &Fake, deadline: Instant) -> Result<Vec<OpResult>, Error> {
    fake.client().transact(&[Operation::comment("x")], deadline)
}

#[test]
fn an_answer_cut_short_leaves_the_outcome_unknown() {
    for portion in [r#"{"id":0,"resu"#, ""] {
        let fake = Fake::new(1, move |_, mut stream| {
            request(&mut stream);
            stream.write_all(portion.as_bytes()).unwrap();
        });
        let error = ask(&fake, later()).unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{portion}: {error}");
        assert!(error.to_string().contains("read the rows again"), "{error}");
    }
}

#[test]
fn answers_that_are_none_are_told_apart() {
    for (answer, said) in [
        ("HTTP/1.1 400 Bad Request", "does not speak JSON-RPC"),
        (r#"{"id":{},}"#, "broken JSON"),
        (r#"[1]"#, "a malformed message"),
        (r#"{"id":0,"result":[],"error":null}"#, "0 results for 1 operations"),
        (r#"{"id":0,"result":[{"error":"resources exhausted"}],"error":null}"#, "resources exhausted"),
        (r#"{"id":0,"result":null,"error":"broken"}"#, "broken"),
        (r#"{"id":0}"#, "neither result nor error"),
    ] {
        let fake = Fake::new(1, move |_, mut stream| {
            request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            // Until the client has read it.
            request(&mut stream);
        });
        let error = ask(&fake, later()).unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains('\n'), "{answer}: {error}");
    }
}

#[test]
fn questions_of_the_server_are_answered_on_the_way() {
    let fake = Fake::new(1, |_, mut stream| {
        request(&mut stream);
        stream
            .write_all(
                br#"{"id":"echo","method":"echo","params":["x"]}{"id":7,"method":"steal","params":[]}"#,
            )
            .unwrap();
        let expected = concat!(
            r#"{"id":"echo","result":["x"],"error":null}"#,
            r#"{"id":7,"result":null,"error":"unknown method"}"#
        );
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        stream
            .write_all(br#"{"method":"update","params":[],"id":null}{"id":0,"result":[{}],"error":null}"#)
            .unwrap();
    });
    assert_eq!(ask(&fake, later()).unwrap(), [OpResult::Done]);
}

#[test]
fn a_server_that_only_sends_updates_is_given_up() {
    let fake = Fake::new(1, |_, mut stream| {
        let update = br#"{"method":"update","params":[],"id":null}"#;
        while stream.write_all(update).is_ok() {}
    });
    let error = ask(&fake, brief()).unwrap_err();
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
}

#[test]
fn a_server_that_reads_nothing_is_given_up() {
    let fake = Fake::new(1, |_, mut stream| {
        std::thread::sleep(BRIEF * 3);
        while request(&mut stream).is_some() {}
    });
    let mut client = fake.client();
    let much = Operation::comment(&"x".repeat(4 << 20));
    let error = client.transact(std::slice::from_ref(&much), brief()).unwrap_err();
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
    assert!(client.open.is_none(), "half a request is never gone on with");
}
