//! The connection against switches that misbehave. They are played here, on a socket of the test's own.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::openflow::flow::{Action, Flow, Match, OfPort};
use crate::openflow::wire::message::{HEADER, Header, bundle};

/// Short where the test waits for it to run out, long where it must not.
const SOON: Timeouts =
    Timeouts { silence: Duration::from_millis(50), give_up: Duration::from_secs(2), ..Timeouts::DEFAULT };

/// The switch's end of a connection.
struct Played {
    stream: UnixStream,
}

impl Played {
    async fn next(&mut self) -> (Header, Vec<u8>) {
        let mut head = [0; HEADER];
        self.stream.read_exact(&mut head).await.unwrap();
        let header = Header::read(&head);
        let mut body = vec![0; usize::from(header.length) - HEADER];
        self.stream.read_exact(&mut body).await.unwrap();
        (header, body)
    }

    async fn until(&mut self, kind: u8) -> (Header, Vec<u8>) {
        loop {
            let (header, body) = self.next().await;
            if header.kind == kind {
                return (header, body);
            }
        }
    }

    async fn send(&mut self, kind: u8, xid: u32, body: &[u8]) {
        let mut message = vec![5, kind, 0, 0];
        message[2..4].copy_from_slice(&u16::try_from(HEADER + body.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&xid.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await.unwrap();
    }

    /// Hello, and the barrier of the beginning.
    async fn begin(&mut self) {
        self.send(kind::HELLO, 0, &[0, 1, 0, 8, 0, 0, 0, 0x20]).await;
        let (barrier, _) = self.until(kind::BARRIER_REQUEST).await;
        self.send(kind::BARRIER_REPLY, barrier.xid, &[]).await;
    }
}

/// A listening socket and what is played on the first connection to it.
fn play<F, T>(role: impl FnOnce(Played) -> F + Send + 'static) -> (TempDir, String, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let played = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        role(Played { stream }).await
    });
    (dir, format!("unix:{}", path.display()), played)
}

async fn connect(address: &str) -> Connection {
    Connection::connect(address).await.unwrap()
}

#[tokio::test]
async fn a_bad_address_and_an_absent_switch_are_different_errors() {
    for bad in ["", "br0", "ssl:h:1", "tcp:h", "unix"] {
        let error = Connection::connect(bad).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{bad}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.mgmt");
    let error = Connection::connect(absent.to_str().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("absent.mgmt"), "{error}");
}

#[tokio::test]
async fn a_switch_that_says_no_hello_or_a_wrong_one_is_given_up() {
    type Case = (&'static [u8], fn(&Error) -> bool);
    let connect_error: fn(&Error) -> bool = |error| matches!(error, Error::Connect { .. });
    let version_error: fn(&Error) -> bool = |error| matches!(error, Error::Version { .. });
    let cases: [Case; 7] = [
        (b"", connect_error),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", connect_error),
        (&[5, 0, 0, 3, 0, 0, 0, 0], connect_error),
        (&[4, 0, 0, 8, 0, 0, 0, 0], version_error),
        (&[6, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0x40], version_error),
        (&[6, 0, 0, 12, 0, 0, 0, 0, 0, 1, 0, 2], version_error),
        (&[1, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0], version_error),
    ];
    for (number, (said, expected)) in cases.into_iter().enumerate() {
        let (_dir, address, played) = play(move |mut switch| async move {
            switch.stream.write_all(said).await.unwrap();
            // Stay until the other side leaves.
            let _ = switch.stream.read_to_end(&mut Vec::new()).await;
        });
        // The first two say nothing that could be judged.
        let timeouts =
            Timeouts { hello: Duration::from_millis(if number < 2 { 300 } else { 20_000 }), ..SOON };
        let error = Connection::connect_with(&address, timeouts).await.unwrap_err();
        assert!(expected(&error), "{said:?}: {error}");
        played.await.unwrap();
    }
}

#[tokio::test]
async fn echo_requests_are_answered_with_their_payload() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        switch.send(kind::ECHO_REQUEST, 77, b"are you there").await;
        let (header, body) = switch.until(kind::ECHO_REPLY).await;
        (header.xid, body)
    });
    let _connection = connect(&address).await;
    assert_eq!(played.await.unwrap(), (77, b"are you there".to_vec()));
}

#[tokio::test]
async fn a_silent_switch_is_probed_and_then_given_up() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        let (asked, _) = switch.until(kind::ECHO_REQUEST).await;
        switch.send(kind::ECHO_REPLY, asked.xid, &[]).await;
        // Asked once more, and no answer any more.
        switch.until(kind::ECHO_REQUEST).await;
        let _ = switch.stream.read_to_end(&mut Vec::new()).await;
    });
    let connection = Connection::connect_with(&address, SOON).await.unwrap();
    assert_eq!(connection.closed().await, Disconnect::Silent(SOON.silence + SOON.give_up));
    assert!(matches!(connection.barrier().await, Err(Error::Closed(Disconnect::Silent(_)))));
    drop(connection);
    played.await.unwrap();
}

#[tokio::test]
async fn a_switch_that_stops_reading_blocks_no_caller_for_ever() {
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        let _ = left.await;
    });
    let timeouts = Timeouts { give_up: Duration::from_millis(100), ..SOON };
    let connection = Connection::connect_with(&address, timeouts).await.unwrap();
    // Far more than socket and queue hold.
    let mods: Vec<_> = (0..50_000).map(|n| FlowMod::Add(Flow::new(0, 0, Match::any(), n, vec![]))).collect();
    let error = connection.bundle(&mods).await.unwrap_err();
    assert!(matches!(error, Error::Closed(Disconnect::Silent(_))), "{error}");
    drop(leave);
    played.await.unwrap();
}

#[tokio::test]
async fn a_malformed_message_ends_the_connection_and_every_wait() {
    let malformed: [&[u8]; 3] = [
        // Shorter than a header; of another version; of another version, longer than what was read at once.
        &[5, 21, 0, 7, 0, 0, 0, 1],
        &[4, 21, 0, 8, 0, 0, 0, 1],
        &[9; 4000],
    ];
    for bytes in malformed {
        let (_dir, address, played) = play(move |mut switch| async move {
            switch.begin().await;
            switch.until(kind::BARRIER_REQUEST).await;
            switch.stream.write_all(bytes).await.unwrap();
            let _ = switch.stream.read_to_end(&mut Vec::new()).await;
        });
        let connection = connect(&address).await;
        let error = connection.barrier().await.unwrap_err();
        assert!(matches!(error, Error::Closed(Disconnect::Malformed(_))), "{error}");
        assert!(matches!(connection.closed().await, Disconnect::Malformed(_)));
        drop(connection);
        played.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_fails_its_request_only() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        // An asynchronous message, a reply to no request, then half a flow.
        switch.send(12, 0, &[0; 72]).await;
        switch.send(kind::BARRIER_REPLY, 0xdead_beef, &[]).await;
        let (asked, _) = switch.until(kind::MULTIPART_REQUEST).await;
        switch.send(kind::MULTIPART_REPLY, asked.xid, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 96, 1, 2, 3]).await;
        let (asked, _) = switch.until(kind::MULTIPART_REQUEST).await;
        switch.send(kind::MULTIPART_REPLY, asked.xid, &[0, 13, 0, 0, 0, 0, 0, 0]).await;
        let (asked, _) = switch.until(kind::MULTIPART_REQUEST).await;
        switch.send(kind::ERROR, asked.xid, &[0, 1, 0, 2]).await;
    });
    let connection = connect(&address).await;
    let error = connection.dump_all().await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
    assert_eq!(connection.ports().await.unwrap(), []);
    let error = connection.aggregate(Cookies::ANY).await.unwrap_err();
    assert!(error.to_string().contains("OFPBRC_BAD_STAT"), "{error}");
    assert_eq!(connection.closed().await, Disconnect::Eof);
    played.await.unwrap();
}

#[tokio::test]
async fn nothing_is_committed_before_the_close_is_answered_nor_after_a_refusal() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        let (add, _) = switch.until(kind::BUNDLE_ADD_MESSAGE).await;
        let (close, body) = switch.until(kind::BUNDLE_CONTROL).await;
        // Nothing more may come yet.
        let early = tokio::time::timeout(Duration::from_millis(100), switch.next()).await;
        switch.send(kind::ERROR, add.xid, &[0, 4, 0, 9]).await;
        switch.send(kind::BUNDLE_CONTROL, close.xid, &body).await;
        let (_, end) = switch.until(kind::BUNDLE_CONTROL).await;
        (early.is_err(), body[5], end[5])
    });
    let connection = connect(&address).await;
    let flow = FlowMod::Add(Flow::new(0, 0, Match::any(), 0, vec![]));
    let error = connection.bundle(&[flow.clone(), flow]).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { refused, of: 2 } if refused[0].index == 0), "{error}");
    assert_eq!(played.await.unwrap(), (true, (bundle::CLOSE as u8), (bundle::DISCARD as u8)));
}

#[tokio::test]
async fn a_switch_that_answers_before_it_reads_on_blocks_no_caller() {
    const FLOWS: usize = 20_000;
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        // Refuse everything, and stop reading until each refusal is written: more than any socket buffer takes.
        let mut refused = 0;
        loop {
            let (header, body) = switch.next().await;
            match header.kind {
                kind::BUNDLE_ADD_MESSAGE => {
                    let mut error = vec![0, 4, 0, 9];
                    error.extend_from_slice(&body);
                    switch.send(kind::ERROR, header.xid, &error).await;
                    refused += 1;
                }
                _ => switch.send(kind::BUNDLE_CONTROL, header.xid, &body).await,
            }
            if refused == FLOWS && body[5] == (bundle::DISCARD as u8) {
                return;
            }
        }
    });
    let connection = connect(&address).await;
    let mods: Vec<_> =
        (0..FLOWS as u64).map(|n| FlowMod::Add(Flow::new(0, 0, Match::any(), n, vec![]))).collect();
    let error = connection.bundle(&mods).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { refused, of: FLOWS } if refused.len() == FLOWS));
    played.await.unwrap();
}

#[tokio::test]
async fn a_flow_that_cannot_be_said_is_named_and_the_connection_goes_on() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        let (first, _) = switch.next().await;
        switch.send(kind::BARRIER_REPLY, first.xid, &[]).await;
        first.kind
    });
    let connection = connect(&address).await;
    let good = FlowMod::Add(Flow::new(0, 0, Match::any(), 0, vec![]));
    let actions = vec![Action::GotoTable(1), Action::Output(OfPort::LOCAL)];
    let bad = FlowMod::Add(Flow::new(0, 0, Match::any(), 0, actions));
    let huge = FlowMod::Add(Flow::new(0, 0, Match::any(), 0, vec![Action::Output(OfPort(1)); 5000]));
    for unsound in [bad, huge] {
        let error = connection.bundle(&[good.clone(), unsound.clone()]).await.unwrap_err();
        assert!(matches!(error, Error::Unencodable { index: 1, .. }), "{error}");
        let error = connection.apply(&[unsound]).await.unwrap_err();
        assert!(matches!(error, Error::Unencodable { index: 0, .. }), "{error}");
    }
    connection.barrier().await.unwrap();
    assert_eq!(played.await.unwrap(), kind::BARRIER_REQUEST);
}

#[tokio::test]
async fn changes_of_an_accepted_form_go_out_with_their_commit() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        let mut ends = Vec::new();
        for _ in 0..2 {
            switch.until(kind::BUNDLE_CONTROL).await;
            let (close, body) = switch.until(kind::BUNDLE_CONTROL).await;
            assert_eq!(body[5], bundle::CLOSE as u8);
            switch.send(kind::BUNDLE_CONTROL, close.xid, &body).await;
            let (commit, body) = switch.until(kind::BUNDLE_CONTROL).await;
            ends.push(body[5]);
            switch.send(kind::BUNDLE_CONTROL, commit.xid, &body).await;
        }
        for refuses in [false, true] {
            switch.until(kind::BUNDLE_CONTROL).await;
            let (add, _) = switch.next().await;
            if refuses {
                switch.send(kind::ERROR, add.xid, &[0, 4, 0, 9]).await;
            }
            let (commit, body) = switch.until(kind::BUNDLE_CONTROL).await;
            ends.push(body[5]);
            switch.send(kind::BUNDLE_CONTROL, commit.xid, &body).await;
        }
        // After a refusal the next is checked first.
        switch.until(kind::BUNDLE_CONTROL).await;
        let (_, body) = switch.until(kind::BUNDLE_CONTROL).await;
        ends.push(body[5]);
        ends
    });
    let connection = connect(&address).await;
    let to = |port: u16, out: u32| {
        let matches = Match::any().with(crate::openflow::flow::Field::TcpDst, port);
        FlowMod::Add(Flow::new(0, 1, matches, 7, vec![Action::Output(OfPort(out))]))
    };
    connection.apply(&[to(1, 1), to(2, 1)]).await.unwrap();
    connection.apply(&[to(1, 2), to(2, 1)]).await.unwrap();
    connection.apply(&[to(3, 2), to(4, 1)]).await.unwrap();
    let error = connection.apply(&[to(5, 1), to(6, 1)]).await.unwrap_err();
    assert!(matches!(&error, Error::PartlyCommitted { refused, of: 2 } if refused[0].index == 0), "{error}");
    let last = connection.apply(&[to(1, 1), to(2, 1)]).await;
    assert!(matches!(last, Err(Error::Closed(_))), "{last:?}");
    let commit = bundle::COMMIT as u8;
    assert_eq!(played.await.unwrap(), [commit, commit, commit, commit, bundle::CLOSE as u8]);
}

#[tokio::test]
async fn a_refused_commit_means_that_no_change_was_made() {
    let (_dir, address, played) = play(|mut switch| async move {
        switch.begin().await;
        for _ in 0..2 {
            let (control, body) = switch.until(kind::BUNDLE_CONTROL).await;
            if body[5] != bundle::OPEN as u8 {
                switch.send(kind::BUNDLE_CONTROL, control.xid, &body).await;
            }
        }
        let (commit, body) = switch.until(kind::BUNDLE_CONTROL).await;
        switch.send(kind::BUNDLE_CONTROL, commit.xid, &body).await;
        // As OVS does when the commit fails: an error for the change, one for the commit, and everything is reverted.
        let (add, _) = switch.until(kind::BUNDLE_ADD_MESSAGE).await;
        let (commit, _) = switch.until(kind::BUNDLE_CONTROL).await;
        switch.send(kind::ERROR, add.xid, &[0, 5, 0, 1]).await;
        switch.send(kind::ERROR, commit.xid, &[0, 17, 0, 13]).await;
        switch.until(kind::BUNDLE_CONTROL).await;
        switch.until(kind::BUNDLE_CONTROL).await.1[5]
    });
    let connection = connect(&address).await;
    let flow = FlowMod::Add(Flow::new(0, 1, Match::any(), 7, vec![]));
    let mods = [flow.clone(), flow];
    connection.apply(&mods).await.unwrap();
    let error = connection.apply(&mods).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { refused, of: 2 } if refused[0].index == 0), "{error}");
    let last = connection.apply(&mods).await;
    assert!(matches!(last, Err(Error::Closed(_))), "{last:?}");
    assert_eq!(played.await.unwrap(), bundle::CLOSE as u8, "after a refusal the next is checked first");
}
