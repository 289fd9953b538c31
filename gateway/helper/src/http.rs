//! `/metrics`, `/healthz` and `/readyz` on `--metrics-address`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::connection_limit::ConnectionLimit;
use crate::metrics::Metrics;
use crate::status::Status;

/// What the pages are made from.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The status.
    pub(crate) status: watch::Receiver<Arc<Status>>,
}

/// Opens the address.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves the pages until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(pages);
    if let Err(error) = axum::serve(ConnectionLimit::of(listener), router).await {
        tracing::warn!("the metrics server ended: {error}");
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    pages.metrics.record(&pages.status.borrow());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.text())
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let status = pages.status.borrow();
    if status.ready {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut reasons = status.problems.join("\n");
    reasons.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, reasons)
}
