//! The flows of a bridge as they are, beside what the helper wants and what the ports are.
//!
//! A bridge of ours is in one of these ways: it has nothing but its own NORMAL flow (a learning switch: right as long as
//! no pods are behind it), it has the helper's flows, or somebody took some away, put others before them, or emptied it.

use std::collections::{BTreeMap, BTreeSet};

use ovs::openflow::Dumped;
use ovs::openflow::flow::{Action, Field, FlowKey, Match, OfPort};

use super::super::snapshot::{HelperSeen, Seen, TableSeen, UplinkSeen};
use super::Finding;
use flows::{DEFAULT_ZONE, cookie};
use helper::legacy_flows::{is_bridge_default, is_legacy};
use helper::status::Status;
use uplink::observe::Bridge;

/// Numbers from here on are names for what a switch does (`LOCAL`, `NORMAL`), not for ports.
const RESERVED: u32 = 0xffff_ff00;

/// So many flows are shown of each kind.
const SHOWN: usize = 2;

/// So many pairs of flows are compared at most. A bridge of ours has a rule for all the rest, which is compared first, so
/// that this is far more than is ever needed there.
const COMPARISONS: usize = 5_000_000;

/// Everything about the flows of one uplink's bridge.
pub(super) fn check(seen: &Seen, uplink: &UplinkSeen) -> Vec<Finding> {
    let switch = &seen.observed.switch;
    // The flows are there without the database, too.
    let unlisted = Bridge { name: uplink.bridge.clone(), ..Bridge::default() };
    let bridge = match switch.bridge(&uplink.bridge) {
        Some(bridge) => bridge,
        None if switch.answers => return Vec::new(),
        None => &unlisted,
    };
    // What does not answer is said where the switch is looked at.
    if switch.vswitchd == Some(false) || seen.silent_switch().is_some() {
        return Vec::new();
    }
    let table = match seen.flows.get(&bridge.name) {
        None => return Vec::new(),
        Some(Ok(table)) => table,
        Some(Err(_)) if seen.unprivileged => return Vec::new(),
        Some(Err(why)) => {
            return vec![Finding::warning(
                "flows-unknown",
                &bridge.name,
                format!("its flows cannot be read: {why}"),
                "whether frames reach their owners cannot be told",
                format!(
                    "look again; ovs-vswitchd.log says what it is busy with; `ovs-ofctl dump-flows {}` asks the same",
                    bridge.name
                ),
            )];
        }
    };
    let of_ours =
        |helper: &&HelperSeen| helper.status.as_ref().is_ok_and(|status| status.bridge.name == bridge.name);
    judge(bridge, table, seen.helper.as_ref().filter(of_ours))
}

/// A table, sorted by whose the flows are.
struct Sorted<'a> {
    /// The helper's, without those that traffic makes.
    own: Vec<&'a Dumped>,
    /// An older helper's.
    older: Vec<&'a Dumped>,
    /// Somebody else's.
    foreign: Vec<&'a Dumped>,
    /// The bridge's own NORMAL is there.
    normal: bool,
}

impl<'a> Sorted<'a> {
    fn of(table: &'a TableSeen, zone: u16) -> Self {
        let mut sorted = Sorted { own: Vec::new(), older: Vec::new(), foreign: Vec::new(), normal: false };
        for dumped in &table.flows {
            match &dumped.flow {
                _ if cookie::ours().own(dumped.cookie) => sorted.own.push(dumped),
                _ if cookie::cookies().contain(dumped.cookie) => {}
                Ok(flow) if is_bridge_default(flow) => sorted.normal = true,
                Ok(flow) if dumped.cookie == 0 && is_legacy(flow, zone) => sorted.older.push(dumped),
                _ => sorted.foreign.push(dumped),
            }
        }
        sorted
    }
}

fn judge(bridge: &Bridge, table: &TableSeen, helper: Option<&HelperSeen>) -> Vec<Finding> {
    let about = bridge.name.as_str();
    let status = helper.and_then(|helper| helper.status.as_deref().ok());
    let sorted = Sorted::of(table, status.map_or(DEFAULT_ZONE, |status| status.bridge.conntrack_zone));
    if table.flows.is_empty() {
        return vec![empty(bridge)];
    }
    let mut findings = Vec::new();
    let overlay = bridge.ports.iter().find(|port| port.kind == "patch");
    match (sorted.own.is_empty(), overlay) {
        (true, Some(port)) => findings.push(Finding::error(
            "flows-only-normal",
            about,
            format!("has none of the helper's flows, and a port to OVN ({})", port.name),
            "the bridge only learns addresses, and host and gateway router have the same: the pods' frames go to the host, which resets them, or the host's to the pods",
            "start ovn-k8s-gateway-helper, or see why it does not write its flows (`ovn-k8s status`)",
        )),
        _ => findings.extend(helper.into_iter().flat_map(|helper| differences(about, helper, table))),
    }
    if let Some(helper) = helper.filter(|helper| helper.repaired_meanwhile > 0) {
        findings.push(Finding::warning(
            "flows-fought",
            about,
            format!("the helper had to put {} flows right while we looked", helper.repaired_meanwhile),
            "somebody changes or removes its flows again and again; between that and the repair frames go to the wrong owner",
            "find who: another gateway or SDN agent on this node, a script with ovs-ofctl; ovs-vswitchd.log names what was changed",
        ));
    }
    findings.extend(shadowed(about, &sorted));
    findings.extend(older(about, &sorted));
    findings.extend(stale(about, &sorted, &table.ports));
    if !sorted.normal && !sorted.own.is_empty() {
        findings.push(Finding::note(
            "flows-no-normal",
            about,
            "does not have its own flow (priority=0 actions=NORMAL) any more",
            "nothing passes it once the helper's flows are taken away (--cleanup)",
            format!("`ovs-ofctl add-flow {about} priority=0,actions=NORMAL`"),
        ));
    }
    if findings.is_empty() {
        let what = match (sorted.own.len(), helper.is_some_and(|helper| helper.flows.is_some())) {
            (0, _) => "a learning switch, as it should be without pods".to_owned(),
            (count, true) => format!("has the {count} flows that the helper wants"),
            (count, false) => format!("has {count} flows of the helper"),
        };
        findings.push(Finding::ok("flows", about, what));
    }
    findings
}

/// Nothing passes a bridge without flows, whatever its fail mode: standalone only says that a new one gets NORMAL.
fn empty(bridge: &Bridge) -> Finding {
    let about = bridge.name.as_str();
    let (what, remedy) = if bridge.fail_mode == "secure" {
        (
            "has no flow at all, and fail_mode secure",
            format!(
                "start ovn-k8s-gateway-helper, which writes its own; or `ovs-vsctl set-fail-mode {about} standalone`, and the bridge has its NORMAL flow again"
            ),
        )
    } else {
        (
            "has no flow at all: somebody removed its own, too",
            format!(
                "`ovs-ofctl add-flow {about} priority=0,actions=NORMAL`; a running helper writes its own again"
            ),
        )
    };
    let why = "everything that comes in is dropped: management and pods are cut on this uplink";
    Finding::error("flows-none", about, what, why, remedy)
}

/// Whether the bridge holds what the helper wants; also when the helper does not want anything for sure yet.
pub(in super::super) fn agree(helper: &HelperSeen, table: &TableSeen) -> bool {
    helper.status.as_ref().is_ok_and(|status| !is_certain(status))
        || helper.flows.as_ref().is_none_or(|wanted| compare(wanted, table) == Comparison::default())
}

/// It has a connection, knows all of its sources, and so writes what it wants.
fn is_certain(status: &Status) -> bool {
    status.flows.connected && status.flows.wanted > 0 && status.sources.iter().all(|source| source.synced)
}

/// What is wanted and not there, and what is there and not wanted; some of each as text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Comparison {
    missing: usize,
    surplus: usize,
    some_missing: Vec<String>,
    some_surplus: Vec<String>,
}

fn compare(wanted: &BTreeSet<String>, table: &TableSeen) -> Comparison {
    let own = table.flows.iter().filter(|flow| cookie::ours().own(flow.cookie));
    let there: BTreeSet<String> = own.map(ToString::to_string).collect();
    let missing: Vec<&String> = wanted.difference(&there).collect();
    let surplus: Vec<&String> = there.difference(wanted).collect();
    let some = |all: &[&String]| all.iter().take(SHOWN).map(|text| (*text).clone()).collect();
    Comparison {
        some_missing: some(&missing),
        some_surplus: some(&surplus),
        missing: missing.len(),
        surplus: surplus.len(),
    }
}

fn differences(about: &str, helper: &HelperSeen, table: &TableSeen) -> Vec<Finding> {
    let (Ok(status), Some(wanted)) = (&helper.status, &helper.flows) else { return Vec::new() };
    if !is_certain(status) {
        return Vec::new();
    }
    let compared = compare(wanted, table);
    // Those whose place is taken are said by the helper.
    let taken = status.flows.conflicts.len();
    let mut findings = Vec::new();
    const REMEDY: &str = "look again; `ovs-appctl -t ovn-k8s-gateway-helper reconcile` has them put right at once, and its log says who was there first";
    if compared.missing > taken {
        findings.push(Finding::error(
            "flows-missing",
            about,
            format!(
                "{} of the {} flows that the helper wants are not there, or were changed: {}",
                compared.missing - taken,
                wanted.len(),
                compared.some_missing.join("; ")
            ),
            "their frames meet a more general rule: mostly they go to the host",
            REMEDY,
        ));
    }
    if compared.surplus > 0 && compared.missing <= taken {
        findings.push(Finding::warning(
            "flows-surplus",
            about,
            format!(
                "{} flows with the helper's mark that it does not want: {}",
                compared.surplus,
                compared.some_surplus.join("; ")
            ),
            "frames of Services that are no more, or not the helper's at all, go to the pods",
            REMEDY,
        ));
    }
    findings
}

/// Others' flows that take frames before ours do.
fn shadowed(about: &str, sorted: &Sorted<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_table: BTreeMap<u8, Vec<&FlowKey>> = BTreeMap::new();
    for key in sorted.own.iter().filter_map(|flow| flow.key()) {
        by_table.entry(key.table).or_default().push(key);
    }
    // The most general ones are the lowest, and meet everything.
    by_table.values_mut().for_each(|keys| keys.sort_by_key(|key| key.priority));
    let mut left = COMPARISONS;
    let before: Vec<&Dumped> =
        sorted.foreign.iter().copied().filter(|flow| takes_before(flow, &by_table, &mut left)).collect();
    if left == 0 {
        let what =
            format!("{} flows of others are too many to be compared with the helper's", sorted.foreign.len());
        let why = "whether they take frames before the helper's do is not known of all";
        let remedy = format!("`ovs-ofctl dump-flows {about}` shows them");
        findings.push(Finding::note("flows-unknown", about, what, why, remedy));
    }
    let Some(first) = before.first() else { return findings };
    let everything = before.iter().any(|flow| flow.key().is_some_and(|key| takes_all(&key.matches)));
    let shown: Vec<_> = before.iter().take(SHOWN).map(|flow| met(flow)).collect();
    let what = format!("{} flows of others stand before the helper's: {}", before.len(), shown.join("; "));
    let remedy = format!(
        "find whose they are (cookie {:#x}) and end that program, or remove them: `ovs-ofctl del-flows {about} cookie={:#x}/-1`",
        first.cookie, first.cookie
    );
    findings.push(if everything {
        let why = "one of them takes every frame of a port: the helper's rules decide nothing there";
        Finding::error("flows-shadowed", about, what, why, remedy)
    } else {
        let why = "the frames they match do not go where the helper's rules would have them go";
        Finding::warning("flows-shadowed", about, what, why, remedy)
    });
    findings
}

/// A flow with what met it; a flow of unknown actions as far as it is known.
fn met(flow: &Dumped) -> String {
    format!("{flow} ({} packets)", flow.packets)
}

/// Whether frames that one of ours would take meet it first. What cannot be read is taken at its priority.
fn takes_before(flow: &Dumped, ours: &BTreeMap<u8, Vec<&FlowKey>>, left: &mut usize) -> bool {
    let (table, priority, matches) = match (&flow.flow, flow.key()) {
        (_, Some(key)) => (key.table, key.priority, Some(&key.matches)),
        (Err(opaque), None) => (opaque.table, opaque.priority, None),
        (Ok(_), None) => return false,
    };
    let below = ours.get(&table).into_iter().flatten().take_while(|own| own.priority <= priority);
    let mut below = below.take(*left).inspect(|_| *left -= 1);
    below.any(|own| matches.is_none_or(|matches| overlap(matches, &own.matches)))
}

/// Whether some frame meets both.
fn overlap(one: &Match, other: &Match) -> bool {
    one.iter().all(|(field, masked)| {
        let other = other.get(field);
        other.is_none_or(|other| (masked.value ^ other.value) & masked.mask & other.mask == 0)
    })
}

/// Whether it takes all frames, or all of a port.
fn takes_all(matches: &Match) -> bool {
    matches.iter().all(|(field, _)| field == Field::InPort)
}

fn older(about: &str, sorted: &Sorted<'_>) -> Option<Finding> {
    let count = sorted.older.len();
    (count > 0).then(|| {
        Finding::warning(
            "flows-older",
            about,
            format!("has {count} flows of an older helper (without a cookie)"),
            "its table 1 gives established fragments of the host to the pods",
            "stop that helper, and start ovn-k8s-gateway-helper once with --adopt, which removes them",
        )
    })
}

/// Flows that name ports which are not there any more.
fn stale(about: &str, sorted: &Sorted<'_>, ports: &BTreeMap<u32, String>) -> Vec<Finding> {
    let names_gone = |flow: &&&Dumped| {
        let mut gone = named(flow).into_iter().filter(|port| !ports.contains_key(port));
        gone.next().is_some()
    };
    let say = |flows: &[&Dumped]| {
        let numbers: BTreeSet<u32> = flows.iter().flat_map(|flow| named(flow)).collect();
        let numbers = numbers.iter().filter(|port| !ports.contains_key(port)).map(u32::to_string);
        numbers.collect::<Vec<_>>().join(", ")
    };
    let mut findings = Vec::new();
    let ours: Vec<&Dumped> = sorted.own.iter().filter(names_gone).copied().collect();
    if !ours.is_empty() {
        findings.push(Finding::error(
            "flows-stale-port",
            about,
            format!("{} of the helper's flows name ports that are not there: {}", ours.len(), say(&ours)),
            "uplink or patch port were made anew and have other numbers: their frames are not known, or are sent to nowhere",
            "start ovn-k8s-gateway-helper, which renders them for the ports there are; `ovs-vsctl --columns=name,ofport list Interface` lists those",
        ));
    }
    let foreign: Vec<&Dumped> =
        sorted.foreign.iter().chain(&sorted.older).filter(names_gone).copied().collect();
    if !foreign.is_empty() {
        findings.push(Finding::note(
            "flows-stale-port",
            about,
            format!("{} flows of others name ports that are not there: {}", foreign.len(), say(&foreign)),
            "they do nothing, until a new port gets such a number",
            format!("remove them (`ovs-ofctl dump-flows {about}` shows them)"),
        ));
    }
    findings
}

/// The ports that a flow matches or sends to.
fn named(flow: &Dumped) -> Vec<u32> {
    let key = flow.key().and_then(|key| key.matches.get(Field::InPort));
    let key = key.filter(|masked| masked.mask == Field::InPort.full_mask());
    let mut ports: Vec<u32> = key.and_then(|masked| u32::try_from(masked.value).ok()).into_iter().collect();
    let actions = flow.flow.as_ref().map(|flow| flow.value.actions.as_slice()).unwrap_or_default();
    ports.extend(actions.iter().filter_map(|action| match action {
        Action::Output(OfPort(number)) => Some(*number),
        _ => None,
    }));
    ports.retain(|port| *port < RESERVED && *port != 0);
    ports
}
