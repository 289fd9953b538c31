//! Reads what the kernel holds, applies a plan, and removes everything again.

use std::collections::BTreeSet;
use std::path::Path;

use demux::policy::ServiceKey;
use host::nft::Nft;
use host::rtnl::asynchronous::AsyncSocket;
use host::rtnl::link::Link;
use host::rtnl::route::Route;
use host::sysctl::{self, Key, Sysctls};
use tracing::{info, warn};

use super::inputs::HostInputs;
use super::plan::{
    HostPlan, HostSnapshot, NftChange, RouteChange, SysctlChange, TableSnapshot, diff, diff_without_table,
};
use super::rules::Features;
use super::state::{ARP_ANNOUNCE, DesiredHost, desired};
use super::table::TABLE;

/// A table with the one expression that not every kernel has. nft only checks it.
const PROBE: &str = "table inet ovn_k8s_gateway_probe {\n chain c {\n type filter hook input priority 0;\n meta l4proto 6 socket wildcard 0 accept\n }\n}\n";

/// The host's part of the paths, kept as desired.
#[derive(Debug)]
pub(crate) struct HostPaths {
    nft: Nft,
    netlink: AsyncSocket,
    sysctls: Sysctls,
    features: Option<Features>,
    /// What the nft table holds: what was applied last. `None`: unknown, it has to be listed.
    applied: Option<DesiredHost>,
}

/// What one pass did.
#[derive(Debug, Default)]
pub(crate) struct ConvergeReport {
    /// What had to change.
    pub(crate) plan: HostPlan,
    /// What of it failed; the rest is done, and the next call tries again.
    pub(crate) failed: Vec<host::Error>,
    /// What is left out for lack of a setting, a device or a feature.
    pub(crate) left_out: Vec<String>,
}

impl HostPaths {
    /// In the namespace of the calling thread, with the record of sysctls in this directory. Must be called inside a
    /// tokio runtime. Nothing is read or written yet.
    pub(crate) fn open(state_dir: &Path) -> host::Result<Self> {
        Ok(Self {
            nft: Nft::default(),
            netlink: AsyncSocket::open()?,
            sysctls: Sysctls::new(state_dir),
            features: None,
            applied: None,
        })
    }

    /// What the kernel can do, checked once.
    pub(crate) async fn features(&mut self) -> host::Result<Features> {
        if let Some(features) = self.features {
            return Ok(features);
        }
        let features = match self.nft.check("check the kernel for the nft socket expression", PROBE).await {
            Ok(()) => Features { socket: true },
            Err(host::Error::NftRefused { message, .. }) if !message.contains("not permitted") => {
                warn!(
                    "this kernel has no nft socket expression ({message}); rules go by connection state alone"
                );
                Features { socket: false }
            }
            Err(e) => return Err(e),
        };
        self.features = Some(features);
        Ok(features)
    }

    /// What would change, without changing it (`--dry-run`).
    pub(crate) async fn plan(&mut self, inputs: &HostInputs) -> host::Result<HostPlan> {
        let desired_host = desired(inputs, self.features().await?);
        let table = TableSnapshot::read(self.nft.table(TABLE).await?.as_ref());
        Ok(diff(&desired_host, &self.observe(&desired_host, table).await?))
    }

    /// Makes the kernel hold what is desired. Routes and sysctls are read each time; the nft table only when its content
    /// is unknown (at the start, after a failure, after [`HostPaths::forget_table`]). When only Services changed, only
    /// their elements are compared and written.
    ///
    /// `changed`: the Services that may differ from those of the last call; `None`: all.
    pub(crate) async fn converge(
        &mut self,
        inputs: &HostInputs,
        changed: Option<&BTreeSet<ServiceKey>>,
    ) -> ConvergeReport {
        match self.try_converge(inputs, changed).await {
            Ok(report) => report,
            Err(e) => {
                self.applied = None;
                ConvergeReport { failed: vec![e], ..ConvergeReport::default() }
            }
        }
    }

    /// Forgets what the nft table holds: the next call lists it. For a periodic search for drift.
    pub(crate) fn forget_table(&mut self) {
        self.applied = None;
    }

    /// Removes all of ours: our nft table, the routes with our protocol number, what the record says we added to
    /// sysctls. What other programs made stays. Can be called again.
    pub(crate) async fn cleanup(&mut self) -> Vec<host::Error> {
        self.applied = None;
        let mut failed = Vec::new();
        let script = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
        let attempted = format!("delete the nft table inet {TABLE}");
        match self.nft.table(TABLE).await {
            Ok(None) => {}
            Ok(Some(_)) => failed.extend(self.nft.apply(&attempted, &script).await.err()),
            // Without nft there is no table of ours.
            Err(host::Error::NftMissing { .. }) => {}
            Err(e) => failed.push(e),
        }
        match self.netlink.routes_where(Route::is_ours).await {
            Ok(routes) => {
                for route in &routes {
                    failed.extend(self.netlink.delete_route(route).await.err());
                }
            }
            Err(e) => failed.push(e),
        }
        failed.extend(self.sysctls.take_back().err());
        failed
    }

    async fn try_converge(
        &mut self,
        inputs: &HostInputs,
        changed: Option<&BTreeSet<ServiceKey>>,
    ) -> host::Result<ConvergeReport> {
        let features = self.features().await?;
        let (desired_host, changes) = match self.applied.take() {
            Some(mut state) if *state.node() == inputs.node => {
                let changes = match changed {
                    Some(keys) => state.follow_some(&inputs.services, keys),
                    None => state.follow(&inputs.services),
                };
                (state, Some(changes))
            }
            _ => (desired(inputs, features), None),
        };
        let plan = match changes {
            Some(changes) => {
                // The table is as it was left: only the elements of changed Services differ.
                let observed = self.observe(&desired_host, TableSnapshot::default()).await?;
                let nft = if changes.is_empty() { NftChange::None } else { NftChange::Elements(changes) };
                HostPlan { nft, ..diff_without_table(&desired_host, &observed) }
            }
            None => {
                let table = TableSnapshot::read(self.nft.table(TABLE).await?.as_ref());
                diff(&desired_host, &self.observe(&desired_host, table).await?)
            }
        };
        let (failed, table_is_known) =
            if plan.is_empty() { (Vec::new(), true) } else { self.apply(&plan).await };
        let left_out = desired_host.left_out.clone();
        self.applied = table_is_known.then_some(desired_host);
        Ok(ConvergeReport { plan, failed, left_out })
    }

    async fn observe(&self, desired_host: &DesiredHost, table: TableSnapshot) -> host::Result<HostSnapshot> {
        let devices: Vec<_> = self.netlink.links().await?.iter().map(Link::device).collect();
        let destinations: BTreeSet<_> = desired_host.routes.iter().map(|route| route.destination).collect();
        let concerns = move |route: &Route| {
            route.is_ours() || route.destination().is_some_and(|found| destinations.contains(&found))
        };
        let routes = self.netlink.routes_where(concerns).await?;
        let exists = |name: &&str| devices.iter().any(|device| device.name == **name);
        let announcing = desired_host.announcing().filter(exists);
        let arp_announce = announcing.and_then(Key::arp_announce).and_then(|key| sysctl::read(&key).ok());
        Ok(HostSnapshot { devices, routes, table, ports: self.sysctls.ports()?, arp_announce })
    }

    /// Applies everything that can be applied, whatever else fails. The second value: the nft table is as planned.
    async fn apply(&self, plan: &HostPlan) -> (Vec<host::Error>, bool) {
        let mut failed = Vec::new();
        for change in &plan.sysctls {
            failed.extend(self.apply_sysctl(change).err());
        }
        let mut table_is_known = true;
        if let Some(script) = plan.nft.script()
            && let Err(e) = self.nft.apply(&format!("update the nft table inet {TABLE}"), &script).await
        {
            table_is_known = false;
            failed.push(e);
        }
        for change in &plan.routes {
            let outcome = match change {
                RouteChange::Remove(route) => self.netlink.delete_route(route).await,
                RouteChange::Add(route) => self.netlink.add_route(route).await,
            };
            failed.extend(outcome.err());
        }
        (failed, table_is_known)
    }

    fn apply_sysctl(&self, change: &SysctlChange) -> host::Result<()> {
        match change {
            SysctlChange::Reserve { ours, .. } => self.sysctls.reserve(ours)?,
            SysctlChange::Widen { target, now } => {
                info!("widened the host's local port range from {now} to {target}: most of it is reserved");
                self.sysctls.set_local_range(*target)?
            }
            SysctlChange::Restore { .. } => self.sysctls.restore_local_range()?,
            SysctlChange::Announce { device, .. } => match Key::arp_announce(device) {
                Some(key) => self.sysctls.set(&key, ARP_ANNOUNCE)?,
                None => false,
            },
        };
        Ok(())
    }
}
