//! The helper's loop: look at the world, decide, compare, mend; again whenever something says "look again".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demux::policy::{Policy, PortRange, ServiceKey, ServiceRules, Split};
use host::netlink::Netlink;
use kubernetes::{Batch, ClientConfig, Source};
use ovs::openflow::Connection;
use ovs::ovsdb::{Datum, Operation, Remote, TlsFiles};
use ovs::paths::Paths;
use ovs::vlog::repeat::Repeat;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::bridge::{BridgeView, INTEGRATION_BRIDGE};
use super::cache::PolicyCache;
use super::control::Request;
use super::facts::{Facts, Wanted, wanted};
use super::flags::HelperArgs;
use super::health::HealthServers;
use super::host_task::HostTask;
use super::metrics::Metrics;
use super::northbound::{self, GatewayRouter};
use super::observe::{self, Followed};
use super::restore::{self, Order, Phase, Seen};
use super::settings::Settings;
use super::status::Status;
use super::switch::{Licence, Switch};
use super::{report, start, vswitchd};
use crate::flows::Rendering;
use crate::host_paths::{HostInputs, ServiceHostRows, sockets_in_the_way};
use crate::services::Catalogue;

/// How often drift is looked for by count, and everything is looked at again.
const TICK: Duration = Duration::from_secs(5);
/// How often all flows are compared one by one.
const FULL_COMPARISON: Duration = Duration::from_secs(120);
/// How often the conntrack zone is counted: a dump of it may be long.
const CONNTRACK: Duration = Duration::from_secs(30);
/// How long the first write waits for the northbound database.
const NORTHBOUND_GRACE: Duration = Duration::from_secs(5);
/// The state folder's policy is written at most so often.
const CACHE: Duration = Duration::from_secs(5);
/// A failed attempt is repeated after so long, doubled up to the limit.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// While vswitchd waits for flows, and while something is not in force yet.
const CLOSE_WATCH: Duration = Duration::from_millis(200);

/// What the loop is given.
#[derive(Debug)]
pub struct Parts {
    /// What was told.
    pub settings: Settings,
    /// The command line, for what depends on the database as well.
    pub flags: HelperArgs,
    /// Where sockets are.
    pub paths: Paths,
    /// The local database.
    pub local: Followed,
    /// The northbound database, where told.
    pub nb: Vec<Remote>,
    /// Key and certificates for it.
    pub tls: Option<TlsFiles>,
    /// Kubernetes objects.
    pub source: Source,
    /// The host's devices.
    pub netlink: Netlink,
    /// News of them.
    pub netlink_news: watch::Receiver<u64>,
    /// The host's part.
    pub host: HostTask,
    /// Orders from the control socket.
    pub requests: mpsc::Receiver<Request>,
    /// Where the state is told.
    pub status: watch::Sender<Arc<Status>>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// The helper at work.
#[derive(Debug)]
pub struct Helper {
    pub(super) parts: Parts,
    pub(super) northbound: Option<(String, Followed)>,
    pub(super) northbound_error: Option<String>,
    pub(super) catalogue: Catalogue,
    pub(super) switch: Switch,
    pub(super) health: HealthServers,
    pub(super) facts: Facts,
    pub(super) wanted: Option<Wanted>,
    pub(super) conntrack: vswitchd::Conntrack,
    pub(super) conntrack_known: bool,
    pub(super) from_cache: bool,
    pub(super) last_error: Option<String>,
    cache: PolicyCache,
    cached: Option<Policy>,
    cache_due: Option<TokioInstant>,
    phase: Phase,
    started: Instant,
    patch_tried: u64,
    retry: Option<(TokioInstant, Duration)>,
    last_full: Instant,
    last_conntrack: Option<Instant>,
    pinned: bool,
    trouble: Repeat,
    warned_conntrack: bool,
    api_settings: BTreeMap<String, String>,
}

/// Why the loop was woken.
enum Wake {
    Services(Batch),
    World,
    SwitchLost,
    Request(Request),
    Tick,
    Retry,
    CacheDue,
    Stop,
}

impl Helper {
    /// A helper that has done nothing yet.
    pub fn new(parts: Parts) -> Self {
        let address = format!("unix:{}", parts.paths.bridge_mgmt(&parts.settings.bridge).display());
        let cache = PolicyCache::new(&parts.settings.state_dir, &parts.settings.bridge);
        let cached = cache.load();
        let facts = Facts { last: cached.as_ref().map(|policy| policy.split.clone()), ..Facts::default() };
        Helper {
            northbound: None,
            northbound_error: None,
            catalogue: Catalogue::default(),
            switch: Switch::new(address),
            health: HealthServers::default(),
            facts,
            wanted: None,
            conntrack: vswitchd::Conntrack::default(),
            conntrack_known: false,
            from_cache: false,
            last_error: None,
            cache,
            cached,
            cache_due: None,
            phase: Phase::Working { since: Duration::ZERO },
            started: Instant::now(),
            patch_tried: 0,
            retry: None,
            last_full: Instant::now(),
            last_conntrack: None,
            pinned: false,
            trouble: Repeat::new("flows"),
            warned_conntrack: false,
            api_settings: BTreeMap::new(),
            parts,
        }
    }

    /// Works until told to stop. What is on the bridge and in the kernel stays in force afterwards.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.reconcile(false).await;
        loop {
            let wake = self.next(&mut tick, &mut stop).await;
            match wake {
                Wake::Stop => break,
                Wake::Services(batch) => self.services(batch).await,
                Wake::World | Wake::Retry => self.reconcile(false).await,
                Wake::Tick => {
                    let whole = self.last_full.elapsed() >= FULL_COMPARISON;
                    self.look_for_drift().await;
                    self.reconcile(whole).await;
                }
                Wake::SwitchLost => {
                    tracing::warn!(
                        "the connection to the switch is lost: ovs-vswitchd ended or {} was deleted",
                        self.parts.settings.bridge
                    );
                    self.parts.metrics.switch_restarts.inc();
                    self.switch.disconnect();
                    self.pinned = false;
                    self.reconcile(false).await;
                }
                Wake::Request(request) => self.answer(request).await,
                Wake::CacheDue => self.write_cache(),
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
        let retry = self.retry.map(|(at, _)| at);
        let cache_due = self.cache_due;
        let parts = &mut self.parts;
        let northbound = async {
            match &mut self.northbound {
                Some((_, followed)) => drop(followed.news.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => Wake::Stop,
            () = lost => Wake::SwitchLost,
            batch = parts.source.next() => Wake::Services(batch),
            _ = parts.local.news.changed() => Wake::World,
            () = northbound => Wake::World,
            Ok(()) = parts.netlink_news.changed() => Wake::World,
            () = parts.host.changed() => Wake::World,
            Some(request) = parts.requests.recv() => Wake::Request(request),
            () = until(retry) => Wake::Retry,
            () = until(cache_due) => Wake::CacheDue,
            _ = tick.tick() => Wake::Tick,
        }
    }

    /// A batch of changed services: the quick way, whose cost is that of the services in it.
    async fn services(&mut self, batch: Batch) {
        let began = Instant::now();
        if !self.parts.source.synced() || self.from_cache || self.wanted.is_none() {
            self.reconcile(false).await;
            return;
        }
        let mut affected = std::collections::BTreeSet::new();
        for key in &batch.changed {
            affected.extend(self.catalogue.update(key, self.parts.source.view(key).as_ref()));
        }
        if !affected.is_empty() {
            let mut rules = Vec::with_capacity(affected.len());
            let mut rows = Vec::with_capacity(affected.len());
            for key in affected {
                let granted = self.catalogue.granted(&key);
                rules.push((key.clone(), some_rules(granted.rules)));
                rows.push((key, some_rows(granted.host)));
            }
            match self.switch.set_services(rules).await {
                Ok(changed) => {
                    self.parts.metrics.programmed(changed, began.elapsed());
                    tracing::debug!("{changed} flows changed in {} us", began.elapsed().as_micros());
                }
                Err(error) => self.failed(&error),
            }
            self.parts.host.set_services(rows);
            self.health.reconcile(&self.catalogue.health_checks()).await;
            self.cache_soon();
        }
        if batch.cidrs_changed || batch.node_changed || !self.switch.in_step() {
            self.reconcile(false).await;
        } else {
            self.tell();
        }
    }

    /// Looks at everything and mends what differs. `whole`: also compare flow by flow.
    async fn reconcile(&mut self, whole: bool) {
        self.observe().await;
        self.mend_patch().await;
        let wanted = wanted(&self.facts, &self.parts.settings);
        let rebuild = self.wanted.as_ref().is_none_or(|before| before.node != wanted.node);
        let host_changed = self.wanted.as_ref().is_none_or(|before| before.host != wanted.host);
        self.wanted = Some(wanted);
        let synced = self.parts.source.synced();
        let catalogue_changed = synced && (rebuild || self.from_cache || self.catalogue.is_empty());
        if catalogue_changed {
            self.rebuild_catalogue();
        }
        self.want_flows(catalogue_changed);
        self.mend_flows(whole).await;
        if synced && (host_changed || catalogue_changed) {
            self.parts.host.set(self.host_inputs());
            self.health.reconcile(&self.catalogue.health_checks()).await;
        } else {
            self.parts.host.look_again();
        }
        self.follow_restart().await;
        self.pin_mac().await;
        self.tell();
    }

    async fn observe(&mut self) {
        let snapshot = self.parts.local.db.snapshot();
        let (name, uplink) = (&self.parts.settings.bridge, &self.parts.settings.interface);
        let bridge = BridgeView::of(&snapshot, name, uplink);
        self.follow_northbound(&bridge);
        let (router, missing) = self.router();
        self.facts.bridge = bridge;
        self.follow_api_settings();
        self.facts.router = router;
        self.facts.router_missing = missing;
        self.facts.service_cidrs = self.parts.source.service_cidrs();
        match observe::addresses(&self.parts.netlink).await {
            Ok(addresses) => self.facts.addresses = addresses,
            Err(error) => tracing::warn!("the host's addresses cannot be read: {error}"),
        }
        if let Some(split) = self.switch.rendering().map(|rendering| &rendering.policy().split) {
            self.facts.last = Some(split.clone());
        }
        let range =
            self.facts.router.as_ref().and_then(|router| router.ports).or(self.parts.settings.snat_ports);
        let in_force = self.facts.last.as_ref().and_then(Split::partition).is_some();
        self.facts.sockets_in_range = match range {
            Some(range) if !in_force => self.sockets_in(range),
            _ => Vec::new(),
        };
        self.look_at_conntrack().await;
    }

    /// Sockets of the host that the partitioned rule would cut off.
    fn sockets_in(&self, range: PortRange) -> Vec<String> {
        let shared = match &self.facts.router {
            Some(router) => router.addresses.clone(),
            None => self.facts.last.as_ref().map(|last| last.shared.clone()).unwrap_or_default(),
        };
        match sockets_in_the_way(&shared, range) {
            Ok(sockets) => sockets.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("the host's sockets cannot be listed: {error}")],
        }
    }

    fn follow_northbound(&mut self, bridge: &BridgeView) {
        let Some(iface_id) = bridge.iface_id.clone() else { return };
        if self.northbound.as_ref().is_some_and(|(followed, _)| *followed == iface_id) {
            return;
        }
        let ovn_nb = bridge.external_ids.get("ovn-nb").map(String::as_str);
        match observe::nb_remotes(&self.parts.nb, ovn_nb, &self.parts.paths) {
            Ok(remotes) => {
                let followed = Followed::northbound(remotes, self.parts.tls.clone(), &iface_id);
                self.northbound = Some((iface_id, followed));
                self.northbound_error = None;
            }
            Err(error) => self.northbound_error = Some(error),
        }
    }

    fn router(&self) -> (Option<GatewayRouter>, Option<String>) {
        let Some((iface_id, followed)) = &self.northbound else {
            let missing = self.northbound_error.clone().unwrap_or_else(|| {
                "the patch port's end on br-int has no iface-id; gateway-init sets it".to_owned()
            });
            return (None, Some(missing));
        };
        if !followed.known() {
            let error = followed.error().unwrap_or_else(|| "no answer yet".to_owned());
            return (None, Some(format!("northbound database {}: {error}", followed.origin)));
        }
        match northbound::gateway_router(&followed.db.snapshot(), iface_id) {
            Some(router) => (Some(router), None),
            None => (None, Some(format!("no gateway router is behind the logical port {iface_id}"))),
        }
    }

    /// The API server's address or token changed in the local database: go on with the new one.
    fn follow_api_settings(&mut self) {
        let external_ids = &self.facts.bridge.external_ids;
        if self.parts.settings.manifests.is_some() || *external_ids == self.api_settings {
            return;
        }
        let first = self.api_settings.is_empty();
        self.api_settings.clone_from(external_ids);
        match ClientConfig::from_settings(&start::node_settings(&self.parts.flags, external_ids)) {
            Ok(_) if first => {}
            Ok(client) => self.parts.source.reconfigure(client),
            Err(error) => tracing::warn!("the API server's new settings are not used: {error}"),
        }
    }

    async fn look_at_conntrack(&mut self) {
        if self.last_conntrack.is_some_and(|at| at.elapsed() < CONNTRACK) || !self.facts.bridge.present {
            return;
        }
        self.last_conntrack = Some(Instant::now());
        match vswitchd::conntrack(&self.parts.paths, self.parts.settings.zone).await {
            Ok(conntrack) => {
                self.conntrack = conntrack;
                self.conntrack_known = true;
                self.facts.draining = conntrack.pods_tcp > 0;
            }
            Err(_) => self.conntrack_known = false,
        }
        let full = self.conntrack.limit.is_some_and(|limit| self.conntrack.entries >= limit / 10 * 9);
        if full && !self.warned_conntrack {
            tracing::warn!(
                "{} connections are tracked in zone {} and the table holds {:?}: new pod connections will be lost; raise dpctl/ct-set-maxconns or use the partitioned rule",
                self.conntrack.entries,
                self.parts.settings.zone,
                self.conntrack.limit
            );
        }
        self.warned_conntrack = full;
    }

    async fn mend_patch(&mut self) {
        let snapshot = self.parts.local.db.snapshot();
        let operations = self.facts.bridge.mend_patch(&snapshot);
        if operations.is_empty() || self.patch_tried == snapshot.generation() {
            return;
        }
        self.patch_tried = snapshot.generation();
        match self.parts.local.db.transact(operations).await {
            Ok(_) => {
                tracing::info!("the patch pair between {} and br-int is made", self.parts.settings.bridge)
            }
            Err(error) => tracing::warn!("the patch pair cannot be made: {error}"),
        }
    }

    fn rebuild_catalogue(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let mut catalogue = Catalogue::new(wanted.node.clone());
        let keys: Vec<_> = self.parts.source.services().map(|service| service.key.clone()).collect();
        for key in keys {
            catalogue.update(&key, self.parts.source.view(&key).as_ref());
        }
        self.catalogue = catalogue;
        self.from_cache = false;
    }

    /// Renders anew when the split, the datapath or all services changed.
    fn want_flows(&mut self, services_changed: bool) {
        let Some(wanted) = &self.wanted else { return };
        let current = self.switch.rendering();
        let same = current.is_some_and(|rendering| {
            rendering.policy().split == wanted.split && *rendering.datapath() == wanted.datapath
        });
        if same && !services_changed {
            return;
        }
        let mut policy = Policy::new(wanted.split.clone());
        if self.parts.source.synced() {
            for key in self.catalogue.keys() {
                if let Some(rules) = some_rules(self.catalogue.granted(key).rules) {
                    policy.set_service(key.clone(), rules);
                }
            }
        } else if let Some(cached) = &self.cached {
            self.from_cache = true;
            for (key, rules) in cached.services() {
                policy.set_service(key.clone(), rules.clone());
            }
        }
        self.switch.want(Rendering::new(policy, wanted.datapath));
        self.cache_soon();
    }

    /// Whether enough is known to take flows away.
    fn licence(&self) -> Licence {
        let northbound = match &self.northbound {
            Some((_, followed)) => followed.known() || self.started.elapsed() >= NORTHBOUND_GRACE,
            None => self.facts.bridge.iface_id.is_none() || self.northbound_error.is_some(),
        };
        if self.parts.source.synced() && self.parts.local.known() && northbound {
            Licence::Whole
        } else {
            Licence::FillEmpty
        }
    }

    async fn mend_flows(&mut self, whole: bool) {
        if !self.facts.bridge.present || self.facts.bridge.mac.is_none() {
            return;
        }
        let connected_before = self.switch.is_connected();
        if let Err(error) = self.switch.connect().await {
            self.failed(&error);
            return;
        }
        if !connected_before {
            let armed = self.armed();
            self.phase = Phase::connected(self.started.elapsed(), armed);
        }
        if self.switch.in_step() && !whole {
            self.retry = None;
            return;
        }
        let drift_expected = !self.switch.in_step();
        let (licence, zone, adopt) = (self.licence(), self.parts.settings.zone, self.parts.settings.adopt);
        let began = Instant::now();
        match self.switch.compare(licence, zone, adopt).await {
            Ok(report) => {
                self.last_full = Instant::now();
                self.trouble.recovered();
                if report.changed > 0 {
                    let took = began.elapsed();
                    self.parts.metrics.programmed(report.changed, took);
                    if drift_expected {
                        tracing::info!(
                            "{} flows changed, {} were right, in {} ms",
                            report.changed,
                            report.same,
                            took.as_millis()
                        );
                    } else {
                        self.parts.metrics.drift_repaired.inc_by(report.changed as u64);
                        tracing::warn!("{} flows had drifted and are put right", report.changed);
                    }
                } else if drift_expected && licence == Licence::Whole {
                    tracing::info!(
                        "{} flows are as wanted, adopted in {} ms",
                        report.same,
                        began.elapsed().as_millis()
                    );
                }
                if licence == Licence::Whole {
                    self.retry = None;
                } else {
                    self.retry_after(CLOSE_WATCH);
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn look_for_drift(&mut self) {
        if !self.switch.in_step() {
            return;
        }
        match self.switch.looks_right().await {
            Ok(true) => {}
            Ok(false) => self.reconcile_drift().await,
            Err(error) => self.failed(&error),
        }
    }

    async fn reconcile_drift(&mut self) {
        self.mend_flows(true).await;
    }

    /// `flow-restore-wait` around a restart of vswitchd, on the kernel datapath.
    async fn follow_restart(&mut self) {
        if !self.facts.bridge.present || self.facts.bridge.userspace || !self.parts.settings.restore_wait {
            return;
        }
        let integration = if self.phase.is_waiting() { self.integration_flows().await } else { None };
        let seen = Seen {
            now: self.started.elapsed(),
            kernel: true,
            armed: self.armed(),
            ours_in: self.switch.in_step(),
            integration,
        };
        let (phase, order) = self.phase.next(seen);
        self.phase = phase;
        if order != Order::Leave {
            self.set_restore_wait(order == Order::Arm).await;
        }
        if self.phase.is_waiting() {
            self.retry_after(CLOSE_WATCH);
        }
    }

    fn armed(&self) -> bool {
        self.facts.bridge.other_config.get(restore::KEY).map(String::as_str) == Some("true")
    }

    async fn integration_flows(&self) -> Option<u32> {
        let address = format!("unix:{}", self.parts.paths.bridge_mgmt(INTEGRATION_BRIDGE).display());
        let connection = Connection::connect(&address).await.ok()?;
        connection.aggregate(ovs::openflow::Cookies::ANY).await.ok().map(|sum| sum.flows)
    }

    async fn set_restore_wait(&self, arm: bool) {
        let row = Operation::mutate("Open_vSwitch");
        let change = if arm {
            row.put_key("other_config", restore::KEY, "true")
        } else {
            row.take("other_config", Datum::set([restore::KEY]))
        };
        let count = Operation::mutate("Open_vSwitch").add("next_cfg", 1);
        match self.parts.local.db.transact(vec![change, count]).await {
            Ok(_) if arm => tracing::info!("flow-restore-wait is armed for vswitchd's next restart"),
            Ok(_) => tracing::info!("flows are back: vswitchd goes to work"),
            Err(error) => tracing::warn!("flow-restore-wait cannot be changed: {error}"),
        }
    }

    /// On a bridge with further ports the MAC that host and router share must stay where it is.
    async fn pin_mac(&mut self) {
        let Some(mac) = self.facts.bridge.mac.filter(|_| !self.pinned && self.switch.is_connected()) else {
            return;
        };
        match vswitchd::pin_mac(&self.parts.paths, &self.parts.settings.bridge, mac).await {
            Ok(()) => self.pinned = true,
            Err(error) => tracing::debug!("the bridge's MAC cannot be pinned: {error}"),
        }
    }

    fn host_inputs(&self) -> Option<HostInputs> {
        let wanted = self.wanted.as_ref()?;
        let services: BTreeMap<ServiceKey, Arc<ServiceHostRows>> = self
            .catalogue
            .keys()
            .filter_map(|key| Some((key.clone(), some_rows(self.catalogue.granted(key).host)?)))
            .collect();
        Some(HostInputs { node: wanted.host.clone(), services })
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
                    self.switch.in_step()
                );
                let _ = reply.send(text);
            }
        }
    }

    fn tell(&mut self) {
        let status = report::status(self);
        self.parts.metrics.record(&status);
        self.parts.status.send_replace(Arc::new(status));
    }

    fn failed(&mut self, error: &ovs::openflow::Error) {
        self.trouble.failed(error);
        self.last_error = Some(error.to_string());
        if matches!(error, ovs::openflow::Error::Closed(_)) {
            self.switch.disconnect();
        }
        let pause = self.retry.map_or(RETRY.0, |(_, pause)| (pause * 2).min(RETRY.1));
        self.retry = Some((TokioInstant::now() + pause, pause));
    }

    fn retry_after(&mut self, pause: Duration) {
        self.retry = Some((TokioInstant::now() + pause, pause));
    }

    fn cache_soon(&mut self) {
        if self.cache_due.is_none() {
            self.cache_due = Some(TokioInstant::now() + CACHE);
        }
    }

    /// Only what is really known is kept: a policy from the cache would outlive its truth.
    fn write_cache(&mut self) {
        self.cache_due = None;
        let Some(rendering) = self.switch.rendering().filter(|_| self.licence() == Licence::Whole) else {
            return;
        };
        if self.facts.router.is_none() && self.facts.last.is_none() {
            return;
        }
        let (cache, policy) = (self.cache.clone(), rendering.policy().clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cache.store(&policy) {
                tracing::warn!("the policy cannot be kept in the state folder: {error}");
            }
        });
    }

    async fn end(mut self) {
        if self.cache_due.is_some() {
            self.write_cache();
        }
        if self.armed() && !self.facts.bridge.userspace && self.parts.settings.restore_wait {
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

fn some_rules(rules: ServiceRules) -> Option<Arc<ServiceRules>> {
    (!rules.ports.is_empty()).then(|| Arc::new(rules))
}

fn some_rows(rows: ServiceHostRows) -> Option<Arc<ServiceHostRows>> {
    (rows != ServiceHostRows::default()).then(|| Arc::new(rows))
}
