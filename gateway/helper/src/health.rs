//! `healthCheckNodePort`: an outside load balancer learns from it whether this node has endpoints of a service
//! (Kubernetes, "Preserving the client source IP"). One small HTTP server per port.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use demux::policy::ServiceKey;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connection_limit::ConnectionLimit;
use services::{HealthCheck, HealthChecks};

/// What one port answers.
type Answer = Arc<(ServiceKey, HealthCheck)>;

/// All servers of health checks. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct HealthServers {
    address: Option<IpAddr>,
    servers: BTreeMap<u16, Server>,
    failures: BTreeMap<u16, String>,
}

#[derive(Debug)]
struct Server {
    answer: watch::Sender<Answer>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthServers {
    /// No server yet; ports will be opened on this address, or on all.
    pub(crate) fn on(address: Option<IpAddr>) -> Self {
        Self { address, ..Self::default() }
    }

    /// Makes the servers those of these checks. A port that cannot be opened is tried again at the next call.
    pub(crate) async fn reconcile(&mut self, checks: &HealthChecks) {
        self.servers.retain(|port, server| checks.contains_key(port) && !server.task.is_finished());
        self.failures.retain(|port, _| checks.contains_key(port));
        for (port, (service, check)) in checks {
            self.serve(*port, service.clone(), *check).await;
        }
    }

    /// Makes the servers of these ports those of the checks (`None`: no server); the others stay as they are.
    pub(crate) async fn update(&mut self, changes: BTreeMap<u16, Option<(ServiceKey, HealthCheck)>>) {
        for (port, check) in changes {
            if self.servers.get(&port).is_some_and(|server| server.task.is_finished()) {
                self.servers.remove(&port);
            }
            match check {
                Some((service, check)) => self.serve(port, service, check).await,
                None => {
                    self.servers.remove(&port);
                    self.failures.remove(&port);
                }
            }
        }
    }

    async fn serve(&mut self, port: u16, service: ServiceKey, check: HealthCheck) {
        let answer: Answer = Arc::new((service, check));
        if let Some(server) = self.servers.get(&port) {
            server.answer.send_replace(answer);
            return;
        }
        match bind(self.address, port).await {
            Ok(listener) => {
                self.failures.remove(&port);
                self.servers.insert(port, serve(listener, answer));
            }
            Err(error) => {
                let reason =
                    format!("port {port} for health checks of {} cannot be opened: {error}", answer.0);
                if self.failures.insert(port, reason.clone()).is_none() {
                    tracing::warn!("{reason}");
                }
            }
        }
    }

    /// Ports that could not be opened, each a sentence.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &String> {
        self.failures.values()
    }

    /// The ports that are served.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.servers.keys().copied()
    }
}

/// Both families by one socket where the node has IPv6, IPv4 alone where it has not.
async fn bind(address: Option<IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind(SocketAddr::new(address, port)).await;
    }
    match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await,
    }
}

fn serve(listener: TcpListener, answer: Answer) -> Server {
    let (sender, receiver) = watch::channel(answer);
    let router = Router::new().fallback(reply).with_state(receiver);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(ConnectionLimit::of(listener), router).await {
            tracing::warn!("a health check server ended: {error}");
        }
    });
    Server { answer: sender, task }
}

/// The layout is that of kube-proxy, which load balancers know.
async fn reply(State(answer): State<watch::Receiver<Answer>>) -> impl IntoResponse {
    let answer = answer.borrow().clone();
    let (service, check) = answer.as_ref();
    let (namespace, name) = service.0.split_once('/').unwrap_or(("", &service.0));
    let status = if check.local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": true,
    });
    (status, [("X-Load-Balancing-Endpoint-Weight", check.local_endpoints.to_string())], Json(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(port: u16) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn checks(port: u16, local_endpoints: usize) -> BTreeMap<u16, (ServiceKey, HealthCheck)> {
        BTreeMap::from([(port, (ServiceKey("default/web".into()), HealthCheck { port, local_endpoints }))])
    }

    #[tokio::test]
    async fn a_port_says_how_many_endpoints_there_are_until_it_is_taken_away() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut servers = HealthServers::default();
        opened(&mut servers, &checks(port, 2)).await;
        let answer = ask(port).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""localEndpoints":2"#), "{answer}");
        servers.reconcile(&checks(port, 0)).await;
        assert!(ask(port).await.starts_with("HTTP/1.1 503"));
        servers.reconcile(&BTreeMap::new()).await;
        assert_eq!(servers.ports().count(), 0);
    }

    #[tokio::test]
    async fn an_address_that_was_asked_for_is_the_only_one() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut servers = HealthServers::on(Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
        opened(&mut servers, &checks(port, 1)).await;
        assert!(ask(port).await.starts_with("HTTP/1.1 200"));
        assert!(tokio::net::TcpStream::connect(("127.0.0.2", port)).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said_and_tried_again() {
        let taken = TcpListener::bind("[::]:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut servers = HealthServers::default();
        servers.reconcile(&checks(port, 1)).await;
        assert_eq!(servers.failures().count(), 1);
        drop(taken);
        opened(&mut servers, &checks(port, 1)).await;
        assert_eq!((servers.failures().count(), servers.ports().count()), (0, 1));
    }

    /// A program that another test starts has a copy of a listener that was closed here, until its exec.
    async fn opened(servers: &mut HealthServers, checks: &BTreeMap<u16, (ServiceKey, HealthCheck)>) {
        for _ in 0..3_000 {
            servers.reconcile(checks).await;
            if servers.failures().count() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:?}", servers.failures().collect::<Vec<_>>());
    }
}
