//! The control socket's own commands: what `ovs-appctl -t ovn-k8s-gateway-helper` and `ovn-k8s status` send.

use std::sync::Arc;
use std::time::Duration;

use ovs::unixctl::Server;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::status::Status;

/// How long `status` waits for fresh counters.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// A command for the helper's loop, with where to send the answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// A status with fresh counters.
    Status(oneshot::Sender<Arc<Status>>),
    /// The policy in force, as JSON.
    Policy(oneshot::Sender<String>),
    /// The desired flows, as ovs-ofctl writes them.
    Flows(oneshot::Sender<String>),
    /// Compare everything again, and report what was found.
    Reconcile(oneshot::Sender<String>),
}

/// Registers the commands.
pub(crate) fn register(
    server: &mut Server,
    requests: &mpsc::Sender<Request>,
    latest: &watch::Receiver<Arc<Status>>,
) {
    let (sender, latest) = (requests.clone(), latest.clone());
    server.register("status", "[table|json]", 0, 1, move |args| {
        let (sender, latest) = (sender.clone(), latest.clone());
        async move {
            let status = match timeout(STATUS_TIMEOUT, request(&sender, Request::Status)).await {
                Ok(Ok(status)) => status,
                // The loop waits for a switch that hangs: its last status is better than none.
                _ => latest.borrow().clone(),
            };
            match args.first().map(String::as_str) {
                None | Some("table") => Ok(status.to_string()),
                Some("json") => serde_json::to_string(&*status).map_err(|error| error.to_string()),
                Some(other) => Err(format!("\"{other}\" is not a format; write table or json")),
            }
        }
    });
    let sender = requests.clone();
    server.register("policy", "", 0, 0, move |_| {
        let sender = sender.clone();
        async move { request(&sender, Request::Policy).await }
    });
    let sender = requests.clone();
    server.register("flows", "", 0, 0, move |_| {
        let sender = sender.clone();
        async move { request(&sender, Request::Flows).await }
    });
    let sender = requests.clone();
    server.register("reconcile", "", 0, 0, move |_| {
        let sender = sender.clone();
        async move { request(&sender, Request::Reconcile).await }
    });
}

async fn request<T>(
    requests: &mpsc::Sender<Request>,
    kind: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, String> {
    let (reply, answer) = oneshot::channel();
    requests.send(kind(reply)).await.map_err(|_| "the helper is ending".to_owned())?;
    answer.await.map_err(|_| "the helper is ending".to_owned())
}
