//! The flows of a bridge, against what the helper wants and which ports exist.
//!
//! A healthy bridge has the helper's flows, or, when no pods are behind it, only its own NORMAL flow (a learning switch).
//! Other programs may have removed flows, added some of higher priority, or emptied the bridge.

use std::collections::{BTreeMap, BTreeSet};

use ovs::openflow::Dumped;
use ovs::openflow::flow::{Action, Field, FlowKey, Match, OfPort};

use crate::doctor::finding::Finding;
use crate::doctor::flow_diff::{FlowDiff, is_final};
use crate::doctor::snapshot::{FlowTableSnapshot, HelperSnapshot, NodeSnapshot, UplinkSnapshot};
use flows::{DEFAULT_ZONE, cookie};
use helper::legacy_flows::{is_bridge_default, is_legacy};
use uplink::observe::Bridge;

/// Numbers from here on are reserved (`LOCAL`, `NORMAL`) and name no port.
const RESERVED: u32 = 0xffff_ff00;

/// How many flows a finding shows.
const SHOWN: usize = 2;

/// Most pairs of flows that are compared. The helper's catch-all flow is compared first and overlaps with every flow, so
/// that a healthy bridge needs few.
const COMPARISONS: usize = 5_000_000;

/// All findings about the flows of one uplink's bridge.
pub(super) fn check(node: &NodeSnapshot, uplink: &UplinkSnapshot) -> Vec<Finding> {
    let switch = &node.observed.switch;
    // The flows can be read without the database, too.
    let unlisted = Bridge { name: uplink.bridge.clone(), ..Bridge::default() };
    let bridge = match switch.bridge(&uplink.bridge) {
        Some(bridge) => bridge,
        None if switch.answers => return Vec::new(),
        None => &unlisted,
    };
    // The checks of the switch report that it does not answer.
    if switch.vswitchd == Some(false) || node.unresponsive_vswitchd().is_some() {
        return Vec::new();
    }
    let table = match node.flows.get(&bridge.name) {
        None => return Vec::new(),
        Some(Ok(table)) => table,
        Some(Err(_)) if node.unprivileged => return Vec::new(),
        Some(Err(why)) => {
            return vec![Finding::warning(
                "flows-unknown",
                &bridge.name,
                format!("its flows cannot be read: {why}"),
                "whether frames reach their owners is not known",
                format!(
                    "run doctor again; `ovs-ofctl dump-flows {}` makes the same request; ovs-vswitchd.log says why it is slow",
                    bridge.name
                ),
            )];
        }
    };
    let of_ours = |helper: &&HelperSnapshot| {
        helper.status.as_ref().is_ok_and(|status| status.bridge.name == bridge.name)
    };
    judge(bridge, table, node.helper.as_ref().filter(of_ours))
}

/// The flows of a table, by the program they belong to.
struct ByOwner<'a> {
    /// The helper's, without learned ones.
    own: Vec<&'a Dumped>,
    /// Those of an older helper.
    older: Vec<&'a Dumped>,
    /// Those of other programs.
    foreign: Vec<&'a Dumped>,
    /// The bridge has its own NORMAL flow.
    normal: bool,
}

impl<'a> ByOwner<'a> {
    fn of(table: &'a FlowTableSnapshot, zone: u16) -> Self {
        let mut flows = ByOwner { own: Vec::new(), older: Vec::new(), foreign: Vec::new(), normal: false };
        for dumped in &table.flows {
            match &dumped.flow {
                _ if cookie::ours().own(dumped.cookie) => flows.own.push(dumped),
                _ if cookie::cookies().contain(dumped.cookie) => {}
                Ok(flow) if is_bridge_default(flow) => flows.normal = true,
                Ok(flow) if dumped.cookie == 0 && is_legacy(flow, zone) => flows.older.push(dumped),
                _ => flows.foreign.push(dumped),
            }
        }
        flows
    }
}

fn judge(bridge: &Bridge, table: &FlowTableSnapshot, helper: Option<&HelperSnapshot>) -> Vec<Finding> {
    let about = bridge.name.as_str();
    let status = helper.and_then(|helper| helper.status.as_deref().ok());
    let flows = ByOwner::of(table, status.map_or(DEFAULT_ZONE, |status| status.bridge.conntrack_zone));
    if table.flows.is_empty() {
        return vec![empty(bridge)];
    }
    let mut findings = Vec::new();
    let overlay = bridge.ports.iter().find(|port| port.kind == "patch");
    match (flows.own.is_empty(), overlay) {
        (true, Some(port)) => findings.push(Finding::error(
            "flows-only-normal",
            about,
            format!("has none of the helper's flows, and a port to OVN ({})", port.name),
            "a learning switch cannot tell host and gateway router apart, which share one MAC: pods' frames go to the host, which resets them, or the host's to the pods",
            "`systemctl start ovn-k8s-gateway-helper`; if it runs, `ovn-k8s status` says why it writes no flows",
        )),
        _ => findings.extend(helper.into_iter().flat_map(|helper| differences(about, helper, table))),
    }
    if let Some(helper) = helper.filter(|helper| helper.repaired_during_check > 0) {
        findings.push(Finding::warning(
            "flows-fought",
            about,
            format!("the helper repaired {} flows during this check", helper.repaired_during_check),
            "another program changes or removes its flows repeatedly; until each repair frames go to the wrong owner",
            "stop the other program (another gateway or SDN agent, a script with ovs-ofctl); ovs-vswitchd.log and `ovs-appctl -t ovs-vswitchd vlog/set vconn:dbg` show its changes",
        ));
    }
    findings.extend(shadowed(about, &flows));
    findings.extend(older(about, &flows));
    findings.extend(stale(about, &flows, &table.ports));
    if !flows.normal && !flows.own.is_empty() {
        findings.push(Finding::note(
            "flows-no-normal",
            about,
            "has lost its own flow (priority=0 actions=NORMAL)",
            "no frame passes it after the helper's --cleanup",
            format!("`ovs-ofctl add-flow {about} priority=0,actions=NORMAL`"),
        ));
    }
    if findings.is_empty() {
        let what = match (flows.own.len(), helper.is_some_and(|helper| helper.flows.is_some())) {
            (0, _) => "a learning switch, which is right without pods".to_owned(),
            (count, true) => format!("has the {count} flows that the helper wants"),
            (count, false) => format!("has {count} flows of the helper"),
        };
        findings.push(Finding::ok("flows", about, what));
    }
    findings
}

/// No frame passes a bridge without flows, whatever its fail mode: standalone only adds NORMAL to a new bridge.
fn empty(bridge: &Bridge) -> Finding {
    let about = bridge.name.as_str();
    let (what, remedy) = if bridge.fail_mode == "secure" {
        (
            "has no flow at all, and fail_mode secure",
            format!(
                "start ovn-k8s-gateway-helper, which writes its own; or `ovs-vsctl set-fail-mode {about} standalone`, which adds the NORMAL flow"
            ),
        )
    } else {
        (
            "has no flow at all: its own was removed, too",
            format!(
                "`ovs-ofctl add-flow {about} priority=0,actions=NORMAL`; a running helper writes its own again"
            ),
        )
    };
    let why = "every frame is dropped: management and pods are cut off on this uplink";
    Finding::error("flows-none", about, what, why, remedy)
}

fn differences(about: &str, helper: &HelperSnapshot, table: &FlowTableSnapshot) -> Vec<Finding> {
    let (Ok(status), Some(wanted)) = (&helper.status, &helper.flows) else { return Vec::new() };
    if !is_final(status) {
        return Vec::new();
    }
    let compared = FlowDiff::of(wanted, table);
    // The helper reports flows whose match another program uses.
    let taken = status.flows.conflicts.len();
    let mut findings = Vec::new();
    const REMEDY: &str = "`ovs-appctl -t ovn-k8s-gateway-helper reconcile` repairs them now; the helper's log lists what it repaired";
    if compared.missing > taken {
        findings.push(Finding::error(
            "flows-missing",
            about,
            format!(
                "{} of the {} flows that the helper wants are missing or changed: {}",
                compared.missing - taken,
                wanted.len(),
                compared.some_missing.join("; ")
            ),
            "their frames match a more general rule, and most go to the host",
            REMEDY,
        ));
    }
    if compared.surplus > 0 && compared.missing <= taken {
        findings.push(Finding::warning(
            "flows-surplus",
            about,
            format!(
                "has {} flows with the helper's cookie that it does not want: {}",
                compared.surplus,
                compared.some_surplus.join("; ")
            ),
            "frames of deleted Services, or frames that are not the pods', go to the pods",
            REMEDY,
        ));
    }
    findings
}

/// Flows of other programs that match frames before the helper's do.
fn shadowed(about: &str, flows: &ByOwner<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_table: BTreeMap<u8, Vec<&FlowKey>> = BTreeMap::new();
    for key in flows.own.iter().filter_map(|flow| flow.key()) {
        by_table.entry(key.table).or_default().push(key);
    }
    // The lowest are the most general, and overlap with every flow.
    by_table.values_mut().for_each(|keys| keys.sort_by_key(|key| key.priority));
    let mut left = COMPARISONS;
    let before: Vec<&Dumped> =
        flows.foreign.iter().copied().filter(|flow| precedes(flow, &by_table, &mut left)).collect();
    if left == 0 {
        let what = format!(
            "has {} flows of other programs, too many to compare with the helper's",
            flows.foreign.len()
        );
        let why = "some of them may match frames before the helper's do";
        let remedy = format!("`ovs-ofctl dump-flows {about}` lists them");
        findings.push(Finding::note("flows-unknown", about, what, why, remedy));
    }
    let Some(first) = before.first() else { return findings };
    let everything = before.iter().any(|flow| flow.key().is_some_and(|key| matches_all(&key.matches)));
    let shown: Vec<_> = before.iter().take(SHOWN).map(|flow| with_packets(flow)).collect();
    let what =
        format!("{} flows of other programs match before the helper's: {}", before.len(), shown.join("; "));
    let remedy = format!(
        "stop the program that writes them (cookie {:#x}), then `ovs-ofctl del-flows {about} cookie={:#x}/-1`",
        first.cookie, first.cookie
    );
    findings.push(if everything {
        let why = "one of them matches every frame of a port: the helper's rules have no effect there";
        Finding::error("flows-shadowed", about, what, why, remedy)
    } else {
        let why = "the frames that they match do not follow the helper's rules";
        Finding::warning("flows-shadowed", about, what, why, remedy)
    });
    findings
}

/// A flow with its packet count.
fn with_packets(flow: &Dumped) -> String {
    format!("{flow} ({} packets)", flow.packets)
}

/// Whether the flow matches frames before one of ours does. Of a flow with unknown matches only the priority counts.
fn precedes(flow: &Dumped, ours: &BTreeMap<u8, Vec<&FlowKey>>, left: &mut usize) -> bool {
    let (table, priority, matches) = match (&flow.flow, flow.key()) {
        (_, Some(key)) => (key.table, key.priority, Some(&key.matches)),
        (Err(opaque), None) => (opaque.table, opaque.priority, None),
        (Ok(_), None) => return false,
    };
    let below = ours.get(&table).into_iter().flatten().take_while(|own| own.priority <= priority);
    let mut below = below.take(*left).inspect(|_| *left -= 1);
    below.any(|own| matches.is_none_or(|matches| overlap(matches, &own.matches)))
}

/// Whether some frame matches both.
fn overlap(one: &Match, other: &Match) -> bool {
    one.iter().all(|(field, masked)| {
        let other = other.get(field);
        other.is_none_or(|other| (masked.value ^ other.value) & masked.mask & other.mask == 0)
    })
}

/// Whether it matches all frames, or all of a port.
fn matches_all(matches: &Match) -> bool {
    matches.iter().all(|(field, _)| field == Field::InPort)
}

fn older(about: &str, flows: &ByOwner<'_>) -> Option<Finding> {
    let count = flows.older.len();
    (count > 0).then(|| {
        Finding::warning(
            "flows-older",
            about,
            format!("has {count} flows of an older helper (cookie 0)"),
            "its table 1 sends fragments of the host's connections to the pods",
            "stop that helper, then start ovn-k8s-gateway-helper once with --adopt, which removes them",
        )
    })
}

/// Flows that name ports which no longer exist.
fn stale(about: &str, flows: &ByOwner<'_>, ports: &BTreeMap<u32, String>) -> Vec<Finding> {
    let names_missing = |flow: &&&Dumped| {
        let mut missing = named(flow).into_iter().filter(|port| !ports.contains_key(port));
        missing.next().is_some()
    };
    let numbers = |flows: &[&Dumped]| {
        let all: BTreeSet<u32> = flows.iter().flat_map(|flow| named(flow)).collect();
        let numbers = all.iter().filter(|port| !ports.contains_key(port)).map(u32::to_string);
        numbers.collect::<Vec<_>>().join(", ")
    };
    let mut findings = Vec::new();
    let ours: Vec<&Dumped> = flows.own.iter().filter(names_missing).copied().collect();
    if !ours.is_empty() {
        findings.push(Finding::error(
            "flows-stale-port",
            about,
            format!("{} of the helper's flows name ports that do not exist: {}", ours.len(), numbers(&ours)),
            "uplink or patch port were recreated with other numbers: their frames match no rule, or go nowhere",
            "start ovn-k8s-gateway-helper, which rewrites them for the present ports (`ovs-vsctl --columns=name,ofport list Interface`)",
        ));
    }
    let foreign: Vec<&Dumped> =
        flows.foreign.iter().chain(&flows.older).filter(names_missing).copied().collect();
    if !foreign.is_empty() {
        findings.push(Finding::note(
            "flows-stale-port",
            about,
            format!(
                "{} flows of other programs name ports that do not exist: {}",
                foreign.len(),
                numbers(&foreign)
            ),
            "they have no effect until a new port gets such a number",
            format!("`ovs-ofctl dump-flows {about}` lists them; `ovs-ofctl --strict del-flows` removes one"),
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
