//! Servers that are none, or that break off.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// A listener that answers each connection with these bytes, and then either closes or keeps silent.
fn fake(path: &str, says: &'static [u8], closes: bool) -> (tokio::task::JoinHandle<()>, Arc<AtomicUsize>) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(says).await;
            if !closes {
                open.push(stream);
            }
        }
    });
    (task, count)
}

/// Each fault is reported, does not end the client, and a good server in the same place is then followed.
async fn recovers_from(says: &'static [u8], closes: bool, expected: &str) {
    let mut server = Server::stopped(VSWITCH_SCHEMA);
    let (task, count) = fake(&server.path("sock"), says, closes);
    let mut config = config(&[server.remote()], "Open_vSwitch", monitors());
    config.probe_interval = Some(Duration::from_millis(50));
    config.message_limit = 100_000;
    let db = Db::spawn(config);
    until_db(&db, expected, |_, status| {
        matches!(status, Status::Connecting { last_error: Some(error), attempts: 2.., .. } if error.contains(expected))
    })
    .await;
    assert!(count.load(Ordering::Relaxed) >= 2);
    assert!(matches!(db.transact(vec![]).await, Err(Error::NotConnected { .. })));
    assert_eq!(db.snapshot().generation(), 0);
    task.abort();
    server.start();
    soon("sync", db.wait_synced()).await;
}

/// Lines of the log of this thread from now on, as long as the first value lives.
fn log() -> ((tracing::subscriber::DefaultGuard, tracing::Dispatch), impl Fn(&str) -> usize) {
    use std::io::Write;
    use std::sync::Mutex;
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let count = move |part: &str| {
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).count()
    };
    // While there is one subscriber only, tracing asks that of the thread that meets an event first whether it is of
    // interest, for all threads and for ever: another test's thread has none, and would silence the event here.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    ((guard, second), count)
}

#[tokio::test]
async fn a_failure_is_logged_once_until_it_works() {
    let (_guard, lines) = log();
    let mut server = Server::stopped(VSWITCH_SCHEMA);
    let (task, count) = fake(&server.path("sock"), b"nonsense", true);
    let db = Db::spawn(config(&[server.remote()], "Open_vSwitch", monitors()));
    until_db(&db, "attempts", |_, _| count.load(Ordering::Relaxed) >= 6).await;
    task.abort();
    assert_eq!((lines("WARN"), lines("does not speak JSON-RPC")), (1, 1));
    server.start();
    soon("sync", db.wait_synced()).await;
    assert_eq!(lines("following unix:"), 1);
    server.kill();
    until_db(&db, "attempts", |_, status| matches!(status, Status::Connecting { attempts: 4.., .. })).await;
    assert_eq!((lines("closed the connection"), lines("is ovsdb-server running there")), (1, 1));
}

#[tokio::test]
async fn garbage() {
    recovers_from(b"HTTP/1.1 400 Bad Request\r\n\r\n", false, "does not speak JSON-RPC").await;
}

#[tokio::test]
async fn broken_json() {
    recovers_from(b"{\"id\": nothing}", false, "broken JSON").await;
}

#[tokio::test]
async fn no_message_of_the_protocol() {
    recovers_from(b"[1,2,3]", false, "JSON-RPC has objects").await;
    recovers_from(b"{\"id\":0,\"method\":7}", false, "a malformed message").await;
}

#[tokio::test]
async fn a_truncated_message() {
    recovers_from(b"{\"id\":0,\"result\":{\"tables\"", true, "in the middle of a message").await;
}

#[tokio::test]
async fn an_oversized_message() {
    static LONG: [u8; 200_000] = [b'['; 200_000];
    recovers_from(&LONG, false, "more than 100000 bytes").await;
}

#[tokio::test]
async fn silence() {
    recovers_from(b"", false, "has been silent").await;
}

#[tokio::test]
async fn a_closed_door() {
    recovers_from(b"", true, "").await;
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind() {
    let reply = br#"{"id":0,"result":null,"error":"unknown"}{"id":1,"result":{"tables":7},"error":null}"#;
    recovers_from(reply, false, "a schema").await;
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    let db = Db::spawn(config(&[server.remote()], "OVN_Northbound", vec![]));
    until_db(&db, "the failure", |_, status| {
        matches!(status, Status::Connecting { last_error: Some(error), .. }
            if error.contains("does not have this database"))
    })
    .await;
}

#[tokio::test]
async fn the_next_remote_is_tried_at_once() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    let missing = Remote::unix("/nonexistent/db.sock");
    let mut config = config(&[missing, server.remote()], "Open_vSwitch", monitors());
    config.backoff.first = Duration::from_secs(3600);
    let db = Db::spawn(config);
    soon("sync", db.wait_synced()).await;
    assert!(matches!(db.status(), Status::Synced { remote, .. } if remote == server.remote()));
}

/// A server that answers the session's first requests from a script.
async fn read_request(stream: &mut UnixStream) -> serde_json::Value {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await.unwrap());
        if let Ok(value) = serde_json::from_slice(&text) {
            return value;
        }
    }
}

#[tokio::test]
async fn echo_is_answered_and_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut config = config(&[Remote::unix(&path)], "X", vec![]);
    config.probe_interval = Some(Duration::from_millis(100));
    let db = Db::spawn(config);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_request(&mut stream).await["method"], "get_schema");
    stream.write_all(br#"{"id":0,"result":null,"error":"no such thing"}"#).await.unwrap();
    assert_eq!(read_request(&mut stream).await["params"], serde_json::json!(["X"]));
    stream
        .write_all(br#"{"id":["odd",{"id":1}],"method":"echo","params":["}",2]}{"id":1,"result":{"name":"X","tables":{}},"error":null}"#)
        .await
        .unwrap();
    let answer = read_request(&mut stream).await;
    assert_eq!(answer, serde_json::json!({"id": ["odd", {"id": 1}], "result": ["}", 2], "error": null}));
    soon("sync", db.wait_synced()).await;
    // Silence makes it ask, an answer keeps it content.
    for _ in 0..3 {
        let probe = read_request(&mut stream).await;
        assert_eq!(probe["method"], "echo");
        let answer = serde_json::json!({"id": probe["id"], "result": [], "error": null});
        stream.write_all(answer.to_string().as_bytes()).await.unwrap();
    }
    assert!(db.status().is_synced());
    until_db(&db, "the end of the probe interval", |_, status| !status.is_synced()).await;
}

#[tokio::test]
async fn an_update_that_fits_nothing_makes_it_read_all_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let monitors = vec![MonitorTable::new("T", &["n"])];
    let db = Db::spawn(config(&[Remote::unix(&path)], "X", monitors));
    let zero = "00000000-0000-0000-0000-000000000000";
    let some = "00000000-0000-0000-0000-000000000007";
    let first = serde_json::json!({"T": {some: {"initial": {"n": 1}}}});
    for (round, update) in [
        serde_json::json!({"T": {zero: {"modify": {"n": 2}}}}),
        serde_json::json!({"T": {some: {"modify": {"n": "two"}}}}),
        serde_json::json!({"T": {some: {"modify": {"n": 3}}}}),
    ]
    .iter()
    .enumerate()
    {
        let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(br#"{"id":0,"result":null,"error":"no _Server"}"#).await.unwrap();
        read_request(&mut stream).await;
        let schema =
            serde_json::json!({"name": "X", "tables": {"T": {"columns": {"n": {"type": "integer"}}}}});
        let reply = serde_json::json!({"id": 1, "result": schema, "error": null});
        stream.write_all(reply.to_string().as_bytes()).await.unwrap();
        let request = read_request(&mut stream).await;
        assert_eq!(request["method"], "monitor_cond_since");
        assert_eq!(request["params"][3], zero, "after a doubtful update all is asked for");
        let reply = serde_json::json!({"id": 2, "result": [false, some, first], "error": null});
        stream.write_all(reply.to_string().as_bytes()).await.unwrap();
        let update = serde_json::json!({"id": null, "method": "update3", "params": ["data", some, update]});
        stream.write_all(update.to_string().as_bytes()).await.unwrap();
        if round == 2 {
            until_db(&db, "a change", |db, _| {
                db.snapshot().rows("T").next().unwrap().get("n").unwrap().as_integer() == Some(3)
            })
            .await;
            drop(stream);
            let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(br#"{"id":0,"result":null,"error":"no _Server"}"#).await.unwrap();
            read_request(&mut stream).await;
            let reply = serde_json::json!({"id": 1, "result": schema, "error": null});
            stream.write_all(reply.to_string().as_bytes()).await.unwrap();
            let request = read_request(&mut stream).await;
            assert_eq!(request["params"][3], some, "what is known is not asked for again");
        }
    }
}
