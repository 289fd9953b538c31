//! What ovs-vswitchd needs beside flows: the patch pair, `flow-restore-wait` around its restart, the pinned MAC on a
//! bridge with further ports; and the size of its conntrack table.

use std::time::Duration;

use demux::policy::PortRange;
use ovs::openflow::flood::set_no_flood;
use ovs::openflow::{Connection, Cookies};
use ovs::paths::Paths;
use ovs::vlog::repeat::Repeat;
use tokio::time::{Instant, timeout};

use crate::bridge::{BridgeView, INTEGRATION_BRIDGE, patch_names};
use crate::database::FollowedDatabase;
use crate::restore_wait::{self, KeyAction, Phase, RestartState};
use crate::settings::Settings;
use crate::vswitchd::{self, Conntrack};

/// How often the integration bridge's flows are counted while ovs-vswitchd works.
const INTEGRATION: Duration = Duration::from_secs(20);
/// How long the integration bridge may take to count its flows.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// What was done for ovs-vswitchd, and what is remembered for its next restart.
#[derive(Debug)]
pub(crate) struct SwitchUpkeep {
    phase: Phase,
    /// Flows of the integration bridge while ovs-vswitchd worked, and when they were counted.
    integration_before: Option<(u32, Instant)>,
    /// The database content for which creating the patch pair was tried last.
    patch_tried: u64,
    pinned: bool,
    /// Of the last count, also while the table cannot be read.
    conntrack: Conntrack,
    conntrack_known: bool,
    restore_errors: Repeat,
    pin_errors: Repeat,
}

impl Default for SwitchUpkeep {
    fn default() -> Self {
        Self {
            phase: Phase::Working,
            integration_before: None,
            patch_tried: 0,
            pinned: false,
            conntrack: Conntrack::default(),
            conntrack_known: false,
            restore_errors: Repeat::new("flow-restore-wait cannot be changed"),
            pin_errors: Repeat::new("further ports"),
        }
    }
}

impl SwitchUpkeep {
    /// The connection to the switch is new. It may have waited since before the first pass: what counts is the key.
    pub(crate) fn connected(&mut self, bridge: &BridgeView, uptime: Duration) {
        self.phase = Phase::connected(uptime, restore_wait::is_armed(bridge));
    }

    /// The connection to the switch is lost: it has forgotten what is not in the database.
    pub(crate) fn disconnected(&mut self) {
        self.pinned = false;
    }

    /// Creates the patch pair to the integration bridge, as far as it is missing.
    pub(crate) async fn create_patch(&mut self, bridge: &BridgeView, database: &FollowedDatabase) {
        let snapshot = database.db.snapshot();
        let operations = bridge.patch_operations(&snapshot);
        if operations.is_empty() || self.patch_tried == snapshot.generation() {
            return;
        }
        self.patch_tried = snapshot.generation();
        match database.transact(operations).await {
            Ok(_) => {
                tracing::info!("the patch pair between {} and {INTEGRATION_BRIDGE} is created", bridge.name)
            }
            Err(error) => tracing::warn!("the patch pair cannot be created: {error}"),
        }
    }

    /// `flow-restore-wait` around a restart of ovs-vswitchd, on the kernel datapath. Returns whether ovs-vswitchd still
    /// waits, so that the next step is due soon.
    pub(crate) async fn follow_restart(
        &mut self,
        bridge: &BridgeView,
        database: &FollowedDatabase,
        paths: &Paths,
        flows_in_force: bool,
        uptime: Duration,
    ) -> bool {
        let integration = if self.phase.is_waiting() { integration_flows(paths).await } else { None };
        let state = RestartState {
            now: uptime,
            kernel: true,
            armed: restore_wait::is_armed(bridge),
            carried_out: bridge.carried_out,
            ours_in: flows_in_force,
            integration,
            integration_before: self.integration_before.map(|(flows, _)| flows),
        };
        let (phase, action) = self.phase.next(state);
        if action == KeyAction::Leave || self.set_restore_wait(database, action == KeyAction::Arm).await {
            // While the key cannot be removed, ovs-vswitchd still waits.
            self.phase = phase;
        }
        if !self.phase.is_waiting() && state.armed && action == KeyAction::Leave {
            self.remember_integration(paths).await;
        }
        self.phase.is_waiting()
    }

    /// How many flows the integration bridge has in normal operation: after a restart as many have to come back.
    async fn remember_integration(&mut self, paths: &Paths) {
        if self.integration_before.is_some_and(|(_, at)| at.elapsed() < INTEGRATION) {
            return;
        }
        if let Some(flows) = integration_flows(paths).await {
            self.integration_before = Some((flows, Instant::now()));
        }
    }

    /// Sets the key, or removes it; whether that succeeded.
    pub(crate) async fn set_restore_wait(&mut self, database: &FollowedDatabase, arm: bool) -> bool {
        match database.transact(restore_wait::operations(arm)).await {
            Ok(_) => {
                self.restore_errors.recovered();
                if arm {
                    tracing::info!("flow-restore-wait is set for the next restart of ovs-vswitchd");
                } else {
                    tracing::info!("flow-restore-wait is removed: ovs-vswitchd starts to forward");
                }
                true
            }
            // Tried in each pass while ovs-vswitchd waits.
            Err(error) => {
                self.restore_errors.failed(&error);
                false
            }
        }
    }

    /// On a bridge with further ports the MAC that host and router share must not move to another port, and nothing
    /// may be flooded to the overlay's port. ovs-vswitchd forgets both when it restarts.
    pub(crate) async fn pin_mac(&mut self, bridge: &BridgeView, settings: &Settings, address: &str) {
        let Some(mac) = bridge.mac.filter(|_| !self.pinned) else { return };
        if bridge.other_ports.is_empty() || bridge.overlay.is_none() {
            return;
        }
        let name = &settings.bridge;
        let pinned = vswitchd::pin_mac(&settings.paths, name, mac).await;
        let no_flood = set_no_flood(address, &patch_names(name).0, true).await;
        self.pinned = pinned.is_ok() && no_flood.is_ok();
        if self.pinned {
            self.pin_errors.recovered();
        }
        if let Err(error) = pinned {
            self.pin_errors.failed(&format!("the MAC of {name} cannot be pinned: {error}"));
        }
        if let Err(error) = no_flood {
            self.pin_errors.failed(&format!("the patch port cannot be left out of floods: {error}"));
        }
    }

    /// Counts the conntrack zone; `None` if it cannot be read.
    pub(crate) async fn count_conntrack(
        &mut self,
        settings: &Settings,
        pods: Option<PortRange>,
    ) -> Option<Conntrack> {
        let counted = vswitchd::conntrack(&settings.paths, settings.policy.zone, pods).await.ok();
        self.conntrack_known = counted.is_some();
        let before = self.conntrack.is_nearly_full();
        self.conntrack = counted.unwrap_or(self.conntrack);
        if let Some(full) = self.conntrack.nearly_full(settings.policy.zone).filter(|_| !before) {
            tracing::warn!("{full}");
        }
        counted
    }

    /// The conntrack table as of the last count, if it could be read then.
    pub(crate) fn conntrack(&self) -> Option<Conntrack> {
        self.conntrack_known.then_some(self.conntrack)
    }

    /// What a person should know of the conntrack table.
    pub(crate) fn conntrack_advice(&self, zone: u16) -> Option<String> {
        self.conntrack.nearly_full(zone)
    }
}

async fn integration_flows(paths: &Paths) -> Option<u32> {
    let address = format!("unix:{}", paths.bridge_mgmt(INTEGRATION_BRIDGE).display());
    let counted = async {
        let connection = Connection::connect(&address).await.ok()?;
        connection.aggregate(Cookies::ANY).await.ok().map(|sum| sum.flows)
    };
    timeout(COUNT_TIMEOUT, counted).await.ok().flatten()
}
