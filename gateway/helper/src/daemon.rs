//! The helper's loop: read all sources, decide, write what differs; again whenever something changed.
//!
//! [`Daemon`] holds values (what is known, what is desired, when what is due) and the parts that act. What a pass does
//! is decided in [`crate::desired`], [`crate::pass`] and [`crate::schedule`], which are pure.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use flows::Rendering;
use kubernetes::Batch;
use ovs::openflow::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use uplink::failover::Failover;

use crate::bridge::{BridgeView, patch_names};
use crate::cache::PolicyCache;
use crate::control::Request;
use crate::desired::{Desired, desired};
use crate::facts::{Facts, Reading};
use crate::flow_sync::{FlowSync, WriteScope};
use crate::health::HealthServers;
use crate::host_paths::{HostInputs, sockets_in_range};
use crate::host_task::HostTask;
use crate::metrics::Metrics;
use crate::pass::{self, HostStep, PassInput, ServicesOrigin};
use crate::report;
use crate::restore_wait;
use crate::schedule::{Due, Schedule, TICK};
use crate::service_state::ServiceState;
use crate::settings::Settings;
use crate::sources::{SourceEvent, Sources};
use crate::status::Status;
use crate::switch_upkeep::SwitchUpkeep;

/// From a change of devices, addresses or routes to the pass: they come in bursts.
const DEVICES: Duration = Duration::from_millis(50);
/// How soon a switch is read again that has not created all its ports yet.
const PORTS: Duration = Duration::from_millis(50);
/// How soon the next step follows while ovs-vswitchd waits for flows.
const RESTART: Duration = Duration::from_millis(200);

/// The running helper.
#[derive(Debug)]
pub(crate) struct Daemon {
    settings: Settings,
    sources: Sources,
    requests: Requests,
    facts: Facts,
    desired: Option<Desired>,
    services: ServiceState,
    schedule: Schedule,
    flows: FlowSync,
    switch: SwitchUpkeep,
    host: HostTask,
    health: HealthServers,
    failover: Failover,
    outputs: Outputs,
}

/// What other tasks send to the loop.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Commands of the control socket.
    pub(crate) commands: mpsc::Receiver<Request>,
    /// Management moved, or its state changed.
    pub(crate) failover: watch::Receiver<()>,
}

/// Where the loop publishes its state, and keeps what its successor needs.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The status.
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The last policy, in the state folder.
    pub(crate) cache: PolicyCache,
}

/// Why the loop woke up.
enum Wake {
    Source(SourceEvent),
    SwitchLost,
    Drift,
    Command(Request),
    StatusChanged,
    Tick,
    Due,
    Stop,
}

impl Daemon {
    /// A helper that has done nothing yet.
    pub(crate) fn new(
        settings: Settings,
        sources: Sources,
        requests: Requests,
        failover: Failover,
        outputs: Outputs,
    ) -> Self {
        let address = format!("unix:{}", settings.paths.bridge_mgmt(&settings.bridge).display());
        Self {
            facts: Facts::at_start(outputs.cache.load_split(), outputs.cache.load_router()),
            desired: None,
            services: ServiceState::default(),
            schedule: Schedule::new(Instant::now()),
            flows: FlowSync::new(address),
            switch: SwitchUpkeep::default(),
            host: HostTask::spawn(settings.state_dir.clone(), outputs.metrics.clone()),
            health: HealthServers::on(settings.health_check_address),
            settings,
            sources,
            requests,
            failover,
            outputs,
        }
    }

    /// Runs until `stop` resolves. What is on the bridge and in the kernel stays in force afterwards.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pass(false).await;
        loop {
            match self.next(&mut tick, &mut stop).await {
                Wake::Stop => break,
                Wake::Source(SourceEvent::Objects(batch)) => self.services_changed(batch).await,
                Wake::Source(SourceEvent::Database) => self.pass(false).await,
                Wake::Source(SourceEvent::Devices) => self.schedule.pass_within(Instant::now(), DEVICES),
                Wake::SwitchLost => self.switch_lost().await,
                Wake::Drift => self.schedule.drift_seen(Instant::now()),
                Wake::Command(request) => self.answer(request).await,
                Wake::StatusChanged => self.publish(),
                Wake::Tick => self.tick().await,
                Wake::Due => {
                    if let Some(due) = self.schedule.due(Instant::now()) {
                        self.carry_out(due).await;
                    }
                }
            }
        }
        self.end().await;
    }

    async fn next(
        &mut self,
        tick: &mut tokio::time::Interval,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Wake {
        let lost = self.flows.closed();
        let drift = self.flows.drifted();
        let due = until(self.schedule.next_wakeup());
        tokio::select! {
            () = stop => Wake::Stop,
            () = lost => Wake::SwitchLost,
            () = drift => Wake::Drift,
            event = self.sources.next() => Wake::Source(event),
            () = self.host.changed() => Wake::StatusChanged,
            Ok(()) = self.requests.failover.changed() => Wake::StatusChanged,
            Some(request) = self.requests.commands.recv() => Wake::Command(request),
            () = due => Wake::Due,
            _ = tick.tick() => Wake::Tick,
        }
    }

    async fn carry_out(&mut self, due: Due) {
        match due {
            Due::Pass => self.pass(false).await,
            Due::Comparison => {
                self.schedule.comparison_begun();
                if self.flows.rendering().is_none() {
                    // What the bridge waited with at the start may be gone: a pass finds out.
                    self.pass(false).await;
                } else {
                    self.compare(self.write_scope(), true, Clock::now()).await;
                    self.publish();
                }
            }
            Due::Publish => self.publish(),
            Due::Cache => self.write_cache(),
        }
    }

    async fn tick(&mut self) {
        let compare_all = self.schedule.full_comparison_due(Instant::now());
        if self.flows.converged() {
            match self.flows.count_matches().await {
                Ok(true) => {}
                Ok(false) => self.compare(self.write_scope(), true, Clock::now()).await,
                Err(error) => self.flows_failed(&error),
            }
        }
        if self.flows.converged() && self.schedule.take_counters_due(Instant::now()) {
            self.read_counters().await;
        }
        self.pass(compare_all).await;
        if self.health.failures().next().is_some() {
            self.health.reconcile(&self.services.health_checks()).await;
        }
    }

    async fn switch_lost(&mut self) {
        tracing::warn!(
            "the connection to the switch is lost: ovs-vswitchd ended or {} was deleted",
            self.settings.bridge
        );
        self.outputs.metrics.switch_restarts.inc();
        self.failover.set_flows_installed(false);
        self.flows.disconnect();
        self.switch.disconnected();
        self.pass(false).await;
    }

    /// Changed Services: the short way, whose cost is that of the grants that change.
    async fn services_changed(&mut self, batch: Batch) {
        let began = Clock::now();
        if !self.sources.objects.synced() || self.services.origin() != ServicesOrigin::Objects {
            self.pass(false).await;
            return;
        }
        let changes = self.services.update(&batch.changed, &self.sources.objects);
        if !changes.granted.is_empty() {
            let (mut rules, mut rows) = (Vec::new(), Vec::new());
            for (key, granted) in changes.granted {
                rules.push((key.clone(), granted.rules));
                rows.push((key, granted.host));
            }
            match self.flows.set_services(rules).await {
                Ok(changed) => {
                    self.outputs.metrics.programmed(changed, began.elapsed());
                    tracing::debug!("{changed} flows changed in {} us", began.elapsed().as_micros());
                }
                Err(error) => self.flows_failed(&error),
            }
            self.host.set_services(rows);
            self.schedule.cache_soon(Instant::now());
        }
        self.health.update(changes.health_checks).await;
        if batch.cidrs_changed || batch.node_changed || !self.flows.converged() {
            self.pass(false).await;
        } else {
            self.schedule.publish_soon(Instant::now());
        }
    }

    /// Reads all sources and writes what differs. `compare_all`: also flows that nothing seems to have changed.
    async fn pass(&mut self, compare_all: bool) {
        let began = Clock::now();
        self.schedule.pass_begun(Instant::now());
        self.observe().await;
        self.switch.create_patch(&self.facts.bridge, &self.sources.local).await;
        let desired = self.decide();
        let flows_found = self.flows_found().await;
        let plan = pass::plan(&PassInput {
            before: self.desired.as_ref(),
            desired: &desired,
            rendered: self
                .flows
                .rendering()
                .map(|rendering| (&rendering.policy().split, rendering.context())),
            services: self.services.origin(),
            known: self.sources.known(&self.facts.bridge),
            uptime: self.uptime(),
            flows_found,
            host_due: self.schedule.host_due,
        });
        if plan.rebuild_services {
            self.services.rebuild(desired.node.clone(), &self.sources.objects);
        }
        if plan.render {
            let policy = self.services.policy(desired.split.clone(), &self.outputs.cache);
            self.flows.set_desired(Rendering::new(policy, desired.datapath));
            self.schedule.cache_soon(Instant::now());
        }
        self.desired = Some(desired);
        match plan.scope {
            Some(scope) => self.compare(scope, compare_all, began).await,
            None => {
                let left = pass::START_GRACE.saturating_sub(self.uptime());
                self.schedule.pass_within(Instant::now(), left);
            }
        }
        self.schedule.host_due = plan.host == HostStep::Postpone;
        match plan.host {
            HostStep::Replace => self.hand_over_host().await,
            HostStep::Postpone | HostStep::Recheck => self.host.recheck(),
        }
        self.follow_restart().await;
        if self.flows.is_connected() {
            self.switch.pin_mac(&self.facts.bridge, &self.settings, self.flows.address()).await;
        }
        self.publish();
    }

    /// What is desired now. A port range that replaces another rule makes connections drain.
    fn decide(&mut self) -> Desired {
        let now = desired(&self.facts, &self.settings);
        if !self.facts.begins_to_drain(&now.split, self.flows.converged()) {
            return now;
        }
        self.facts.draining = true;
        self.schedule.postpone_conntrack(Instant::now());
        desired(&self.facts, &self.settings)
    }

    async fn observe(&mut self) {
        let snapshot = self.sources.local.db.snapshot();
        let mut bridge = BridgeView::of(&snapshot, &self.settings.bridge, &self.settings.interface);
        // Before anything is waited for: the failover's facts must not be as old as a switch is slow.
        self.report_bridge(&bridge);
        self.read_ports(&mut bridge).await;
        self.sources.follow(&bridge, &self.settings);
        self.facts.update(Reading {
            router: self.sources.router(),
            service_cidrs: self.sources.objects.service_cidrs(),
            addresses: self.sources.addresses().await,
            reaches: self.sources.servers(&bridge, &self.settings),
            rendered: self.flows.rendering().map(|rendering| rendering.policy().split.clone()),
            bridge,
        });
        self.facts.sockets_in_range = self.sockets_in_range();
        if self.facts.bridge.present && self.schedule.take_conntrack_due(Instant::now()) {
            let pods = self.facts.pods_range(&self.settings);
            if let Some(conntrack) = self.switch.count_conntrack(&self.settings, pods).await {
                self.facts.draining = conntrack.pods_outside > 0;
            }
        }
    }

    /// Port numbers in the database are those of before a restart until ovs-vswitchd has written new ones; the switch
    /// itself knows them.
    async fn read_ports(&mut self, bridge: &mut BridgeView) {
        if !bridge.present || bridge.mac.is_none() {
            return;
        }
        match self.flows.connect().await {
            Ok(true) => self.switch.connected(bridge, self.uptime()),
            Ok(false) => {}
            Err(error) => self.flows_failed(&error),
        }
        match self.flows.ports().await {
            Ok(Some(ports)) => {
                let number = |name: &str| ports.iter().find(|port| port.name == name).map(|port| port.number);
                let overlay = patch_names(&bridge.name).0;
                let slots = [(&mut bridge.uplink, &self.settings.interface), (&mut bridge.overlay, &overlay)];
                for (slot, name) in slots {
                    match (*slot, number(name)) {
                        (Some(_), Some(now)) => *slot = Some(now),
                        // A switch that has just started creates its ports one by one.
                        (Some(_), None) => self.schedule.pass_within(Instant::now(), PORTS),
                        (None, _) => {}
                    }
                }
            }
            Ok(None) => {}
            Err(error) => self.flows_failed(&error),
        }
    }

    /// Sockets of the host that the partitioned rule would cut off.
    fn sockets_in_range(&self) -> Vec<String> {
        let Some(range) = self.facts.range_to_free(&self.settings) else { return Vec::new() };
        match sockets_in_range(&self.facts.addresses_that_may_be_shared(&self.settings), range) {
            Ok(sockets) => sockets.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("the host's sockets cannot be listed: {error}")],
        }
    }

    /// Whether a bridge that was not compared yet has flows of ours.
    async fn flows_found(&mut self) -> bool {
        if self.flows.rendering().is_some() {
            return false;
        }
        match self.flows.has_flows().await {
            Ok(found) => found,
            Err(error) => {
                self.flows_failed(&error);
                false
            }
        }
    }

    /// Compares and writes flows where that is due. `began`: when the change was seen that led here, for what is
    /// reported of the time it took.
    async fn compare(&mut self, scope: WriteScope, compare_all: bool, began: Clock) {
        if !self.flows.is_connected() {
            return;
        }
        let expected = !self.flows.converged();
        if !expected && !compare_all {
            self.schedule.flows_recovered();
            return;
        }
        let (zone, adopt) = (self.settings.policy.zone, self.settings.adopt);
        let found = match self.flows.compare(scope, zone, adopt).await {
            Ok(found) => found,
            Err(error) => return self.flows_failed(&error),
        };
        let took = began.elapsed();
        self.schedule.compared(Instant::now());
        if found.changed > 0 {
            self.outputs.metrics.programmed(found.changed, took);
        }
        match (found.changed, expected) {
            (0, true) if scope == WriteScope::Whole => {
                tracing::info!("{} flows are as desired, adopted in {} ms", found.same, took.as_millis());
            }
            (0, _) => {}
            (changed, true) => tracing::info!(
                "{changed} flows changed, {} were right, in {} ms",
                found.same,
                took.as_millis()
            ),
            (changed, false) => {
                self.outputs.metrics.drift_repaired.inc_by(changed as u64);
                tracing::warn!("{changed} flows had drifted and are restored");
            }
        }
        if scope == WriteScope::Whole {
            self.schedule.flows_recovered();
        } else {
            self.schedule.pass_within(Instant::now(), pass::SOURCES_RETRY);
        }
    }

    async fn hand_over_host(&mut self) {
        if let Some(desired) = &self.desired {
            let services = self.services.host_rows();
            self.host.set(HostInputs { node: desired.host.clone(), services });
        }
        self.health.reconcile(&self.services.health_checks()).await;
    }

    async fn follow_restart(&mut self) {
        let bridge = &self.facts.bridge;
        if !bridge.present || bridge.userspace || !self.settings.restore_wait {
            return;
        }
        let (in_force, uptime) = (self.flows.converged(), self.uptime());
        let paths = &self.settings.paths;
        if self.switch.follow_restart(bridge, &self.sources.local, paths, in_force, uptime).await {
            self.schedule.pass_within(Instant::now(), RESTART);
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                self.read_counters().await;
                self.publish();
                let _ = reply.send(self.outputs.status.borrow().clone());
            }
            Request::Policy(reply) => {
                let rendering = self.flows.rendering();
                let json = rendering.and_then(|rendering| serde_json::to_string(rendering.policy()).ok());
                let _ = reply.send(json.unwrap_or_default());
            }
            Request::Flows(reply) => {
                let _ = reply.send(self.flows.rendering().map(report::flow_text).unwrap_or_default());
            }
            Request::Reconcile(reply) => {
                self.pass(true).await;
                let text = format!(
                    "{} flows desired, in force: {}\n",
                    self.flows.desired_len(),
                    self.flows.converged()
                );
                let _ = reply.send(text);
            }
        }
    }

    async fn read_counters(&mut self) {
        if let Err(error) = self.flows.read_counters().await {
            self.flows_failed(&error);
        }
    }

    fn publish(&mut self) {
        self.schedule.published();
        self.report_bridge(&self.facts.bridge);
        self.failover.set_flows_installed(self.flows.converged());
        let status = report::status(&report::State {
            settings: &self.settings,
            sources: &self.sources,
            facts: &self.facts,
            desired: self.desired.as_ref(),
            services: &self.services,
            flows: &self.flows,
            switch: &self.switch,
            host: self.host.status(),
            health: &self.health,
            management: self.failover.status(),
            metrics: &self.outputs.metrics,
        });
        self.outputs.metrics.record(&status);
        self.outputs.status.send_replace(Arc::new(status));
    }

    /// Gives the failover what the database holds of the bridge.
    fn report_bridge(&self, bridge: &BridgeView) {
        self.failover.set_marked(bridge.taken);
        self.failover.set_bridge(bridge.present && bridge.userspace, bridge.uplink_listed);
    }

    fn flows_failed(&mut self, error: &Error) {
        self.flows.failed(error);
        self.schedule.flows_failed(Instant::now());
    }

    fn write_scope(&self) -> WriteScope {
        pass::write_scope(self.sources.known(&self.facts.bridge), self.uptime())
    }

    fn uptime(&self) -> Duration {
        self.schedule.uptime(Instant::now())
    }

    /// Only what is really known is kept: a policy from the cache would outlive its truth.
    fn write_cache(&mut self) {
        self.schedule.cache_written();
        let known = self.write_scope() == WriteScope::Whole && self.facts.knows_addresses();
        if let Some(rendering) = self.flows.rendering().filter(|_| known) {
            let policy = rendering.policy().clone();
            self.outputs.cache.store_in_background(policy, self.facts.router.clone());
        }
    }

    async fn end(mut self) {
        if self.schedule.cache_pending() {
            self.write_cache();
        }
        if restore_wait::is_ours(&self.facts.bridge) {
            // No helper would remove the key after a reboot.
            self.switch.set_restore_wait(&self.sources.local, false).await;
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
