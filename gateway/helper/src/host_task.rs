//! The host's part as a task of its own: an nft change costs some ten milliseconds, for which no flow should wait.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use demux::policy::ServiceKey;
use ovs::vlog::repeat::Repeat;
use services::ServiceHostRows;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::metrics::Metrics;
use crate::host_paths::{ConvergeReport, HostInputs, HostPaths, NftChange};

/// After a failure everything is looked at again so often.
const RETRY: Duration = Duration::from_secs(5);
/// However quiet it is, the nft table is compared element by element so often.
const FULL_LOOK: Duration = Duration::from_secs(300);

/// How the host's part is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostStatus {
    /// Everything wanted is in force.
    pub(crate) in_force: bool,
    /// Changes made so far.
    pub(crate) changes: u64,
    /// What went wrong last, while it does.
    pub(crate) error: Option<String>,
    /// What is left out for want of a setting, a device or a feature, or is in somebody else's hands.
    pub(crate) left_out: Vec<String>,
}

/// An order to the task.
#[derive(Debug)]
pub(crate) enum HostOrder {
    /// Want something else as a whole.
    Set(HostInputs),
    /// Want something else of these services.
    Services(Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)>),
    /// Look whether all is still as wanted.
    LookAgain,
}

/// The handle of the task.
#[derive(Debug)]
pub(crate) struct HostTask {
    orders: mpsc::UnboundedSender<HostOrder>,
    state: watch::Receiver<HostStatus>,
}

impl HostTask {
    /// Starts the task on the current runtime.
    pub(crate) fn spawn(state_dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (tell, state) = watch::channel(HostStatus::default());
        tokio::spawn(
            Worker {
                state_dir,
                metrics,
                tell,
                inputs: None,
                paths: None,
                trouble: Repeat::new("host paths"),
            }
            .run(inbox),
        );
        Self { orders, state }
    }

    /// How it is doing.
    pub(crate) fn state(&self) -> HostStatus {
        self.state.borrow().clone()
    }

    /// Resolves when its state changed.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Wants something else as a whole.
    pub(crate) fn set(&self, inputs: Option<HostInputs>) {
        if let Some(inputs) = inputs {
            self.order(HostOrder::Set(inputs));
        }
    }

    /// Wants something else of these services.
    pub(crate) fn set_services(&self, rows: Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)>) {
        self.order(HostOrder::Services(rows));
    }

    /// Looks whether all is still as wanted.
    pub(crate) fn look_again(&self) {
        self.order(HostOrder::LookAgain);
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
    tell: watch::Sender<HostStatus>,
    inputs: Option<HostInputs>,
    paths: Option<HostPaths>,
    trouble: Repeat,
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<HostOrder>) {
        loop {
            let pause = if self.tell.borrow().error.is_some() { RETRY } else { FULL_LOOK };
            let order = match timeout(pause, inbox.recv()).await {
                Ok(Some(order)) => order,
                Ok(None) => return,
                Err(_) => {
                    self.look_at_all();
                    HostOrder::LookAgain
                }
            };
            self.take(order);
            // What came meanwhile is done in one pass.
            while let Ok(order) = inbox.try_recv() {
                self.take(order);
            }
            self.converge().await;
        }
    }

    fn take(&mut self, order: HostOrder) {
        match order {
            HostOrder::Set(inputs) => self.inputs = Some(inputs),
            HostOrder::Services(rows) => {
                let Some(inputs) = &mut self.inputs else { return };
                for (key, rows) in rows {
                    match rows {
                        Some(rows) => inputs.services.insert(key, rows),
                        None => inputs.services.remove(&key),
                    };
                }
            }
            HostOrder::LookAgain => {}
        }
    }

    fn look_at_all(&mut self) {
        if let Some(paths) = &mut self.paths {
            paths.forget_table();
        }
    }

    async fn converge(&mut self) {
        let Some(inputs) = &self.inputs else { return };
        if self.paths.is_none() {
            match HostPaths::open(&self.state_dir) {
                Ok(paths) => self.paths = Some(paths),
                Err(error) => return self.said(Some(error.to_string()), 0, Vec::new()),
            }
        }
        let Some(paths) = &mut self.paths else { return };
        let report = paths.converge(inputs).await;
        let error = report.failed.first().map(ToString::to_string);
        let changes = changes(&report);
        let mut left_out = report.left_out;
        left_out.extend(report.plan.notes);
        self.said(error, changes, left_out);
    }

    fn said(&mut self, error: Option<String>, changes: u64, left_out: Vec<String>) {
        match &error {
            Some(error) => drop(self.trouble.failed(error)),
            None => self.trouble.recovered(),
        }
        if changes > 0 {
            tracing::info!("host paths: {changes} changes of routes, nft rows and sysctls");
            self.metrics.host_changes.inc_by(changes);
        }
        let before = self.tell.borrow().clone();
        let state =
            HostStatus { in_force: error.is_none(), changes: before.changes + changes, error, left_out };
        self.tell.send_if_modified(|now| {
            let differs = *now != state;
            *now = state;
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
