//! What the loop looks after beside flows and host paths: vswitchd's restart, its conntrack table, the pinned MAC,
//! and the policy in the state folder.

use std::time::{Duration, Instant};

use ovs::openflow::flood::set_no_flood;
use ovs::openflow::{Connection, Cookies};
use ovs::ovsdb::{OpResult, Operation};
use tokio::time::{Instant as TokioInstant, timeout};

use super::bridge::{INTEGRATION_BRIDGE, patch_names};
use super::daemon::{CLOSE_WATCH, Helper};
use super::flow_sync::WriteScope;
use super::restore_wait::{self, Order, Seen};
use super::{report, vswitchd};

/// How often the conntrack zone is counted: a dump of it may be long.
const CONNTRACK: Duration = Duration::from_secs(30);
/// How often the integration bridge's flows are counted while all is well.
const INTEGRATION: Duration = Duration::from_secs(20);
/// A switch that does not count within this counts as one that has no answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The state folder's policy is written at most so often.
const CACHE: Duration = Duration::from_secs(5);

impl Helper {
    /// `flow-restore-wait` around a restart of vswitchd, on the kernel datapath.
    pub(crate) async fn follow_restart(&mut self) {
        if !self.facts.bridge.present || self.facts.bridge.userspace || !self.parts.settings.restore_wait {
            return;
        }
        let integration = if self.phase.is_waiting() { self.integration_flows().await } else { None };
        let seen = Seen {
            now: self.started.elapsed(),
            kernel: true,
            armed: self.armed(),
            carried_out: self.facts.bridge.carried_out,
            ours_in: self.switch.converged(),
            integration,
            integration_before: self.integration_before.map(|(flows, _)| flows),
        };
        let (phase, order) = self.phase.next(seen);
        if order == Order::Leave || self.set_restore_wait(order == Order::Arm).await {
            // A key that could not be taken away is still waited on.
            self.phase = phase;
        }
        if self.phase.is_waiting() {
            self.look_again_in(CLOSE_WATCH);
        } else if seen.armed && order == Order::Leave {
            self.remember_integration().await;
        }
    }

    /// How many flows the integration bridge has while all is well: after a restart as many have to come back.
    async fn remember_integration(&mut self) {
        if self.integration_before.is_some_and(|(_, at)| at.elapsed() < INTEGRATION) {
            return;
        }
        if let Some(flows) = self.integration_flows().await {
            self.integration_before = Some((flows, Instant::now()));
        }
    }

    pub(crate) fn armed(&self) -> bool {
        restore_wait::is_armed(&self.facts.bridge)
    }

    pub(crate) async fn integration_flows(&self) -> Option<u32> {
        let address = format!("unix:{}", self.parts.paths.bridge_mgmt(INTEGRATION_BRIDGE).display());
        let counted = async {
            let connection = Connection::connect(&address).await.ok()?;
            connection.aggregate(Cookies::ANY).await.ok().map(|sum| sum.flows)
        };
        timeout(PATIENCE, counted).await.ok().flatten()
    }

    /// Whether it is done.
    pub(crate) async fn set_restore_wait(&mut self, arm: bool) -> bool {
        let done = self.transact(restore_wait::operations(arm)).await;
        match &done {
            Ok(_) if arm => tracing::info!("flow-restore-wait is armed for vswitchd's next restart"),
            Ok(_) => tracing::info!("flow-restore-wait is taken away: vswitchd goes to work"),
            // Tried again and again while vswitchd waits.
            Err(error) => drop(self.restore_trouble.failed(error)),
        }
        if done.is_ok() {
            self.restore_trouble.recovered();
        }
        done.is_ok()
    }

    /// A database that is stopped keeps its socket open and never answers.
    pub(crate) async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<OpResult>, String> {
        match timeout(PATIENCE, self.parts.local.db.transact(operations)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err(format!("{} does not answer", self.parts.local.origin)),
        }
    }

    /// On a bridge with further ports the MAC that host and router share must stay where it is, and the overlay's
    /// port must not hear what is flooded. vswitchd forgets both when it restarts.
    pub(crate) async fn pin_mac(&mut self) {
        let bridge = &self.facts.bridge;
        let Some(mac) = bridge.mac.filter(|_| !self.pinned && self.switch.is_connected()) else { return };
        if bridge.other_ports.is_empty() || bridge.overlay.is_none() {
            return;
        }
        let name = &self.parts.settings.bridge;
        let pinned = vswitchd::pin_mac(&self.parts.paths, name, mac).await;
        let quiet = set_no_flood(self.switch.address(), &patch_names(name).0, true).await;
        self.pinned = pinned.is_ok() && quiet.is_ok();
        if self.pinned {
            self.pin_trouble.recovered();
        }
        if let Err(error) = pinned {
            self.pin_trouble.failed(&format!("the MAC of {name} cannot be pinned: {error}"));
        }
        if let Err(error) = quiet {
            self.pin_trouble.failed(&format!("the patch port cannot be left out of floods: {error}"));
        }
    }

    pub(crate) async fn look_at_conntrack(&mut self) {
        if self.last_conntrack.is_some_and(|at| at.elapsed() < CONNTRACK) || !self.facts.bridge.present {
            return;
        }
        self.last_conntrack = Some(Instant::now());
        match vswitchd::conntrack(&self.parts.paths, self.parts.settings.zone, self.pods_range()).await {
            Ok(conntrack) => {
                self.conntrack = conntrack;
                self.conntrack_known = true;
                self.facts.draining = conntrack.pods_outside > 0;
            }
            Err(_) => self.conntrack_known = false,
        }
        let full = self.conntrack.is_nearly_full();
        if full && !self.warned_conntrack {
            tracing::warn!("{}", report::full_conntrack(self));
        }
        self.warned_conntrack = full;
    }

    pub(crate) fn cache_soon(&mut self) {
        if self.cache_due.is_none() {
            self.cache_due = Some(TokioInstant::now() + CACHE);
        }
    }

    /// Only what is really known is kept: a policy from the cache would outlive its truth.
    pub(crate) fn write_cache(&mut self) {
        self.cache_due = None;
        let Some(rendering) = self.switch.rendering().filter(|_| self.write_scope() == WriteScope::Whole)
        else {
            return;
        };
        if self.facts.router.is_none() && self.facts.last.is_none() {
            return;
        }
        let (cache, policy) = (self.cache.clone(), rendering.policy().clone());
        let router = self.facts.router.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cache.store(&policy, router.as_ref()) {
                tracing::warn!("the policy cannot be kept in the state folder: {error}");
            }
            drop(policy);
            // A quiet moment after changes: what comparing and storing took for a while is not needed at rest.
            host::memory::give_back();
        });
    }
}
