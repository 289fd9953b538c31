//! Prints a plan as a table or as JSON.

use std::fmt;

use host::rtnl::Request;
use serde::{Serialize, Serializer};

use super::{Plan, UplinkPlan, switch};
use crate::managers::{Act, Handover};
use crate::options::{Datapath, Direction};
use crate::steps::{DetachStep, PlannedStep, Step};

/// How many requests of a step are shown; a router may have tens of thousands of routes.
const SHOWN: usize = 24;

impl Plan {
    /// One line for each action, in the order of execution: name of the step, device, action.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let complete = self.uplinks.iter().filter(|uplink| uplink.complete).map(|uplink| {
            let UplinkPlan { nic, bridge, .. } = uplink;
            format!("{bridge}: has the addresses of {nic} already; check its ingress filter")
        });
        let mut lines: Vec<String> = complete.collect();
        for &step in &self.steps {
            let open = self.uplinks.iter().filter(|uplink| !uplink.complete);
            lines.extend(
                open.flat_map(|uplink| self.of_step(step, uplink))
                    .map(|line| format!("{:<11}{line}", step.name())),
            );
        }
        lines
    }

    fn of_step(&self, step: PlannedStep, uplink: &UplinkPlan) -> Vec<String> {
        let mut lines = match step {
            PlannedStep::Attach(step) => attach_actions(step, uplink),
            PlannedStep::Detach(step) => detach_actions(step, uplink),
        };
        let requests = uplink.requests.iter().filter(|(of, _)| *of == step).map(|(_, request)| request);
        lines.extend(shown(requests, uplink));
        let acts: fn(&Handover) -> &Vec<Act> = match step {
            PlannedStep::Attach(Step::Journal) => |handover| &handover.prepare,
            PlannedStep::Attach(Step::Commit) => |handover| &handover.complete,
            PlannedStep::Detach(DetachStep::Guard) => |handover| &handover.take_back,
            _ => return lines,
        };
        let mine = self.handovers.iter().filter(|handover| handover.bridge == uplink.bridge);
        lines.extend(
            mine.flat_map(|handover| acts(handover).iter().map(|act| format!("{}: {act}", handover.manager))),
        );
        lines
    }
}

/// The actions of a step of `nics-to-bridge` besides its kernel requests.
fn attach_actions(step: Step, uplink: &UplinkPlan) -> Vec<String> {
    let UplinkPlan { nic, bridge, datapath, mtu, .. } = uplink;
    let Some(config) = &uplink.config else { return Vec::new() };
    let line = |text: String| vec![text];
    match step {
        Step::Journal => line(format!("{nic}: write the undo journal, start the rollback watchdog")),
        Step::BridgeTx if config.held.bridge => {
            line(format!("{bridge}: exists; set its MAC to {} and its MTU to {mtu}", config.nic.mac))
        }
        Step::BridgeTx => line(format!(
            "{bridge}: make the bridge (datapath {datapath}, MAC {}, MTU {mtu})",
            config.nic.mac
        )),
        Step::Bridge => line(format!("{bridge}: wait until ovs-vswitchd has made its device")),
        Step::GuardB => {
            let table = switch::filter_of(bridge);
            line(format!(
                "{bridge}: ingress filter (nft table netdev {table}): accept frames from {nic} only"
            ))
        }
        Step::LinkUp if *datapath == Datapath::System => line(format!(
            "{bridge}: take the sysctls of {nic}, rp_filter 2 (both devices have the addresses for a moment); set it up"
        )),
        Step::LinkUp => line(format!("{bridge}: take the sysctls of {nic}; set it up")),
        Step::PortTx => {
            let mut lines = Vec::new();
            if *datapath == Datapath::Netdev && !config.rows.merging.is_empty() {
                let offloads = config.rows.merging.join(", ");
                lines.push(format!("{nic}: turn off {offloads} (frames too large for the switch's port)"));
            }
            lines.push(match config.held.port {
                true => format!("{nic}: is a port of {bridge} already"),
                false if config.rows.qdisc.is_some() => {
                    format!(
                        "{nic}: add it to {bridge} as a port, with QoS linux-noop, which keeps its root qdisc"
                    )
                }
                false => format!("{nic}: add it to {bridge} as a port"),
            });
            lines
        }
        Step::Ofport => line(format!("{nic}: wait until ovs-vswitchd has given the port a number")),
        Step::Proven if !uplink.probe => line(format!("{bridge}: next hops are not probed (--no-probe)")),
        Step::Proven => {
            let hops: Vec<_> = config.rows.routers().iter().take(SHOWN).map(ToString::to_string).collect();
            let effect = match datapath {
                Datapath::Netdev => "nothing is switched over before one answers",
                Datapath::System => {
                    "after the switchover: on this datapath the port takes the frames at once"
                }
            };
            line(if hops.is_empty() {
                format!("{bridge}: no next hop to probe")
            } else {
                format!("{bridge}: probe {} through it; {effect}", hops.join(", "))
            })
        }
        Step::IngressFilter => line(format!("{bridge}: ingress filter: accept frames from {bridge} only")),
        Step::Verify => {
            let next_hops = if uplink.probe { ", next hops" } else { "" };
            line(format!(
                "{bridge}: check addresses, routes{next_hops} and TCP connections; undo everything on a failure"
            ))
        }
        Step::Commit => line(format!("{bridge}: keep the record of the takeover, close the journal")),
        Step::Addresses | Step::Neighbours | Step::Routes | Step::OldOff => Vec::new(),
    }
}

/// The actions of a step of `bridge-to-nics` besides its kernel requests.
fn detach_actions(step: DetachStep, uplink: &UplinkPlan) -> Vec<String> {
    let UplinkPlan { nic, bridge, .. } = uplink;
    let line = |text: String| vec![text];
    match step {
        DetachStep::Journal => line(format!("{bridge}: write the undo journal, start the rollback watchdog")),
        DetachStep::IngressFilter => line(format!(
            "{nic}: ingress filter: accept frames from both devices for a moment, then from {nic} only"
        )),
        DetachStep::Verify => line(format!("{nic}: check addresses, routes and next hops")),
        DetachStep::Down => line(format!("{bridge}: set its device down")),
        DetachStep::Ovsdb => line(format!("{bridge}: remove it from the switch's database")),
        DetachStep::Guard => {
            line(format!("{nic}: remove the ingress filter; restore offloads, root qdisc and sysctls"))
        }
        DetachStep::Commit => line(format!("{bridge}: forget the record of the takeover, close the journal")),
        DetachStep::Addresses | DetachStep::Routes | DetachStep::OldOff => Vec::new(),
    }
}

fn shown<'a>(requests: impl Iterator<Item = &'a Request>, uplink: &UplinkPlan) -> Vec<String> {
    let all: Vec<&Request> = requests.collect();
    let mut lines: Vec<String> = all.iter().take(SHOWN).map(|request| text(request, uplink)).collect();
    if all.len() > SHOWN {
        lines.push(format!("and {} more", all.len() - SHOWN));
    }
    lines
}

/// A request with the two devices by name.
fn text(request: &Request, uplink: &UplinkPlan) -> String {
    let config = uplink.config.as_ref();
    let bridge = config.and_then(|config| config.bridge_rows.as_ref()).map_or(0, |rows| rows.device.index);
    let nic = config.map(|config| (config.nic.index, uplink.nic.as_str()));
    let devices: Vec<_> = nic.into_iter().chain([(bridge, uplink.bridge.as_str())]).collect();
    with_device_names(&request.to_string(), &devices)
}

/// A text of ip(8) with these devices by name instead of by index.
pub(super) fn with_device_names(text: &str, devices: &[(u32, &str)]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(' ') {
        let index = word.parse::<u32>().ok().filter(|_| words.last() == Some(&"dev"));
        let name = index.and_then(|index| devices.iter().find(|(of, _)| *of == index));
        words.push(name.map_or(word, |(_, name)| name));
    }
    words.join(" ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for uplink in &self.uplinks {
            let (from, to) = match uplink.direction {
                Direction::Attach => (&uplink.nic, &uplink.bridge),
                Direction::Detach => (&uplink.bridge, &uplink.nic),
            };
            let half_way = if uplink.half_way { ", half done already" } else { "" };
            writeln!(f, "{from} -> {to}   datapath {}{half_way}", uplink.datapath)?;
        }
        let lines = self.lines();
        section(f, "Steps", lines.iter().enumerate().map(|(n, line)| format!("{:>3}  {line}", n + 1)))?;
        let warnings = self.warnings.iter();
        section(f, "Warnings", warnings.map(|it| item(it.name, &it.about, &it.what, &it.remedy, false)))?;
        let refusals = self.refusals.iter();
        section(f, "Refused", refusals.map(|it| item(it.name, &it.about, &it.what, &it.remedy, it.forceable)))
    }
}

/// `steps` are the lines of the table, `sequence` the names of the executed steps, `requests` all kernel requests.
impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            uplinks: &'a [UplinkPlan],
            steps: Vec<String>,
            sequence: &'a [PlannedStep],
            requests: Vec<String>,
            warnings: &'a [super::Notice],
            refusals: &'a [super::Refusal],
            handovers: &'a [Handover],
        }
        let requests = self.uplinks.iter().flat_map(|uplink| {
            uplink
                .requests
                .iter()
                .map(|(step, request)| format!("{}: {}", step.name(), text(request, uplink)))
        });
        let view = View {
            uplinks: &self.uplinks,
            steps: self.lines(),
            sequence: &self.steps,
            requests: requests.collect(),
            warnings: &self.warnings,
            refusals: &self.refusals,
            handovers: &self.handovers,
        };
        view.serialize(serializer)
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = String>) -> fmt::Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "\n{title}")?;
    }
    lines.try_for_each(|line| writeln!(f, "{line}"))
}

fn item(name: &str, about: &str, what: &str, remedy: &str, forceable: bool) -> String {
    let force = if forceable { "; or --force" } else { "" };
    format!("  {name}: {about}: {what}\n      -> {remedy}{force}")
}
