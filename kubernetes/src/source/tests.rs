//! A source against a server with wrong answers. A real server is used in `tests/api_server.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

mod server;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::span;

use super::*;
use crate::config::NodeSettings;
use server::{Query, Reply, Server, Verb};

const PATIENCE: Duration = Duration::from_secs(30);

/// Short pauses and short patience, so that a test sees many attempts.
fn timing() -> Timing {
    Timing {
        answer: Duration::from_secs(20),
        watch: Duration::from_secs(20),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(40),
        absent_pause: Duration::from_secs(600),
    }
}

fn service(name: &str, version: u32) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": version.to_string() },
        "spec": { "ports": [{ "port": 80 }] },
    })
}

fn list(items: &[Value], version: u32) -> Reply {
    list_of("Service", items, version)
}

fn list_of(kind: &str, items: &[Value], version: u32) -> Reply {
    let kind = format!("{kind}List");
    Reply::Json(
        200,
        json!({ "kind": kind, "metadata": { "resourceVersion": version.to_string() }, "items": items }),
    )
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

fn error(code: u16, message: &str) -> Reply {
    Reply::Json(
        code,
        json!({ "kind": "Status", "code": code, "message": message, "reason": "", "status": "Failure" }),
    )
}

/// What an idle server answers: empty lists, watches where nothing happens, no ServiceCIDRs.
fn idle(query: &Query) -> Reply {
    match (query.kind(), query.verb()) {
        ("servicecidrs", _) => error(404, "not found"),
        ("services", Verb::List) => list(&[], 1),
        (_, Verb::List) => list_of("EndpointSlice", &[], 1),
        (_, Verb::Watch) => Reply::Stream(Vec::new(), server::Then::Hang),
    }
}

/// A server with scripted answers about Services, by the number of the request, and as an idle one about the rest.
async fn about_services(answer: impl Fn(usize, &Query) -> Reply + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |query| match query.kind() {
        "services" => answer(count.fetch_add(1, Ordering::Relaxed), query),
        _ => idle(query),
    })
    .await
}

fn source(server: &Server) -> Source {
    timed(server, timing())
}

fn timed(server: &Server, timing: Timing) -> Source {
    let settings = NodeSettings { api_server: Some(server.address()), ..NodeSettings::default() };
    Source::api_timed(ClientConfig::from_settings(&settings).unwrap(), &Watch::default(), timing)
}

async fn until(source: &mut Source, what: &str, holds: impl Fn(&Source) -> bool) -> BTreeSet<ObjectKey> {
    let mut changed = BTreeSet::new();
    let wait = async {
        while !holds(source) {
            changed.extend(source.next().await.changed);
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(in_time, "never came: {what}; {:?} {:?}", source.health(), source.problems());
    changed
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn has(source: &Source, names: &[&str]) -> bool {
    let all: Vec<_> = source.services().map(|service| service.key.name.to_string()).collect();
    all == names
}

#[tokio::test]
async fn what_vanished_while_the_watch_was_expired_is_reported() {
    let now = Arc::new(Notify::new());
    let signal = now.clone();
    let server = about_services(move |number, query| match (number, query.verb()) {
        (0, _) => list(&[service("a", 1), service("b", 2), service("c", 3)], 5),
        (1, Verb::Watch) => {
            assert_eq!(query.parameter("resourceVersion").as_deref(), Some("5"));
            let gone = json!({ "kind": "Status", "code": 410, "message": "too old resource version", "reason": "Expired" });
            Reply::Stream(Vec::new(), server::Then::Signalled(signal.clone(), event("ERROR", &gone)))
        }
        (2, Verb::List) => list(&[service("a", 1), service("c", 7)], 9),
        _ => idle(query),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "the first list", |source| has(source, &["a", "b", "c"]) && source.synced()).await;
    now.notify_one();
    let changed = until(&mut source, "the second list", |source| has(source, &["a", "c"])).await;
    assert_eq!(changed, BTreeSet::from([key("b")]), "c has another version and looks the same");
    until(&mut source, "connected", |source| source.health().connected).await;
}

#[tokio::test]
async fn a_server_in_trouble_takes_nothing_away_and_is_logged_once() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let trouble = |number: usize| match number % 5 {
        4 => Reply::Json(200, json!({ "kind": "Welcome", "metadata": { "resourceVersion": "9" } })),
        0 => error(500, "etcdserver: no leader"),
        1 => Reply::Json(200, json!("this is no list")),
        2 => Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"metadata\": {\"res".into()),
        _ => Reply::Raw("this is not even HTTP\r\n\r\n".into()),
    };
    let server = about_services(move |number, query| match number {
        0 => list(&[service("a", 1)], 5),
        1..40 => trouble(number),
        40 => list(&[service("a", 1), service("b", 6)], 9),
        _ => idle(query),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "the first list", |source| has(source, &["a"])).await;
    until(&mut source, "trouble", |source| source.health().failures > 3).await;
    assert!(source.synced() && has(&source, &["a"]) && !source.health().connected);
    assert!(source.health().last_error.as_ref().unwrap().starts_with("Services: "), "{:?}", source.health());
    until(&mut source, "better", |source| has(source, &["a", "b"]) && source.health().connected).await;
    assert_eq!(source.health().last_error, None);
    let lines = log.lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.starts_with("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("connected again")), "{lines:#?}");
}

#[tokio::test]
async fn half_an_event_is_not_an_event_and_the_watch_goes_on_from_the_last_whole_one() {
    let server = about_services(|number, query| match (number, query.verb()) {
        (0, _) => list(&[], 5),
        (1, Verb::Watch) => {
            let whole = event("ADDED", &service("a", 6));
            let half = event("ADDED", &service("b", 7));
            Reply::Stream(vec![whole, half[..half.len() / 2].to_owned()], server::Then::Cut)
        }
        (2, Verb::Watch) => {
            assert_eq!(query.parameter("resourceVersion").as_deref(), Some("6"));
            Reply::Stream(vec![event("ADDED", &service("b", 7))], server::Then::Hang)
        }
        _ => panic!("{query:?}"),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "both", |source| has(source, &["a", "b"])).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    // Gives no answer to the first requests.
    let server = about_services(|number, query| match (number, query.verb()) {
        (0..4, _) => Reply::Nothing,
        (_, Verb::List) => list(&[service("b", 1)], 9),
        _ => idle(query),
    })
    .await;
    let impatient = Timing { answer: Duration::from_millis(500), ..timing() };
    let mut source = timed(&server, impatient);
    let is_named = |source: &Source| {
        source.health().last_error.as_ref().is_some_and(|why| why.contains("in the time allowed"))
    };
    until(&mut source, "silence is noticed", is_named).await;
    until(&mut source, "and outlived", |source| has(source, &["b"])).await;
}

#[tokio::test]
async fn a_refused_token_is_read_again_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let server = Server::start(|query| match query.header("authorization").as_deref() {
        Some("Bearer new") => idle(query),
        _ => error(401, "Unauthorized"),
    })
    .await;
    let settings = NodeSettings {
        api_server: Some(server.address()),
        token_file: Some(file.clone()),
        ..NodeSettings::default()
    };
    let config = ClientConfig::from_settings(&settings).unwrap();
    let mut source = Source::api_timed(config, &Watch::default(), timing());
    let is_refused =
        |source: &Source| source.health().last_error.as_ref().is_some_and(|why| why.contains("401"));
    until(&mut source, "the refusal", is_refused).await;
    assert!(!source.synced());
    std::fs::write(&file, "new").unwrap();
    until(&mut source, "the new token", |source| source.synced() && source.health().connected).await;
}

#[tokio::test]
async fn a_token_does_not_follow_a_redirect() {
    let other = Server::start(|query| panic!("the other host got a request: {query:?}")).await;
    let target = other.address();
    let server = Server::start(move |_| {
        let redirect =
            format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/\r\nContent-Length: 0\r\n\r\n");
        Reply::Raw(redirect)
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "a failure", |source| source.health().failures > 3).await;
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_refused_by_name_and_the_rest_works() {
    let mut broken = service("broken", 2);
    broken["spec"]["ports"][0]["port"] = 70_000.into();
    let mut mended = broken.clone();
    mended["spec"]["ports"][0]["port"] = 700.into();
    mended["metadata"]["resourceVersion"] = "8".into();
    let mut spoilt = service("a", 7);
    spoilt["spec"]["externalIPs"] = json!(["nowhere"]);
    let server = about_services(move |number, query| match number {
        0 => list(&[service("a", 1), broken.clone(), service("c", 3)], 5),
        1 => Reply::Stream(vec![event("MODIFIED", &spoilt)], server::Then::End),
        2 => Reply::Stream(
            vec![event("MODIFIED", &mended), event("MODIFIED", &service("a", 9))],
            server::Then::Hang,
        ),
        _ => idle(query),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "a and c", |source| has(source, &["a", "c"])).await;
    until(&mut source, "two refusals", |source| {
        source.problems().iter().filter(|p| p.object.is_some()).count() == 2
    })
    .await;
    assert!(source.view(&key("a")).unwrap().service.external_ips.is_empty(), "the version before stays");
    let refused: Vec<_> = source.problems().iter().filter_map(|problem| problem.object.clone()).collect();
    assert_eq!(refused, ["Service shop/a", "Service shop/broken"]);
    until(&mut source, "mended", |source| has(source, &["a", "broken", "c"])).await;
    until(&mut source, "no refusal", |source| {
        source.problems().iter().all(|problem| problem.object.is_none())
    })
    .await;
}

#[tokio::test]
async fn an_older_server_has_slices_in_their_older_version_and_no_ranges() {
    let server = Server::start(|query| match (query.kind(), query.verb()) {
        ("endpointslices", _) if query.path.contains("/v1/") => error(404, "the server could not find it"),
        ("endpointslices", Verb::List) => {
            let slice = json!({
                "metadata": {
                    "name": "a-1", "namespace": "shop", "resourceVersion": "3",
                    "labels": { "kubernetes.io/service-name": "a" },
                },
                "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.1"] }],
            });
            list_of("EndpointSlice", &[slice], 5)
        }
        ("servicecidrs", _) => error(403, "forbidden"),
        ("services", Verb::List) => list(&[service("a", 1)], 5),
        _ => idle(query),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "synced", |source| source.synced() && source.health().connected).await;
    assert_eq!(source.view(&key("a")).unwrap().slices.len(), 1);
    until(&mut source, "the ranges are reported missing", |source| !source.problems().is_empty()).await;
    let problem = &source.problems()[0];
    assert!(
        problem.place.starts_with("ServiceCIDRs of http://") && problem.reason.contains("403"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_list_comes_in_pages_and_begins_again_when_it_expires_under_way() {
    let page = |items: &[Value], next: &str| {
        Reply::Json(
            200,
            json!({ "kind": "ServiceList", "metadata": { "resourceVersion": "5", "continue": next }, "items": items }),
        )
    };
    let server =
        about_services(move |number, query| match (number, query.parameter("continue").as_deref()) {
            (0, None) => page(&[service("a", 1)], "more"),
            (1, Some("more")) => error(410, "the continue token is too old"),
            (2, None) => page(&[service("b", 1)], "even more"),
            (3, Some("even more")) => page(&[service("c", 2)], ""),
            _ => idle(query),
        })
        .await;
    let mut source = source(&server);
    until(&mut source, "both pages", |source| source.synced() && has(source, &["b", "c"])).await;
}

#[tokio::test]
async fn a_watch_that_ends_at_once_does_not_make_a_busy_loop() {
    let server = about_services(|_, query| match query.verb() {
        Verb::List => list(&[service("a", 1)], 5),
        Verb::Watch => Reply::Stream(Vec::new(), server::Then::End),
    })
    .await;
    let mut source = source(&server);
    until(&mut source, "many ends", |_| server.requests() > 20).await;
    let is_named =
        |source: &Source| source.health().last_error.as_ref().is_some_and(|why| why.contains("at once"));
    until(&mut source, "it is reported", is_named).await;
    assert!(has(&source, &["a"]));
}

#[tokio::test]
async fn an_endless_event_is_cut_off() {
    let server = about_services(|number, query| match number {
        0 => list(&[service("a", 1)], 5),
        1 => Reply::Stream(vec!["x".repeat(1 << 20); 20], server::Then::Hang),
        _ => idle(query),
    })
    .await;
    let mut source = source(&server);
    let is_named =
        |source: &Source| source.health().last_error.as_ref().is_some_and(|why| why.contains("bytes"));
    until(&mut source, "the limit", is_named).await;
    assert!(has(&source, &["a"]));
}

#[tokio::test]
async fn an_address_without_a_server_is_tried_for_ever() {
    let settings = NodeSettings { api_server: Some("127.0.0.1:1".into()), ..NodeSettings::default() };
    let config = ClientConfig::from_settings(&settings).unwrap();
    let mut source = Source::api_timed(config, &Watch::default(), timing());
    until(&mut source, "some attempts", |source| source.health().failures > 5).await;
    assert!(!source.synced());
    // And then there is an address.
    let server = Server::start(idle).await;
    let settings = NodeSettings { api_server: Some(server.address()), ..NodeSettings::default() };
    source.reconfigure(ClientConfig::from_settings(&settings).unwrap());
    until(&mut source, "synced", |source| source.synced() && source.health().connected).await;
}

/// Log lines, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("kubernetes")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!(" {value:?}");
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}
