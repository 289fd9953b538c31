//! What a pass does, decided from values: which sources are known, what was desired and rendered before, what is desired
//! now. Pure; the daemon carries it out.

use std::time::Duration;

use demux::policy::Split;
use flows::FlowContext;

use crate::desired::Desired;
use crate::flow_sync::WriteScope;

/// How long the first write waits for the northbound database.
const NORTHBOUND_GRACE: Duration = Duration::from_secs(5);
/// How soon a pass follows one that could not write because sources are silent.
pub(crate) const SOURCES_RETRY: Duration = Duration::from_millis(1_250);
/// How long a bridge that has flows of ours waits for its sources before it is compared with the policy of the state
/// folder. The comparison changes nothing on such a bridge; only the status is more complete after it.
pub(crate) const START_GRACE: Duration = Duration::from_secs(2);

/// Which sources were read as a whole at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourcesKnown {
    /// Kubernetes objects.
    pub(crate) objects: bool,
    /// The local database.
    pub(crate) local: bool,
    /// The northbound database.
    pub(crate) northbound: NorthboundState,
}

/// What is known of the northbound database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NorthboundState {
    /// It was read.
    Known,
    /// It is followed and has not answered yet.
    Silent,
    /// It cannot be followed: its address, or the logical port of this bridge, is not known.
    Absent,
}

/// Which Services the flows are rendered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServicesOrigin {
    /// None are known yet.
    #[default]
    None,
    /// Those of the policy in the state folder.
    Cache,
    /// Kubernetes objects.
    Objects,
}

/// What a pass decides from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassInput<'a> {
    /// What was desired before.
    pub(crate) before: Option<&'a Desired>,
    /// What is desired now.
    pub(crate) desired: &'a Desired,
    /// What the flows are rendered from.
    pub(crate) rendered: Option<(&'a Split, &'a FlowContext)>,
    /// Which Services are in them.
    pub(crate) services: ServicesOrigin,
    /// Which sources are known.
    pub(crate) known: SourcesKnown,
    /// How long the process runs.
    pub(crate) uptime: Duration,
    /// Flows of ours are on the bridge and were not compared yet. `false` where that is unknown.
    pub(crate) flows_found: bool,
    /// A changed host part was not handed over yet.
    pub(crate) host_due: bool,
}

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassPlan {
    /// Plan all Services again.
    pub(crate) rebuild_services: bool,
    /// Render all flows again.
    pub(crate) render: bool,
    /// Compare the flows, and what may be written.
    pub(crate) scope: Option<WriteScope>,
    /// What happens to the host's part.
    pub(crate) host: HostStep,
}

/// What happens to the host's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostStep {
    /// It is handed over as a whole.
    Replace,
    /// It differs, and waits until all sources are known: what the next answer would put back is not removed.
    Postpone,
    /// It is what it was; only the kernel is checked.
    Recheck,
}

/// Decides.
pub(crate) fn plan(input: &PassInput<'_>) -> PassPlan {
    let PassInput { before, desired, rendered, services, known, uptime, .. } = *input;
    let scope = write_scope(known, uptime);
    let node_changed = before.is_none_or(|before| before.node != desired.node);
    let host_changed = before.is_none_or(|before| before.host != desired.host);
    let rebuild_services = known.objects && (node_changed || services != ServicesOrigin::Objects);
    let waits = scope == WriteScope::FillEmpty && input.flows_found && uptime < START_GRACE;
    let same =
        rendered.is_some_and(|(split, datapath)| *split == desired.split && *datapath == desired.datapath);
    let host_due = input.host_due || host_changed || rebuild_services;
    PassPlan {
        rebuild_services,
        render: !waits && (!same || rebuild_services),
        scope: (!waits).then_some(scope),
        host: match (host_due, known.objects && scope == WriteScope::Whole) {
            (true, true) => HostStep::Replace,
            (true, false) => HostStep::Postpone,
            (false, _) => HostStep::Recheck,
        },
    }
}

/// Whether enough is known to remove flows.
pub(crate) fn write_scope(known: SourcesKnown, uptime: Duration) -> WriteScope {
    let northbound = match known.northbound {
        NorthboundState::Known | NorthboundState::Absent => true,
        NorthboundState::Silent => uptime >= NORTHBOUND_GRACE,
    };
    if known.objects && known.local && northbound { WriteScope::Whole } else { WriteScope::FillEmpty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::desired;
    use crate::facts::Facts;
    use crate::flags::HelperArgs;

    const ALL: SourcesKnown = SourcesKnown { objects: true, local: true, northbound: NorthboundState::Known };
    const NO_OBJECTS: SourcesKnown = SourcesKnown { objects: false, ..ALL };
    const SILENT: SourcesKnown = SourcesKnown { northbound: NorthboundState::Silent, ..ALL };

    fn some_desired(flags: &str) -> Desired {
        desired(&Facts::default(), &HelperArgs::for_tests(flags))
    }

    /// A pass in the middle of a process's life, in which nothing changed.
    fn quiet(desired: &Desired) -> PassInput<'_> {
        PassInput {
            before: Some(desired),
            desired,
            rendered: Some((&desired.split, &desired.datapath)),
            services: ServicesOrigin::Objects,
            known: ALL,
            uptime: Duration::from_secs(60),
            flows_found: false,
            host_due: false,
        }
    }

    #[test]
    fn flows_are_removed_only_when_every_source_is_known() {
        let absent = SourcesKnown { northbound: NorthboundState::Absent, ..ALL };
        let no_local = SourcesKnown { local: false, ..ALL };
        for (known, seconds, expected) in [
            (ALL, 0, WriteScope::Whole),
            (NO_OBJECTS, 60, WriteScope::FillEmpty),
            (no_local, 60, WriteScope::FillEmpty),
            (SILENT, 0, WriteScope::FillEmpty),
            (SILENT, 4, WriteScope::FillEmpty),
            // A cluster without its database still gets its Services.
            (SILENT, 5, WriteScope::Whole),
            (absent, 0, WriteScope::Whole),
        ] {
            assert_eq!(write_scope(known, Duration::from_secs(seconds)), expected, "{known:?} {seconds}");
        }
    }

    #[test]
    fn a_pass_in_which_nothing_changed_only_checks() {
        let desired = some_desired("");
        let expected = PassPlan {
            rebuild_services: false,
            render: false,
            scope: Some(WriteScope::Whole),
            host: HostStep::Recheck,
        };
        assert_eq!(plan(&quiet(&desired)), expected);
        let silent = PassInput { known: NO_OBJECTS, ..quiet(&desired) };
        let expected = PassPlan { scope: Some(WriteScope::FillEmpty), ..expected };
        assert_eq!(plan(&silent), expected, "a silent source takes no flow away and plans nothing again");
    }

    #[test]
    fn what_changed_decides_what_is_made_again() {
        let now = some_desired("");
        let mut other_node = now.clone();
        other_node.node.name = Some("node9".into());
        let mut other_host = now.clone();
        other_host.host.bridge = "breth9".into();
        let other_split = some_desired("--service-cluster-ip-range=10.96.0.0/16");
        // (what, input, services planned again, rendered again, host's part)
        let cases = [
            (
                "another node",
                PassInput { before: Some(&other_node), ..quiet(&now) },
                true,
                true,
                HostStep::Replace,
            ),
            (
                "another host part",
                PassInput { before: Some(&other_host), ..quiet(&now) },
                false,
                false,
                HostStep::Replace,
            ),
            (
                "the first pass",
                PassInput { before: None, rendered: None, services: ServicesOrigin::None, ..quiet(&now) },
                true,
                true,
                HostStep::Replace,
            ),
            (
                "objects after the cache",
                PassInput { services: ServicesOrigin::Cache, ..quiet(&now) },
                true,
                true,
                HostStep::Replace,
            ),
            (
                "another split",
                PassInput { rendered: Some((&other_split.split, &now.datapath)), ..quiet(&now) },
                false,
                true,
                HostStep::Recheck,
            ),
            (
                "postponed before",
                PassInput { host_due: true, ..quiet(&now) },
                false,
                false,
                HostStep::Replace,
            ),
            (
                "northbound silent at the start",
                PassInput { host_due: true, known: SILENT, uptime: Duration::ZERO, ..quiet(&now) },
                false,
                false,
                HostStep::Postpone,
            ),
            (
                "no objects yet",
                PassInput {
                    before: None,
                    known: NO_OBJECTS,
                    services: ServicesOrigin::None,
                    rendered: None,
                    ..quiet(&now)
                },
                false,
                true,
                HostStep::Postpone,
            ),
        ];
        for (what, input, rebuild_services, render, host) in cases {
            let made = plan(&input);
            assert_eq!(
                (made.rebuild_services, made.render, made.host),
                (rebuild_services, render, host),
                "{what}"
            );
        }
    }

    #[test]
    fn a_bridge_that_has_flows_waits_a_little_for_its_sources() {
        let desired = some_desired("");
        let start = PassInput {
            before: None,
            rendered: None,
            services: ServicesOrigin::None,
            known: NO_OBJECTS,
            uptime: Duration::ZERO,
            flows_found: true,
            ..quiet(&desired)
        };
        let made = plan(&start);
        assert_eq!((made.render, made.scope), (false, None));
        let empty = plan(&PassInput { flows_found: false, ..start });
        assert_eq!(
            (empty.render, empty.scope),
            (true, Some(WriteScope::FillEmpty)),
            "an empty bridge is filled at once"
        );
        let late = plan(&PassInput { uptime: START_GRACE, ..start });
        assert_eq!((late.render, late.scope), (true, Some(WriteScope::FillEmpty)));
        let known = plan(&PassInput { known: ALL, ..start });
        assert_eq!((known.render, known.scope), (true, Some(WriteScope::Whole)));
    }
}
