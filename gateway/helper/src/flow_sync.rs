//! The bridge's flows: the held OpenFlow connection, what should be on the bridge, and the way from one to the other.
//!
//! A whole comparison (dump by cookie, difference, one bundle) is made when the connection is new, when the split or
//! a port changed, and when something drifted. In between a changed service costs its own flows only.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use demux::policy::{ServiceKey, ServiceRules};
use demux::rule::RuleId;
use ovs::openflow::flow::FlowKey;
use ovs::openflow::{Changes, Connection, Cookies, Dumped, Error, FlowMod, Plan, Port, diff};
use tokio::time::timeout;

use super::legacy_flows::ForeignFlows;
use super::status::RuleStatus;
use flows::{Rendering, cookie};

/// A switch that does not answer for so long is given up and connected to anew. A bundle of 30,000 flows takes a
/// third of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may be done to the flows that are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteScope {
    /// All sources are known: make the bridge what is wanted.
    Whole,
    /// Some are not: fill a bridge that has no flows of ours, leave one that has some as it is.
    FillEmpty,
}

/// What a whole comparison found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Flows that were missing, differed, or that nobody wants.
    pub(crate) changed: usize,
    /// Flows that were as wanted.
    pub(crate) same: usize,
    /// Flows of ours were there before.
    pub(crate) found: bool,
    /// Nothing was written because sources are not known yet.
    pub(crate) held_back: bool,
}

/// The bridge's flows.
#[derive(Debug)]
pub(crate) struct Switch {
    address: String,
    connection: Option<Arc<Connection>>,
    changes: Option<Changes>,
    rendering: Option<Rendering>,
    /// Everything wanted is installed, as far as is known.
    converged: bool,
    foreign: ForeignFlows,
    conflicts: Vec<String>,
    /// The places of those conflicts: not to be written to.
    taken: HashSet<FlowKey>,
    rules: Vec<RuleStatus>,
    installed: usize,
}

impl Switch {
    /// A switch at an OpenFlow address (`unix:PATH`), not connected yet.
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            connection: None,
            changes: None,
            rendering: None,
            converged: false,
            foreign: ForeignFlows::default(),
            conflicts: Vec::new(),
            taken: HashSet::new(),
            rules: Vec::new(),
            installed: 0,
        }
    }

    /// Connects, if it is not connected.
    pub(crate) async fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            let connection = bounded(Connection::connect(&self.address)).await?;
            // The watch before the first dump, so that no change falls between.
            self.changes = Some(bounded(connection.watch(vec![cookie::learned()])).await?);
            self.connection = Some(Arc::new(connection));
            self.converged = false;
        }
        Ok(())
    }

    /// Whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Resolves when the connection is lost; never while there is none.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let connection = self.connection.clone();
        async move {
            match connection {
                Some(connection) => drop(connection.closed().await),
                None => std::future::pending().await,
            }
        }
    }

    /// The bridge's ports; none while there is no connection.
    pub(crate) async fn ports(&self) -> Result<Option<Vec<Port>>, Error> {
        match &self.connection {
            Some(connection) => bounded(connection.ports()).await.map(Some),
            None => Ok(None),
        }
    }

    /// The switch's OpenFlow address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Resolves when somebody else changed flows of the bridge; never while nobody watches.
    pub(crate) async fn drifted(&mut self) {
        let told = match &mut self.changes {
            Some(changes) => changes.next().await,
            None => None,
        };
        if told.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets the connection: what is on the bridge is not known any more.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.changes = None;
        self.converged = false;
        self.installed = 0;
    }

    /// Everything wanted is installed.
    pub(crate) fn converged(&self) -> bool {
        self.converged
    }

    /// What is wanted.
    pub(crate) fn rendering(&self) -> Option<&Rendering> {
        self.rendering.as_ref()
    }

    /// Wants something else as a whole; it takes effect with [`Switch::compare`].
    pub(crate) fn want(&mut self, rendering: Rendering) {
        let same = self.rendering.as_ref().is_some_and(|before| before.flows() == rendering.flows());
        self.rendering = Some(rendering);
        self.converged &= same;
    }

    /// Compares all flows of ours with what is wanted and mends the difference.
    pub(crate) async fn compare(
        &mut self,
        write_scope: WriteScope,
        zone: u16,
        adopt: bool,
    ) -> Result<Report, Error> {
        let (Some(connection), Some(rendering)) = (self.connection.clone(), &self.rendering) else {
            return Ok(Report { held_back: true, ..Report::default() });
        };
        let dump = bounded(connection.dump_all()).await?;
        self.foreign = ForeignFlows::of(&dump, zone);
        let mut plan = diff(rendering.flows(), &dump, &cookie::ours());
        let found = plan.same + plan.differing + plan.surplus > 0;
        self.conflicts = plan.conflicts.iter().map(conflict).collect();
        self.taken = plan.conflicts.iter().map(|conflict| conflict.key.clone()).collect();
        if write_scope == WriteScope::FillEmpty && found {
            self.note(&dump);
            return Ok(Report { same: plan.same, found, held_back: true, ..Report::default() });
        }
        if adopt {
            plan.mods.extend(self.foreign.adoption());
        }
        let changed = plan.mods.len();
        if changed > 0 {
            bounded(connection.bundle(&plan.mods)).await?;
        }
        if adopt {
            self.foreign.older_helper.clear();
        }
        self.converged = write_scope == WriteScope::Whole;
        self.note(&dump);
        self.installed = rendering_len(&self.rendering).saturating_sub(self.conflicts.len());
        Ok(report(&plan, changed, found))
    }

    /// Sets or removes services; returns how many flows changed. An error leaves the comparison to be made.
    pub(crate) async fn set_services(
        &mut self,
        services: impl IntoIterator<Item = (ServiceKey, Option<Arc<ServiceRules>>)>,
    ) -> Result<usize, Error> {
        let Some(rendering) = &mut self.rendering else { return Ok(0) };
        let mut mods = Vec::new();
        for (key, rules) in services {
            mods.extend(rendering.set_service(&key, rules));
        }
        if !self.taken.is_empty() {
            // To add a flow replaces the one in its place, whosever it is.
            mods.retain(|change| !matches!(change, FlowMod::Add(flow) if self.taken.contains(&flow.key)));
        }
        // Deletions first: a port that moved from one service to another is deleted and added in one bundle.
        mods.sort_by_key(|change| !matches!(change, FlowMod::Delete { .. }));
        if mods.is_empty() || !self.converged {
            return Ok(0);
        }
        let Some(connection) = self.connection.clone() else { return Ok(0) };
        self.converged = false;
        bounded(connection.apply(&mods)).await?;
        self.converged = true;
        self.installed = rendering_len(&self.rendering).saturating_sub(self.conflicts.len());
        Ok(mods.len())
    }

    /// Whether the number of our flows on the bridge is still the wanted one. Cheap.
    pub(crate) async fn looks_right(&self) -> Result<bool, Error> {
        let (Some(connection), Some(rendering)) = (&self.connection, &self.rendering) else {
            return Ok(true);
        };
        let ours = bounded(connection.aggregate(cookie::cookies())).await?.flows;
        let learned = bounded(connection.aggregate(Cookies::exactly(cookie::learned()))).await?.flows;
        let wanted = rendering.flows().len().saturating_sub(self.conflicts.len());
        Ok(ours.saturating_sub(learned) as usize == wanted)
    }

    /// Counters by rule, from a fresh dump.
    pub(crate) async fn count(&mut self) -> Result<(), Error> {
        if let Some(connection) = self.connection.clone() {
            let dump = bounded(connection.dump(cookie::cookies())).await?;
            self.note(&dump);
        }
        Ok(())
    }

    /// Flows that are not ours.
    pub(crate) fn foreign(&self) -> &ForeignFlows {
        &self.foreign
    }

    /// Wanted flows whose place somebody else's flow holds.
    pub(crate) fn conflicts(&self) -> &[String] {
        &self.conflicts
    }

    /// Counters by rule, as of the last dump.
    pub(crate) fn rules(&self) -> &[RuleStatus] {
        &self.rules
    }

    /// How many flows of ours are on the bridge.
    pub(crate) fn installed(&self) -> usize {
        self.installed
    }

    fn note(&mut self, dump: &[Dumped]) {
        let mut by_rule: BTreeMap<RuleId, RuleStatus> = BTreeMap::new();
        for flow in dump {
            let Some(rule) = cookie::rule_of(flow.cookie) else { continue };
            let new = || RuleStatus { rule: rule.name().to_owned(), ..RuleStatus::default() };
            let sum = by_rule.entry(rule).or_insert_with(new);
            sum.flows += 1;
            sum.packets += flow.packets;
            sum.bytes += flow.bytes;
        }
        self.rules = by_rule.into_values().collect();
        self.installed = self.rules.iter().map(|rule| rule.flows).sum();
    }
}

fn rendering_len(rendering: &Option<Rendering>) -> usize {
    rendering.as_ref().map_or(0, |rendering| rendering.flows().len())
}

fn report(plan: &Plan, changed: usize, found: bool) -> Report {
    Report { changed, same: plan.same, found, held_back: false }
}

fn conflict(conflict: &ovs::openflow::Conflict) -> String {
    format!(
        "a flow that is not ours (cookie {:#x}) holds the place of ours: table={}, priority={}, {}; remove it with ovs-ofctl",
        conflict.foreign.cookie, conflict.key.table, conflict.key.priority, conflict.key.matches
    )
}

/// A switch that is stopped keeps its socket open and never answers.
async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Closed(ovs::openflow::Disconnect::Silent(PATIENCE))),
    }
}
