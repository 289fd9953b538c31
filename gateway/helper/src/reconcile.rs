//! One pass of the loop: look at everything, decide, mend what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demux::policy::{Policy, PortRange, ServiceKey, Split};
use kubernetes::ClientConfig;
use tokio::time::Instant as TokioInstant;

use super::bridge::{BridgeView, patch_names};
use super::daemon::Helper;
use super::database::{FollowedDatabase, northbound_remotes, origin};
use super::facts;
use super::flow_sync::WriteScope;
use super::northbound::{self, GatewayRouter};
use super::observe;
use super::restore_wait::{self, Phase};
use super::settings::{ReplySetting, Settings};
use super::start;
use crate::host_paths::{HostInputs, sockets_in_range};
use flows::Rendering;
use services::{Catalogue, ServiceHostRows};

/// How long the first write waits for the northbound database.
const NORTHBOUND_GRACE: Duration = Duration::from_secs(5);

/// How soon a switch is asked again whose ports are not all there.
const PORTS: Duration = Duration::from_millis(50);

impl Helper {
    /// Looks at everything and mends what differs. `whole`: also compare flow by flow.
    pub(crate) async fn reconcile(&mut self, whole: bool) {
        let began = Instant::now();
        self.again = None;
        self.retry.begun(TokioInstant::now());
        self.observe().await;
        self.mend_patch().await;
        let mut wanted = facts::wanted(&self.facts, &self.parts.settings);
        if self.begins_to_drain(&wanted.split) {
            wanted = facts::wanted(&self.facts, &self.parts.settings);
        }
        let rebuild = self.wanted.as_ref().is_none_or(|before| before.node != wanted.node);
        let host_changed = self.wanted.as_ref().is_none_or(|before| before.host != wanted.host);
        self.wanted = Some(wanted);
        let synced = self.parts.source.synced();
        let catalogue_changed = synced && (rebuild || self.from_cache || !self.catalogue_built);
        if catalogue_changed {
            self.rebuild_catalogue();
        }
        self.want_flows(catalogue_changed);
        self.mend_flows(whole, began).await;
        self.host_due |= host_changed || catalogue_changed;
        // As for flows: what the next answer would put back is not taken away.
        if synced && self.host_due && self.write_scope() == WriteScope::Whole {
            self.host_due = false;
            self.parts.host.set(self.host_inputs());
            self.health.reconcile(&self.catalogue.health_checks()).await;
        } else {
            self.parts.host.look_again();
        }
        self.follow_restart().await;
        self.pin_mac().await;
        self.tell();
    }

    /// Whether a port range takes the place of another rule that is in force: connections that began before keep their
    /// ports, so the mark look-up stays until the conntrack table has been counted anew.
    fn begins_to_drain(&mut self, split: &Split) -> bool {
        let before = self.facts.last.as_ref().and_then(Split::partition);
        let begins = self.switch.converged() && split.partition().is_some() && split.partition() != before;
        if begins {
            self.facts.draining = true;
            self.last_conntrack = Some(Instant::now());
        }
        begins
    }

    pub(crate) async fn observe(&mut self) {
        let snapshot = self.parts.local.db.snapshot();
        let (name, uplink) = (&self.parts.settings.bridge, &self.parts.settings.interface);
        let mut bridge = BridgeView::of(&snapshot, name, uplink);
        // Before anything is waited for: what the failover thinks must not be as old as a switch is slow.
        self.tell_failover(&bridge);
        self.ask_ports(&mut bridge).await;
        self.follow_northbound(&bridge);
        let (router, missing) = self.router();
        self.facts.bridge = bridge;
        self.follow_api_settings();
        if router.is_some() {
            self.facts.router_before.clone_from(&router);
        }
        self.facts.router = router;
        self.facts.router_missing = missing;
        self.facts.service_cidrs = self.parts.source.service_cidrs();
        self.facts.reaches = self.servers();
        match observe::addresses(&self.parts.netlink).await {
            Ok(addresses) => self.facts.addresses = addresses,
            Err(error) => tracing::warn!("the host's addresses cannot be read: {error}"),
        }
        if let Some(split) = self.switch.rendering().map(|rendering| &rendering.policy().split) {
            self.facts.last = Some(split.clone());
        }
        let range = self.pods_range();
        let in_force = self.facts.last.as_ref().and_then(Split::partition).is_some();
        self.facts.sockets_in_range = match range {
            Some(range) if !in_force && self.parts.settings.reply != ReplySetting::Tracked => {
                self.sockets_in(range)
            }
            _ => Vec::new(),
        };
        self.look_at_conntrack().await;
    }

    /// Servers that no Service may take from the node.
    fn servers(&self) -> BTreeSet<SocketAddr> {
        let flags = [&self.parts.flags.k8s_api_server, &self.parts.flags.nb_db];
        let ids = ["k8s-api-server", "ovn-nb", "ovn-remote"];
        let ids = ids.iter().filter_map(|key| self.facts.bridge.external_ids.get(*key));
        observe::servers(flags.into_iter().flatten().chain(ids).map(String::as_str))
    }

    /// The source ports of OVN's SNAT, as far as anybody says.
    pub(crate) fn pods_range(&self) -> Option<PortRange> {
        self.facts.known_router().and_then(|router| router.ports).or(self.parts.settings.snat_ports)
    }

    /// Port numbers in the database are those of before a restart until vswitchd has written new ones; the switch
    /// itself knows.
    async fn ask_ports(&mut self, bridge: &mut BridgeView) {
        if !bridge.present || bridge.mac.is_none() {
            return;
        }
        self.connect(bridge).await;
        match self.switch.ports().await {
            Ok(Some(ports)) => {
                let number = |name: &str| ports.iter().find(|port| port.name == name).map(|port| port.number);
                let overlay = patch_names(&bridge.name).0;
                let mut missing = false;
                for (slot, name) in
                    [(&mut bridge.uplink, &self.parts.settings.interface), (&mut bridge.overlay, &overlay)]
                {
                    match (*slot, number(name)) {
                        (Some(_), Some(now)) => *slot = Some(now),
                        // A switch that has just started makes its ports one by one.
                        (Some(_), None) => missing = true,
                        (None, _) => {}
                    }
                }
                if missing {
                    self.look_again_in(PORTS);
                }
            }
            Ok(None) => {}
            Err(error) => self.failed(&error),
        }
    }

    async fn connect(&mut self, bridge: &BridgeView) {
        let connected_before = self.switch.is_connected();
        match self.switch.connect().await {
            Ok(()) if !connected_before => {
                // Not by what was seen before: vswitchd may wait since before we looked for the first time.
                let armed = restore_wait::is_armed(bridge);
                self.phase = Phase::connected(self.started.elapsed(), armed);
            }
            Ok(()) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// Sockets of the host that the partitioned rule would cut off.
    pub(crate) fn sockets_in(&self, range: PortRange) -> Vec<String> {
        // Whoever says an address is shared: before the router is known, it may be any of the bridge's own.
        let Settings { bridge, interface, .. } = &self.parts.settings;
        let here = |device: &String| device == bridge || device == interface;
        let own = self.facts.addresses.iter().filter(|(device, _)| here(device)).map(|(_, net)| net.addr());
        let router = self.facts.router.iter().flat_map(|router| router.addresses.iter().copied());
        let last = self.facts.last.iter().flat_map(|last| last.shared.iter().copied());
        let shared = own.chain(router).chain(last).collect();
        match sockets_in_range(&shared, range) {
            Ok(sockets) => sockets.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("the host's sockets cannot be listed: {error}")],
        }
    }

    pub(crate) fn follow_northbound(&mut self, bridge: &BridgeView) {
        let Some(iface_id) = bridge.iface_id.clone() else { return };
        let ovn_nb = bridge.external_ids.get("ovn-nb").map(String::as_str);
        match northbound_remotes(&self.parts.nb, ovn_nb, &self.parts.paths) {
            Ok(remotes) => {
                let origin = origin(&remotes);
                if self.northbound.as_ref().is_some_and(|(id, now)| *id == iface_id && now.origin == origin) {
                    return;
                }
                let followed = FollowedDatabase::northbound(remotes, self.parts.tls.clone(), &iface_id);
                self.northbound = Some((iface_id, followed));
                self.northbound_error = None;
            }
            Err(error) => self.northbound_error = Some(error),
        }
    }

    pub(crate) fn router(&self) -> (Option<GatewayRouter>, Option<String>) {
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
    pub(crate) fn follow_api_settings(&mut self) {
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

    pub(crate) async fn mend_patch(&mut self) {
        let snapshot = self.parts.local.db.snapshot();
        let operations = self.facts.bridge.mend_patch(&snapshot);
        if operations.is_empty() || self.patch_tried == snapshot.generation() {
            return;
        }
        self.patch_tried = snapshot.generation();
        match self.transact(operations).await {
            Ok(_) => {
                tracing::info!("the patch pair between {} and br-int is made", self.parts.settings.bridge)
            }
            Err(error) => tracing::warn!("the patch pair cannot be made: {error}"),
        }
    }

    pub(crate) fn rebuild_catalogue(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let mut catalogue = Catalogue::new(wanted.node.clone());
        let keys: Vec<_> = self.parts.source.services().map(|service| service.key.clone()).collect();
        for key in keys {
            catalogue.update(&key, self.parts.source.view(&key).as_ref());
        }
        self.catalogue = catalogue;
        self.catalogue_built = true;
        self.from_cache = false;
        // The sources are known now, and stay so.
        self.cached = None;
    }

    /// Renders anew when the split, the datapath or all services changed.
    pub(crate) fn want_flows(&mut self, services_changed: bool) {
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
            for (key, granted) in self.catalogue.grants() {
                if let Some(rules) = granted.rules {
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
    pub(crate) fn write_scope(&self) -> WriteScope {
        let northbound = match &self.northbound {
            Some((_, followed)) => followed.known() || self.started.elapsed() >= NORTHBOUND_GRACE,
            None => self.facts.bridge.iface_id.is_none() || self.northbound_error.is_some(),
        };
        if self.parts.source.synced() && self.parts.local.known() && northbound {
            WriteScope::Whole
        } else {
            WriteScope::FillEmpty
        }
    }

    /// Compares and mends where that is due. `began`: when the change of the world was seen that led here, for what
    /// is told of the time it took.
    pub(crate) async fn mend_flows(&mut self, whole: bool, began: Instant) {
        if !self.switch.is_connected() {
            return;
        }
        if self.switch.converged() && !whole {
            self.retry.recovered();
            return;
        }
        let drift_expected = !self.switch.converged();
        let (write_scope, zone, adopt) =
            (self.write_scope(), self.parts.settings.zone, self.parts.settings.adopt);
        match self.switch.compare(write_scope, zone, adopt).await {
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
                } else if drift_expected && write_scope == WriteScope::Whole {
                    tracing::info!(
                        "{} flows are as wanted, adopted in {} ms",
                        report.same,
                        began.elapsed().as_millis()
                    );
                }
                if write_scope == WriteScope::Whole {
                    self.retry.recovered();
                } else {
                    self.look_again_in(NORTHBOUND_GRACE / 4);
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    pub(crate) async fn look_for_drift(&mut self) {
        if !self.switch.converged() {
            return;
        }
        match self.switch.looks_right().await {
            Ok(true) => {}
            Ok(false) => self.mend_flows(true, Instant::now()).await,
            Err(error) => self.failed(&error),
        }
    }

    pub(crate) fn host_inputs(&self) -> Option<HostInputs> {
        let wanted = self.wanted.as_ref()?;
        let services: BTreeMap<ServiceKey, Arc<ServiceHostRows>> =
            self.catalogue.grants().filter_map(|(key, granted)| Some((key.clone(), granted.host?))).collect();
        Some(HostInputs { node: wanted.host.clone(), services })
    }
}
