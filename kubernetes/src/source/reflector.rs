//! One kind of object, followed on an API server: list it, then watch from there; when the watch ends, watch again; when
//! the known version is too old for the server, list again.
//!
//! This is the protocol of the Kubernetes API concepts page ("Efficient detection of changes"). It stands on kube's
//! client and not on its watcher for three reasons: an object that cannot be read is refused by itself here, and does
//! not stop its whole list; a page goes from the socket into slim objects without a full copy in between; and whether
//! the server answers is known at once, not with the next change.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::api::{ListParams, Request, WatchParams};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Problem;
use super::clients::{Clients, Timing};
use super::kind::Kind;
use super::store::Event;
use super::wire::{self, Names};
use crate::config::{ClientConfig, flatten};

/// How many objects a page of a list has.
const PAGE: u32 = 500;
/// A page or an event above this size is not read. One object has at most about 1.5 MB in etcd.
const MAX_PAGE: u64 = 256 << 20;
const MAX_EVENT: usize = 16 << 20;
/// After so many watches that failed in a row, what was missed is fetched by a new list.
const LIST_AGAIN_AFTER: u32 = 3;

/// Follows one kind until its source is dropped.
pub(super) struct Reflector {
    kind: Kind,
    fields: Option<String>,
    settings: watch::Receiver<Arc<ClientConfig>>,
    clients: Arc<Clients>,
    events: mpsc::Sender<Event>,
    timing: Timing,
    names: Names,
    /// Which of the kind's paths the server has.
    path: usize,
    /// Where to watch from. None: list first.
    version: Option<String>,
    /// Failures in a row, without any sign of life in between.
    failures: u32,
}

/// Why an attempt ended.
struct Failure {
    what: String,
    /// The known version is too old, or the server is another one.
    list_again: bool,
    /// The server refuses the credentials.
    credentials: bool,
    /// The server does not have the kind, or does not show it.
    absent: bool,
}

type Attempt<T> = Result<T, Failure>;
/// A request to the server.
enum Query<'a> {
    List(&'a ListParams),
    Watch(&'a WatchParams, &'a str),
}

type Body = Pin<Box<dyn AsyncBufRead + Send>>;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

impl Reflector {
    pub(super) fn new(
        kind: Kind,
        fields: Option<String>,
        settings: watch::Receiver<Arc<ClientConfig>>,
        clients: Arc<Clients>,
        events: mpsc::Sender<Event>,
        timing: Timing,
    ) -> Self {
        let names = Names::default();
        Self { kind, fields, settings, clients, events, timing, names, path: 0, version: None, failures: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut settings = self.settings.clone();
        loop {
            let config = settings.borrow_and_update().clone();
            let pause = tokio::select! {
                outcome = self.attempt(&config) => match outcome {
                    Ok(()) => continue,
                    Err(failure) => self.failed(failure).await,
                },
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.start_over();
                    continue;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.start_over();
                }
            }
        }
    }

    /// The server may be another one: nothing that is known of this one counts.
    fn start_over(&mut self) {
        self.version = None;
        self.path = 0;
        self.failures = 0;
    }

    /// One list if need be, and one watch to its end.
    async fn attempt(&mut self, config: &Arc<ClientConfig>) -> Attempt<()> {
        let client = self.clients.get(config).await.map_err(|error| Failure::because(error.to_string()))?;
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let version = self.list(&client).await?;
                self.version = Some(version.clone());
                version
            }
        };
        self.watch(&client, version).await
    }

    async fn list(&mut self, client: &kube::Client) -> Attempt<String> {
        let mut params =
            ListParams { limit: Some(PAGE), field_selector: self.fields.clone(), ..ListParams::default() };
        self.send(Event::ListBegins(self.kind)).await;
        loop {
            let text = match self.page(client, &params).await {
                Err(failure) if failure.absent && self.next_path() => continue,
                other => other?,
            };
            let page: Page<'_> = serde_json::from_slice(&text)
                .map_err(|error| self.failure(&format!("list: the answer is no list ({error})")))?;
            // Whatever else answers with 200, a proxy's page for one, must not pass for an empty list.
            if page.kind.strip_suffix("List") != Some(self.kind.name()) {
                return Err(self.failure(&format!("list: the answer is a {}", one_line(&page.kind))));
            }
            for item in page.items.unwrap_or_default() {
                self.put(item).await;
            }
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                    let version =
                        version.ok_or_else(|| self.failure("list: the answer has no resourceVersion"))?;
                    self.send(Event::ListEnds(self.kind)).await;
                    self.send(Event::Connected(self.kind)).await;
                    return Ok(version);
                }
            }
        }
    }

    async fn page(&self, client: &kube::Client, params: &ListParams) -> Attempt<Vec<u8>> {
        let whole = async {
            let mut body = self.open(client, Query::List(params)).await?;
            let mut text = Vec::new();
            let read = (&mut body).take(MAX_PAGE + 1).read_to_end(&mut text).await;
            read.map_err(|error| self.failure(&format!("list: the answer broke off ({})", flatten(&error))))?;
            if text.len() as u64 > MAX_PAGE {
                return Err(self.failure(&format!("list: a page of more than {MAX_PAGE} bytes is not read")));
            }
            Ok(text)
        };
        timeout(self.timing.answer * 2, whole)
            .await
            .unwrap_or_else(|_| Err(self.failure("list: no whole answer in the time allowed")))
    }

    async fn watch(&mut self, client: &kube::Client, mut version: String) -> Attempt<()> {
        let seconds = u32::try_from(self.timing.watch.as_secs().max(1)).unwrap_or(u32::MAX);
        let params = WatchParams {
            timeout: Some(seconds),
            field_selector: self.fields.clone(),
            ..WatchParams::default()
        };
        let body = timeout(self.timing.answer, self.open(client, Query::Watch(&params, &version)))
            .await
            .unwrap_or_else(|_| Err(self.failure("watch: no answer in the time allowed")))?;
        self.send(Event::Connected(self.kind)).await;

        let began = Instant::now();
        let mut lines = Lines::new(body);
        loop {
            // The server ends the watch in time; when it does not, it is not there any more.
            let line = timeout(self.timing.watch + self.timing.answer, lines.next())
                .await
                .map_err(|_| self.failure("watch: the server no longer answers"))?;
            match line.map_err(|why| self.failure(&format!("watch: {why}")))? {
                Some(line) => {
                    self.event(line, &mut version).await?;
                    self.version = Some(version.clone());
                    self.failures = 0;
                }
                // One that ends at once, again and again, must not become a busy loop.
                None if began.elapsed() < Duration::from_secs(1) => {
                    return Err(self.failure("watch: the server ended it at once"));
                }
                None => return Ok(()),
            }
        }
    }

    async fn event(&mut self, line: &[u8], version: &mut String) -> Attempt<()> {
        let unreadable = |why: String| self.failure(&format!("watch: unreadable event ({why})"));
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| unreadable(error.to_string()))?;
        if line.r#type == "ERROR" {
            let status: Status = serde_json::from_str(line.object.get()).unwrap_or_default();
            return Err(self.refused("watch", status.code, &status.message));
        }
        let head = wire::head(line.object, &mut self.names).ok_or_else(|| {
            Failure::because(format!("watch {}s: an object without a version", self.kind.name()))
        })?;
        match &*line.r#type {
            "ADDED" | "MODIFIED" => self.put(line.object).await,
            "DELETED" => self.send(Event::Gone(self.kind, head.key)).await,
            // A bookmark, or an unknown type of event: only its version counts.
            _ => {}
        }
        if !head.version.is_empty() {
            *version = head.version;
        }
        Ok(())
    }

    async fn put(&mut self, json: &RawValue) {
        let mut parser = serde_json::Deserializer::from_str(json.get());
        let event = match wire::read(self.kind, &mut parser, &mut self.names) {
            Ok(object) => Event::Put(object),
            Err(reason) => {
                let Some(head) = wire::head(json, &mut self.names) else { return };
                let object = Some(format!("{} {}", self.kind.name(), head.key));
                let reason = format!("{reason}; the version before stays in force");
                Event::Refused(
                    self.kind,
                    head.key,
                    Problem { place: "the API server".into(), object, reason },
                )
            }
        };
        self.send(event).await;
    }

    /// Sends a request, and checks the status of the answer.
    async fn open(&self, client: &kube::Client, query: Query<'_>) -> Attempt<Body> {
        let path = Request::new(self.path());
        let (verb, request) = match query {
            Query::List(params) => ("list", path.list(params)),
            Query::Watch(params, version) => ("watch", path.watch(params, version)),
        };
        let request = request.map_err(|error| self.failure(&format!("{verb}: {error}")))?;
        match client.request_stream(request).await {
            Ok(body) => Ok(Box::pin(body)),
            Err(kube::Error::Api(status)) => Err(self.refused(verb, status.code, &status.message)),
            Err(error) => Err(self.failure(&format!("{verb}: {}", explain(&flatten(&error))))),
        }
    }

    /// What follows from an answer with an error status.
    fn refused(&self, verb: &str, code: u16, message: &str) -> Failure {
        let remedy = match code {
            401 => " (check external_ids:k8s-api-token)",
            403 => " (give the account get, list and watch on it)",
            410 => " (too old for the server; listing again)",
            _ => "",
        };
        let mut failure = self.failure(&format!("{verb}: {code} {}{remedy}", one_line(message)));
        // 410: expired. 504: the version is one that the server has not reached, so it lost its past. 400: no version
        // that this server has written.
        failure.list_again = matches!(code, 400 | 404 | 410 | 504);
        failure.credentials = code == 401;
        failure.absent = code == 404 || (code == 403 && !self.kind.is_required());
        failure
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::because(format!("{}s: {what}", self.kind.name()))
    }

    /// Reports a failure; returns how long to wait.
    async fn failed(&mut self, failure: Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if failure.list_again || self.failures.is_multiple_of(LIST_AGAIN_AFTER) {
            self.version = None;
        }
        if failure.credentials {
            self.clients.forget().await;
        }
        if failure.absent {
            self.path = 0;
        }
        self.send(Event::Failed(self.kind, failure.what)).await;
        if failure.absent && !self.kind.is_required() {
            return self.timing.absent_pause;
        }
        let doubled = self.timing.first_pause * 2u32.saturating_pow((self.failures - 1).min(16));
        spread(doubled.min(self.timing.longest_pause))
    }

    async fn send(&self, event: Event) {
        // The source is dropped, and this task is about to end.
        let _ = self.events.send(event).await;
    }

    fn path(&self) -> &'static str {
        self.kind.paths().get(self.path).copied().unwrap_or_default()
    }

    /// The next older version of the kind, when there is one.
    fn next_path(&mut self) -> bool {
        let more = self.path + 1 < self.kind.paths().len();
        self.path += usize::from(more);
        more
    }
}

impl Kind {
    /// Where the kind is served, the current version first.
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Service => &["/api/v1/services"],
            // v1 came with 1.21.
            Self::Slice => {
                &["/apis/discovery.k8s.io/v1/endpointslices", "/apis/discovery.k8s.io/v1beta1/endpointslices"]
            }
            // v1 came with 1.33.
            Self::ServiceCidr => {
                &["/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1beta1/servicecidrs"]
            }
            Self::Node => &["/api/v1/nodes"],
        }
    }
}

impl Failure {
    fn because(what: impl ToString) -> Self {
        Self { what: what.to_string(), list_again: false, credentials: false, absent: false }
    }
}

/// Lines out of a stream, none longer than allowed.
struct Lines {
    body: Body,
    line: Vec<u8>,
    /// `line` was handed out, and a new one begins.
    done: bool,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self { body, line: Vec::new(), done: false }
    }

    /// The next line, or `None` at the end. An end inside a line is an error.
    async fn next(&mut self) -> Result<Option<&[u8]>, String> {
        if std::mem::take(&mut self.done) {
            self.line.clear();
        }
        loop {
            let part =
                self.body.fill_buf().await.map_err(|error| format!("it broke off ({})", flatten(&error)))?;
            if part.is_empty() {
                return match self.line.iter().all(u8::is_ascii_whitespace) {
                    true => Ok(None),
                    false => Err("it broke off inside an event".into()),
                };
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(part.len(), |at| at + 1);
            self.line.extend_from_slice(&part[..used]);
            self.body.as_mut().consume(used);
            if self.line.len() > MAX_EVENT {
                return Err(format!("an event of more than {MAX_EVENT} bytes is not read"));
            }
            if end.is_some() {
                self.done = true;
                return Ok(Some(&self.line));
            }
        }
    }
}

/// Many nodes lose a server at once and should not come back at once.
fn spread(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause.mul_f64(0.75 + f64::from(nanos % 1024) / 2048.0)
}

/// What a person can do about the errors of a connection.
fn explain(error: &str) -> String {
    let remedy = if error.contains("UnknownIssuer") || error.contains("BadSignature") {
        " (the server's certificate is not from the CA of external_ids:k8s-ca-certificate)"
    } else if error.contains("NotValidForName") {
        " (the server's certificate does not name the address in external_ids:k8s-api-server)"
    } else if error.contains("InvalidContentType") {
        " (the server does not use TLS on that port: is it http?)"
    } else {
        ""
    };
    format!("{}{remedy}", one_line(error.trim_start_matches("ServiceError: ")))
}

/// Without line ends, and cut when it is long: an answer may be a whole web page.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 300 { text.chars().take(300).chain("...".chars()).collect() } else { text }
}
