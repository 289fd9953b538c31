//! The helper's loop: look at the world, decide, compare, mend; again whenever something says "look again".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demux::policy::Policy;
use host::rtnl::asynchronous::AsyncSocket;
use kubernetes::{Batch, Source};
use ovs::ovsdb::{Remote, TlsFiles};
use ovs::paths::Paths;
use ovs::vlog::repeat::Repeat;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::backoff::Backoff;
use super::bridge::BridgeView;
use super::cache::PolicyCache;
use super::control::Request;
use super::database::FollowedDatabase;
use super::facts::{Facts, Wanted};
use super::flags::HelperArgs;
use super::flow_sync::Switch;
use super::health::HealthServers;
use super::host_task::HostTask;
use super::metrics::Metrics;
use super::restore_wait::{self, Phase};
use super::settings::Settings;
use super::status::Status;
use super::{report, vswitchd};
use services::{Catalogue, Changes};
use uplink::failover::Failover;

/// How often drift is looked for by count, and everything is looked at again.
const TICK: Duration = Duration::from_secs(5);
/// How often all flows are compared one by one.
const FULL_COMPARISON: Duration = Duration::from_secs(120);
/// Between news of devices, addresses and routes and the look at them.
const NETLINK: Duration = Duration::from_millis(50);
/// How old the counters by rule may be that are scraped.
const COUNTERS: Duration = Duration::from_secs(30);
/// Between somebody else's change of a flow and the comparison.
const DRIFT: Duration = Duration::from_millis(200);
/// After changed services the state is told so soon.
const TELL: Duration = Duration::from_millis(100);
/// While vswitchd waits for flows, and while something is not in force yet.
pub(crate) const CLOSE_WATCH: Duration = Duration::from_millis(200);

/// What the loop is given.
#[derive(Debug)]
pub(crate) struct HelperParts {
    /// What was told.
    pub(crate) settings: Settings,
    /// The command line, for what depends on the database as well.
    pub(crate) flags: HelperArgs,
    /// Where sockets are.
    pub(crate) paths: Paths,
    /// The local database.
    pub(crate) local: FollowedDatabase,
    /// The northbound database, where told.
    pub(crate) nb: Vec<Remote>,
    /// Key and certificates for it.
    pub(crate) tls: Option<TlsFiles>,
    /// Kubernetes objects.
    pub(crate) source: Source,
    /// The host's devices.
    pub(crate) netlink: AsyncSocket,
    /// News of them.
    pub(crate) netlink_news: watch::Receiver<u64>,
    /// The host's part.
    pub(crate) host: HostTask,
    /// Who keeps management alive when the switch is not.
    pub(crate) failover: Failover,
    /// News of where management is.
    pub(crate) failover_news: watch::Receiver<()>,
    /// Orders from the control socket.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Where the state is told.
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// The numbers.
    pub(crate) metrics: Arc<Metrics>,
}

/// The helper at work.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) parts: HelperParts,
    pub(crate) northbound: Option<(String, FollowedDatabase)>,
    pub(crate) northbound_error: Option<String>,
    pub(crate) catalogue: Catalogue,
    pub(crate) switch: Switch,
    pub(crate) health: HealthServers,
    pub(crate) facts: Facts,
    pub(crate) wanted: Option<Wanted>,
    pub(crate) conntrack: vswitchd::Conntrack,
    pub(crate) conntrack_known: bool,
    pub(crate) from_cache: bool,
    pub(crate) catalogue_built: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) cache: PolicyCache,
    pub(crate) cached: Option<Policy>,
    pub(crate) cache_due: Option<TokioInstant>,
    pub(crate) again: Option<TokioInstant>,
    tell_due: Option<TokioInstant>,
    drift_due: Option<TokioInstant>,
    pub(crate) phase: Phase,
    pub(crate) integration_before: Option<(u32, Instant)>,
    pub(crate) started: Instant,
    pub(crate) patch_tried: u64,
    pub(crate) retry: Backoff,
    pub(crate) last_full: Instant,
    last_count: Instant,
    pub(crate) last_conntrack: Option<Instant>,
    pub(crate) pinned: bool,
    pub(crate) trouble: Repeat,
    pub(crate) restore_trouble: Repeat,
    pub(crate) pin_trouble: Repeat,
    pub(crate) host_due: bool,
    pub(crate) warned_conntrack: bool,
    pub(crate) api_settings: BTreeMap<String, String>,
}

/// Why the loop was woken.
enum Wake {
    Services(Batch),
    World,
    Netlink,
    SwitchLost,
    Drift,
    DriftDue,
    Request(Request),
    Tick,
    Backoff,
    CacheDue,
    TellDue,
    Stop,
}

impl Helper {
    /// A helper that has done nothing yet.
    pub(crate) fn new(parts: HelperParts) -> Self {
        let address = format!("unix:{}", parts.paths.bridge_mgmt(&parts.settings.bridge).display());
        let cache = PolicyCache::new(&parts.settings.state_dir, &parts.settings.bridge);
        let cached = cache.load();
        let last = cached.as_ref().map(|policy| policy.split.clone());
        let facts = Facts {
            draining: last.as_ref().is_some_and(|last| last.partition().is_some() && last.tracks()),
            last,
            router_before: cache.load_router(),
            ..Facts::default()
        };
        Helper {
            northbound: None,
            northbound_error: None,
            catalogue: Catalogue::default(),
            switch: Switch::new(address),
            health: HealthServers::on(parts.settings.health_check_address),
            facts,
            wanted: None,
            conntrack: vswitchd::Conntrack::default(),
            conntrack_known: false,
            from_cache: false,
            catalogue_built: false,
            last_error: None,
            cache,
            cached,
            cache_due: None,
            again: None,
            tell_due: None,
            drift_due: None,
            phase: Phase::Working,
            integration_before: None,
            started: Instant::now(),
            patch_tried: 0,
            retry: Backoff::default(),
            last_full: Instant::now(),
            last_count: Instant::now(),
            last_conntrack: None,
            pinned: false,
            trouble: Repeat::new("flows"),
            restore_trouble: Repeat::new("flow-restore-wait cannot be changed"),
            pin_trouble: Repeat::new("further ports"),
            host_due: false,
            warned_conntrack: false,
            api_settings: BTreeMap::new(),
            parts,
        }
    }

    /// Works until told to stop. What is on the bridge and in the kernel stays in force afterwards.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.reconcile(false).await;
        loop {
            let wake = self.next(&mut tick, &mut stop).await;
            match wake {
                Wake::Stop => break,
                Wake::Services(batch) => self.services(batch).await,
                Wake::World | Wake::Backoff => self.reconcile(false).await,
                // Devices and routes change in bursts: one look for all of them.
                Wake::Netlink => self.look_again_in(NETLINK),
                Wake::Tick => {
                    let whole = self.last_full.elapsed() >= FULL_COMPARISON;
                    self.look_for_drift().await;
                    if self.last_count.elapsed() >= COUNTERS && self.switch.converged() {
                        self.last_count = Instant::now();
                        if let Err(error) = self.switch.count().await {
                            self.failed(&error);
                        }
                    }
                    self.reconcile(whole).await;
                    if self.health.failures().next().is_some() {
                        self.health.reconcile(&self.catalogue.health_checks()).await;
                    }
                }
                Wake::SwitchLost => {
                    tracing::warn!(
                        "the connection to the switch is lost: ovs-vswitchd ended or {} was deleted",
                        self.parts.settings.bridge
                    );
                    self.parts.metrics.switch_restarts.inc();
                    self.parts.failover.flows_in(false);
                    self.switch.disconnect();
                    self.pinned = false;
                    self.reconcile(false).await;
                }
                Wake::Drift => {
                    // Others change flows in bursts, too.
                    let at = TokioInstant::now() + DRIFT;
                    self.drift_due.get_or_insert(at);
                }
                Wake::DriftDue => {
                    self.drift_due = None;
                    self.mend_flows(true, Instant::now()).await;
                    self.tell();
                }
                Wake::Request(request) => self.answer(request).await,
                Wake::CacheDue => self.write_cache(),
                Wake::TellDue => self.tell(),
            }
        }
        self.end().await;
    }

    async fn next(
        &mut self,
        tick: &mut tokio::time::Interval,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Wake {
        let lost = self.switch.closed();
        let drift = self.switch.drifted();
        let retry = self.retry.due().into_iter().chain(self.again).min();
        let (cache_due, tell_due, drift_due) = (self.cache_due, self.tell_due, self.drift_due);
        let parts = &mut self.parts;
        let northbound = async {
            match &mut self.northbound {
                Some((_, followed)) => drop(followed.changes.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => Wake::Stop,
            () = lost => Wake::SwitchLost,
            () = drift => Wake::Drift,
            () = until(drift_due) => Wake::DriftDue,
            batch = parts.source.next() => Wake::Services(batch),
            _ = parts.local.changes.changed() => Wake::World,
            () = northbound => Wake::World,
            Ok(()) = parts.netlink_news.changed() => Wake::Netlink,
            () = parts.host.changed() => Wake::TellDue,
            Ok(()) = parts.failover_news.changed() => Wake::TellDue,
            Some(request) = parts.requests.recv() => Wake::Request(request),
            () = until(retry) => Wake::Backoff,
            () = until(cache_due) => Wake::CacheDue,
            () = until(tell_due) => Wake::TellDue,
            _ = tick.tick() => Wake::Tick,
        }
    }

    /// A batch of changed services: the quick way, whose cost is that of the services in it.
    async fn services(&mut self, batch: Batch) {
        let began = Instant::now();
        if !self.parts.source.synced() || !self.catalogue_built {
            self.reconcile(false).await;
            return;
        }
        let mut changes = Changes::default();
        for key in &batch.changed {
            changes.extend(self.catalogue.update(key, self.parts.source.view(key).as_ref()));
        }
        if changes != Changes::default() {
            let mut rules = Vec::with_capacity(changes.granted.len());
            let mut rows = Vec::with_capacity(changes.granted.len());
            for (key, granted) in changes.granted {
                rules.push((key.clone(), granted.rules));
                rows.push((key, granted.host));
            }
            match self.switch.set_services(rules).await {
                Ok(changed) => {
                    self.parts.metrics.programmed(changed, began.elapsed());
                    tracing::debug!("{changed} flows changed in {} us", began.elapsed().as_micros());
                }
                Err(error) => self.failed(&error),
            }
            self.parts.host.set_services(rows);
            self.health.update(changes.health_checks).await;
            self.cache_soon();
        }
        if batch.cidrs_changed || batch.node_changed || !self.switch.converged() {
            self.reconcile(false).await;
        } else {
            self.tell_soon();
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                if let Err(error) = self.switch.count().await {
                    self.failed(&error);
                }
                self.tell();
                let _ = reply.send(self.parts.status.borrow().clone());
            }
            Request::Policy(reply) => {
                let json = self
                    .switch
                    .rendering()
                    .and_then(|rendering| serde_json::to_string(rendering.policy()).ok());
                let _ = reply.send(json.unwrap_or_default());
            }
            Request::Flows(reply) => {
                let flows = self.switch.rendering().map(report::flow_text).unwrap_or_default();
                let _ = reply.send(flows);
            }
            Request::Reconcile(reply) => {
                self.reconcile(true).await;
                let text = format!(
                    "{} flows wanted, in step: {}\n",
                    self.parts.status.borrow().flows.wanted,
                    self.switch.converged()
                );
                let _ = reply.send(text);
            }
        }
    }

    /// A status costs a look at every service: not at each of a thousand changes.
    fn tell_soon(&mut self) {
        if self.tell_due.is_none() {
            self.tell_due = Some(TokioInstant::now() + TELL);
        }
    }

    pub(crate) fn tell(&mut self) {
        self.tell_due = None;
        self.tell_failover(&self.facts.bridge);
        self.parts.failover.flows_in(self.switch.converged());
        let status = report::status(self);
        self.parts.metrics.record(&status);
        self.parts.status.send_replace(Arc::new(status));
    }

    /// What the database says of the bridge.
    pub(crate) fn tell_failover(&self, bridge: &BridgeView) {
        self.parts.failover.marked(bridge.taken);
        self.parts.failover.keep(bridge.present && bridge.userspace, bridge.uplink_listed);
    }

    pub(crate) fn failed(&mut self, error: &ovs::openflow::Error) {
        self.trouble.failed(error);
        self.last_error = Some(error.to_string());
        if matches!(error, ovs::openflow::Error::Closed(_)) {
            self.switch.disconnect();
        }
        self.retry.failed(TokioInstant::now());
    }

    /// Looks at everything again in a while, for what tells nobody when it is done.
    pub(crate) fn look_again_in(&mut self, pause: Duration) {
        let at = TokioInstant::now() + pause;
        self.again = Some(self.again.map_or(at, |before| before.min(at)));
    }

    async fn end(mut self) {
        if self.cache_due.is_some() {
            self.write_cache();
        }
        if restore_wait::is_ours(&self.facts.bridge) {
            // Nobody would take the key away after a reboot.
            self.set_restore_wait(false).await;
        }
    }
}

async fn until(at: Option<TokioInstant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
