//! The host's part as a task of its own: an nft change takes some ten milliseconds, and no flow should wait for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use demux::policy::ServiceKey;
use ovs::vlog::repeat::Repeat;
use services::ServiceHostRows;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::host_paths::{ConvergeReport, HostInputs, HostPaths, NftChange};
use crate::metrics::Metrics;

/// How often everything is tried again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often the nft table is compared element by element though nothing changed.
const FULL_COMPARISON: Duration = Duration::from_secs(300);

/// How the host's part is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostStatus {
    /// Everything desired is in force.
    pub(crate) in_force: bool,
    /// Changes made so far.
    pub(crate) changes: u64,
    /// What went wrong last, while it does.
    pub(crate) error: Option<String>,
    /// What is left out for lack of a setting, a device or a feature, or because a foreign route has its place.
    pub(crate) left_out: Vec<String>,
}

/// An order to the task.
#[derive(Debug)]
pub(crate) enum HostOrder {
    /// Something else is desired, as a whole.
    Replace(HostInputs),
    /// Something else is desired of these Services.
    Services(Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)>),
    /// Check whether the kernel still holds what is desired.
    Recheck,
}

/// The handle of the task.
#[derive(Debug)]
pub(crate) struct HostTask {
    orders: mpsc::UnboundedSender<HostOrder>,
    status: watch::Receiver<HostStatus>,
}

impl HostTask {
    /// Starts the task on the current runtime.
    pub(crate) fn spawn(state_dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(HostStatus::default());
        tokio::spawn(
            Worker {
                state_dir,
                metrics,
                publish,
                inputs: None,
                changed: None,
                paths: None,
                errors: Repeat::new("host paths"),
            }
            .run(inbox),
        );
        Self { orders, status }
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> HostStatus {
        self.status.borrow().clone()
    }

    /// Resolves when its status changed.
    pub(crate) async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Something else is desired, as a whole.
    pub(crate) fn set(&self, inputs: HostInputs) {
        self.order(HostOrder::Replace(inputs));
    }

    /// Something else is desired of these Services.
    pub(crate) fn set_services(&self, rows: Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)>) {
        self.order(HostOrder::Services(rows));
    }

    /// Checks whether the kernel still holds what is desired.
    pub(crate) fn recheck(&self) {
        self.order(HostOrder::Recheck);
    }

    fn order(&self, order: HostOrder) {
        // The task ends with the helper only.
        let _ = self.orders.send(order);
    }
}

/// The task itself.
struct Worker {
    state_dir: PathBuf,
    metrics: Arc<Metrics>,
    publish: watch::Sender<HostStatus>,
    inputs: Option<HostInputs>,
    /// The Services that changed since the last pass; `None`: as a whole.
    changed: Option<BTreeSet<ServiceKey>>,
    paths: Option<HostPaths>,
    errors: Repeat,
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<HostOrder>) {
        loop {
            let pause = if self.publish.borrow().error.is_some() { RETRY } else { FULL_COMPARISON };
            let order = match timeout(pause, inbox.recv()).await {
                Ok(Some(order)) => order,
                Ok(None) => return,
                Err(_) => {
                    self.forget_table();
                    HostOrder::Recheck
                }
            };
            self.take(order);
            // Orders that came meanwhile are carried out in one pass.
            while let Ok(order) = inbox.try_recv() {
                self.take(order);
            }
            self.converge().await;
        }
    }

    fn take(&mut self, order: HostOrder) {
        match order {
            HostOrder::Replace(inputs) => {
                self.inputs = Some(inputs);
                self.changed = None;
            }
            HostOrder::Services(rows) => {
                let Some(inputs) = &mut self.inputs else { return };
                for (key, rows) in rows {
                    if let Some(changed) = &mut self.changed {
                        changed.insert(key.clone());
                    }
                    match rows {
                        Some(rows) => inputs.services.insert(key, rows),
                        None => inputs.services.remove(&key),
                    };
                }
            }
            HostOrder::Recheck => {}
        }
    }

    fn forget_table(&mut self) {
        if let Some(paths) = &mut self.paths {
            paths.forget_table();
        }
    }

    async fn converge(&mut self) {
        let Some(inputs) = &self.inputs else { return };
        if self.paths.is_none() {
            match HostPaths::open(&self.state_dir) {
                Ok(paths) => self.paths = Some(paths),
                Err(error) => return self.report(Some(error.to_string()), 0, Vec::new()),
            }
        }
        let Some(paths) = &mut self.paths else { return };
        let changed = self.changed.replace(BTreeSet::new());
        let report = paths.converge(inputs, changed.as_ref()).await;
        let error = report.failed.first().map(ToString::to_string);
        let changes = changes(&report);
        let mut left_out = report.left_out;
        left_out.extend(report.plan.notes);
        self.report(error, changes, left_out);
    }

    fn report(&mut self, error: Option<String>, changes: u64, left_out: Vec<String>) {
        match &error {
            Some(error) => drop(self.errors.failed(error)),
            None => self.errors.recovered(),
        }
        if changes > 0 {
            tracing::info!("host paths: {changes} changes of routes, nft elements and sysctls");
            self.metrics.host_changes.inc_by(changes);
        }
        let before = self.publish.borrow().clone();
        let status =
            HostStatus { in_force: error.is_none(), changes: before.changes + changes, error, left_out };
        self.publish.send_if_modified(|now| {
            let differs = *now != status;
            *now = status;
            differs
        });
    }
}

fn changes(report: &ConvergeReport) -> u64 {
    let plan = &report.plan;
    let nft = match &plan.nft {
        NftChange::None => 0,
        NftChange::Elements(elements) => elements.len(),
        NftChange::Rules(rules, elements) | NftChange::Replace(rules, elements) => {
            rules.len() + elements.len()
        }
    };
    (plan.sysctls.len() + plan.routes.len() + nft) as u64
}
