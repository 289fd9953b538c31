//! The bridge's flows: the OpenFlow connection that is kept open, the flows that should be on the bridge, and how the
//! bridge gets them.
//!
//! All flows are compared (dump by cookie, difference, one bundle) when the connection is new, when the split or a port
//! changed, and when flows drifted. In between a changed Service costs only its own flows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use demux::policy::{ServiceKey, ServiceRules};
use demux::rule::RuleId;
use flows::{Rendering, cookie};
use ovs::openflow::flow::FlowKey;
use ovs::openflow::{Changes, Connection, Cookies, Dumped, Error, FlowMod, Port, diff};
use ovs::vlog::repeat::Repeat;
use tokio::time::timeout;

use crate::legacy_flows::ForeignFlows;
use crate::status::RuleStatus;

/// A switch that does not answer for this long is disconnected. A bundle of 30,000 flows takes a third of a second.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(20);

/// What may be done to the flows on the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteScope {
    /// All sources are known: add, change and remove flows until the bridge is as desired.
    Whole,
    /// Some are not: fill a bridge that has no flows of ours, leave one that has some as it is.
    FillEmpty,
}

/// What a comparison of all flows found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Flows that were missing, differed, or had to go.
    pub(crate) changed: usize,
    /// Flows that were as desired.
    pub(crate) same: usize,
}

/// The bridge's flows.
#[derive(Debug)]
pub(crate) struct FlowSync {
    address: String,
    connection: Option<Arc<Connection>>,
    changes: Option<Changes>,
    rendering: Option<Rendering>,
    /// Ports of all Services in the rendering.
    service_ports: usize,
    /// Everything desired is installed, as far as is known.
    converged: bool,
    survey: Survey,
    errors: Repeat,
    last_error: Option<String>,
}

/// What the last dump showed.
#[derive(Debug, Default)]
struct Survey {
    /// How many flows of ours are on the bridge.
    installed: usize,
    /// Counters by rule.
    rules: Vec<RuleStatus>,
    /// Flows that are not ours.
    foreign: ForeignFlows,
    /// Desired flows whose place a foreign flow has, each a sentence.
    conflicts: Vec<String>,
    /// The places of those conflicts: not to be written to.
    taken: HashSet<FlowKey>,
}

impl FlowSync {
    /// For the switch at an OpenFlow address (`unix:PATH`), not connected yet.
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            connection: None,
            changes: None,
            rendering: None,
            service_ports: 0,
            converged: false,
            survey: Survey::default(),
            errors: Repeat::new("flows"),
            last_error: None,
        }
    }

    /// Connects, if it is not connected. Returns whether the connection is new.
    pub(crate) async fn connect(&mut self) -> Result<bool, Error> {
        if self.connection.is_some() {
            return Ok(false);
        }
        let connection = bounded(Connection::connect(&self.address)).await?;
        // The watch before the first dump, so that no change falls between.
        self.changes = Some(bounded(connection.watch(vec![cookie::learned()])).await?);
        self.connection = Some(Arc::new(connection));
        self.converged = false;
        Ok(true)
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

    /// Resolves when another program changed flows of the bridge; never while they are not watched.
    pub(crate) async fn drifted(&mut self) {
        let change = match &mut self.changes {
            Some(changes) => changes.next().await,
            None => None,
        };
        if change.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets the connection: what is on the bridge is not known any more.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.changes = None;
        self.converged = false;
        self.survey.installed = 0;
    }

    /// Takes note of a failure, and disconnects where the connection is lost.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.errors.failed(error);
        self.last_error = Some(error.to_string());
        if matches!(error, Error::Closed(_)) {
            self.disconnect();
        }
    }

    fn recovered(&mut self) {
        self.errors.recovered();
        self.last_error = None;
    }

    /// What went wrong last, while not everything is in force.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.last_error.as_deref().filter(|_| !self.converged)
    }

    /// Everything desired is installed.
    pub(crate) fn converged(&self) -> bool {
        self.converged
    }

    /// The desired flows.
    pub(crate) fn rendering(&self) -> Option<&Rendering> {
        self.rendering.as_ref()
    }

    /// How many flows are desired.
    pub(crate) fn desired_len(&self) -> usize {
        self.rendering.as_ref().map_or(0, |rendering| rendering.flows().len())
    }

    /// Ports of all Services among them.
    pub(crate) fn service_ports(&self) -> usize {
        self.service_ports
    }

    /// Other flows are desired, as a whole; it takes effect with [`FlowSync::compare`].
    pub(crate) fn set_desired(&mut self, rendering: Rendering) {
        let same = self.rendering.as_ref().is_some_and(|before| before.flows() == rendering.flows());
        self.service_ports = rendering.policy().services().map(|(_, rules)| rules.ports.len()).sum();
        self.rendering = Some(rendering);
        self.converged &= same;
    }

    /// Whether flows of ours are on the bridge. Cheap.
    pub(crate) async fn has_flows(&self) -> Result<bool, Error> {
        let Some(connection) = &self.connection else { return Ok(false) };
        Ok(bounded(connection.aggregate(cookie::cookies())).await?.flows > 0)
    }

    /// Compares all flows of ours with the desired ones and writes the difference, as far as the scope allows.
    pub(crate) async fn compare(
        &mut self,
        scope: WriteScope,
        zone: u16,
        adopt: bool,
    ) -> Result<Comparison, Error> {
        let (Some(connection), Some(rendering)) = (self.connection.clone(), &self.rendering) else {
            return Ok(Comparison::default());
        };
        let dump = bounded(connection.dump_all()).await?;
        self.survey.foreign = ForeignFlows::of(&dump, zone);
        let mut plan = diff(rendering.flows(), &dump, &cookie::ours());
        let found = plan.same + plan.differing + plan.surplus > 0;
        self.survey.conflicts = plan.conflicts.iter().map(conflict).collect();
        self.survey.taken = plan.conflicts.iter().map(|conflict| conflict.key.clone()).collect();
        if scope == WriteScope::FillEmpty && found {
            self.recovered();
            self.survey.count(&dump);
            return Ok(Comparison { changed: 0, same: plan.same });
        }
        if adopt {
            plan.mods.extend(self.survey.foreign.adoption());
        }
        let changed = plan.mods.len();
        if changed > 0 {
            bounded(connection.bundle(&plan.mods)).await?;
        }
        if adopt {
            self.survey.foreign.older_helper.clear();
        }
        self.converged = scope == WriteScope::Whole;
        self.recovered();
        self.survey.count(&dump);
        self.survey.installed = self.expected();
        Ok(Comparison { changed, same: plan.same })
    }

    /// Sets or removes Services; returns how many flows changed. An error leaves the comparison to be made.
    pub(crate) async fn set_services(
        &mut self,
        services: impl IntoIterator<Item = (ServiceKey, Option<Arc<ServiceRules>>)>,
    ) -> Result<usize, Error> {
        let Some(rendering) = &mut self.rendering else { return Ok(0) };
        let mut mods = Vec::new();
        for (key, rules) in services {
            let before = rendering.policy().service(&key).map_or(0, |rules| rules.ports.len());
            self.service_ports += rules.as_ref().map_or(0, |rules| rules.ports.len());
            self.service_ports -= before;
            mods.extend(rendering.set_service(&key, rules));
        }
        if !self.survey.taken.is_empty() {
            // To add a flow replaces the one in its place, also a foreign one.
            mods.retain(
                |change| !matches!(change, FlowMod::Add(flow) if self.survey.taken.contains(&flow.key)),
            );
        }
        // Deletions first: a port that moved from one Service to another is deleted and added in one bundle.
        mods.sort_by_key(|change| !matches!(change, FlowMod::Delete { .. }));
        if mods.is_empty() || !self.converged {
            return Ok(0);
        }
        let Some(connection) = self.connection.clone() else { return Ok(0) };
        self.converged = false;
        bounded(connection.apply(&mods)).await?;
        self.converged = true;
        self.survey.installed = self.expected();
        Ok(mods.len())
    }

    /// Whether the number of our flows on the bridge is the desired one. Cheap.
    pub(crate) async fn count_matches(&self) -> Result<bool, Error> {
        let (Some(connection), Some(_)) = (&self.connection, &self.rendering) else {
            return Ok(true);
        };
        let ours = bounded(connection.aggregate(cookie::cookies())).await?.flows;
        let learned = bounded(connection.aggregate(Cookies::exactly(cookie::learned()))).await?.flows;
        Ok(ours.saturating_sub(learned) as usize == self.expected())
    }

    /// Reads the counters by rule, from a new dump.
    pub(crate) async fn read_counters(&mut self) -> Result<(), Error> {
        if let Some(connection) = self.connection.clone() {
            let dump = bounded(connection.dump(cookie::cookies())).await?;
            self.survey.count(&dump);
        }
        Ok(())
    }

    /// Flows that are not ours.
    pub(crate) fn foreign(&self) -> &ForeignFlows {
        &self.survey.foreign
    }

    /// Desired flows whose place a foreign flow has, each a sentence.
    pub(crate) fn conflicts(&self) -> &[String] {
        &self.survey.conflicts
    }

    /// Counters by rule, as of the last dump.
    pub(crate) fn rules(&self) -> &[RuleStatus] {
        &self.survey.rules
    }

    /// How many flows of ours are on the bridge.
    pub(crate) fn installed(&self) -> usize {
        self.survey.installed
    }

    /// How many of the desired flows can be on the bridge.
    fn expected(&self) -> usize {
        self.desired_len().saturating_sub(self.survey.conflicts.len())
    }
}

impl Survey {
    fn count(&mut self, dump: &[Dumped]) {
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

fn conflict(conflict: &ovs::openflow::Conflict) -> String {
    format!(
        "a foreign flow (cookie {:#x}) has the place of one of ours: table={}, priority={}, {}; remove it with ovs-ofctl",
        conflict.foreign.cookie, conflict.key.table, conflict.key.priority, conflict.key.matches
    )
}

/// A switch that is stopped keeps its socket open and never answers.
async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(SWITCH_TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Closed(ovs::openflow::Disconnect::Silent(SWITCH_TIMEOUT))),
    }
}
