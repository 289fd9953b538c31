//! OVN on this node. A node without any is fine: a NIC may well be taken over first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ovs::ovsdb::Remote;

use super::super::snapshot::{Answers, DatabaseSeen, Seen};
use super::Finding;
use helper::INTEGRATION_BRIDGE;
use uplink::plan;

const CONTROLLER: &str = "ovn-controller";

/// Kinds of tunnels (ovn-controller(8)).
const TUNNELS: [&str; 3] = ["geneve", "vxlan", "stt"];

/// A setting of OVN: the one of this chassis goes before the one of all.
pub(in super::super) fn setting<'a>(ids: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let own = ids.get("system-id").and_then(|chassis| ids.get(&format!("{name}-{chassis}")));
    own.or_else(|| ids.get(name)).map(String::as_str).filter(|value| !value.trim().is_empty())
}

/// Everything about OVN.
pub(super) fn check(seen: &Seen) -> Vec<Finding> {
    let ids = &seen.observed.switch.external_ids;
    if seen.ovn.controller.is_none() && setting(ids, "ovn-remote").is_none() {
        return vec![nothing(seen)];
    }
    let judge = Judge { seen, ids, pods: seen.carries_pods() };
    let mut findings = judge.controller();
    if seen.observed.switch.answers {
        findings.extend(judge.settings());
        findings.extend(judge.mappings());
        findings.extend(judge.integration());
    }
    findings.extend(judge.southbound(&findings));
    findings.extend(judge.northbound());
    if findings.is_empty() {
        let southbound = seen.ovn.southbound.as_ref().map_or("", |database| &database.origin);
        findings.push(Finding::ok("ovn", CONTROLLER, format!("runs, and is connected to {southbound}")));
    }
    findings
}

fn nothing(seen: &Seen) -> Finding {
    if !seen.observed.switch.answers || seen.unprivileged {
        let what = "whether it is set up cannot be told";
        let remedy = "see to the switch's database first";
        return Finding::note("ovn", "OVN", what, "its settings are in the switch's database", remedy);
    }
    Finding::note(
        "ovn",
        "OVN",
        "is not set up on this node (no ovn-controller, no external_ids:ovn-remote)",
        "pods have no network by it; a NIC can be taken over all the same",
        "nothing to do, unless OVN was meant to run here",
    )
}

struct Judge<'a> {
    seen: &'a Seen,
    ids: &'a BTreeMap<String, String>,
    /// A patch port leads from an uplink to OVN.
    pods: bool,
}

impl Judge<'_> {
    /// As bad as it is for pods that go by this node, if there are any.
    fn finding(&self, name: &'static str, about: &str, what: String, why: &str, remedy: String) -> Finding {
        if self.pods {
            Finding::error(name, about, what, why, remedy)
        } else {
            Finding::warning(name, about, what, why, remedy)
        }
    }

    fn controller(&self) -> Vec<Finding> {
        const WHY: &str = "flows of br-int stay as they are: new pods get no network, changes of routes and of NAT do not get there";
        let start = "start it (`systemctl start ovn-controller`); ovn-controller.log says why it ended";
        let Some(controller) = &self.seen.ovn.controller else {
            let what = "does not run, and external_ids:ovn-remote is set".to_owned();
            return vec![self.finding("ovn-controller", CONTROLLER, what, WHY, start.to_owned())];
        };
        let Answers { pid, stopped, said } = controller;
        match said {
            _ if *stopped => {
                let what = format!("was stopped by a signal or a debugger (pid {pid})");
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, format!("`kill -CONT {pid}`"))]
            }
            Err(_) if self.seen.unprivileged => Vec::new(),
            Err(why) => {
                let what = format!("runs (pid {pid}) and does not answer: {why}");
                let remedy = "see its log (ovn-controller.log); restart it".to_owned();
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, remedy)]
            }
            Ok(said) if said.trim() != "connected" => {
                let what = format!("is not connected to the southbound database ({})", said.trim());
                let remedy = "see whether that database runs and can be reached from here (below), and with ssl: whether the certificates fit; ovn-controller.log says more";
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, remedy.to_owned())]
            }
            Ok(_) => Vec::new(),
        }
    }

    /// Settings that ovn-controller cannot do without.
    fn settings(&self) -> Vec<Finding> {
        let (mut findings, get) = (Vec::new(), |name| setting(self.ids, name));
        let mut wrong = |name: &str, what: &str, why: &str, value: &str| {
            let about = format!("external_ids:{name}");
            let remedy = format!("`ovs-vsctl set Open_vSwitch . external_ids:{name}={value}`");
            findings.push(self.finding("ovn-settings", &about, what.to_owned(), why, remedy));
        };
        match get("ovn-remote").map(Remote::parse_list) {
            None => wrong(
                "ovn-remote",
                "is not set",
                "ovn-controller does not know the southbound database",
                "tcp:HOST:6642",
            ),
            Some(Err(error)) => wrong(
                "ovn-remote",
                &error.to_string(),
                "ovn-controller cannot connect to the southbound database",
                "tcp:HOST:6642",
            ),
            Some(Ok(_)) => {}
        }
        if get("system-id").is_none() && !self.seen.ovn.named_otherwise {
            let why = "ovn-controller has no name for this node, and does nothing";
            wrong("system-id", "is not set", why, "NAME");
        }
        const TUNNEL: &str = "no tunnels to other nodes: their pods cannot be reached";
        match get("ovn-encap-type") {
            None => wrong("ovn-encap-type", "is not set", TUNNEL, "geneve"),
            Some(types) => {
                let unknown = types.split(',').find(|one| !TUNNELS.contains(&one.trim()));
                if let Some(unknown) = unknown {
                    let what = format!("names \"{unknown}\", which is no kind of tunnel");
                    wrong("ovn-encap-type", &what, TUNNEL, "geneve");
                }
            }
        }
        match get("ovn-encap-ip") {
            None => wrong("ovn-encap-ip", "is not set", TUNNEL, "ADDRESS-OF-THIS-NODE"),
            Some(addresses) => {
                for text in addresses.split(',').map(str::trim) {
                    match text.parse::<IpAddr>() {
                        Err(_) => {
                            let what = format!("\"{text}\" is no address");
                            wrong("ovn-encap-ip", &what, TUNNEL, "ADDRESS-OF-THIS-NODE");
                        }
                        Ok(address) if self.is_strange(address) => {
                            let what = format!("{address} is not an address of this node");
                            let why = "other nodes send the pods' frames to somebody else";
                            wrong("ovn-encap-ip", &what, why, "ADDRESS-OF-THIS-NODE");
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
        findings
    }

    fn is_strange(&self, address: IpAddr) -> bool {
        let addresses = &self.seen.ovn.addresses;
        !addresses.is_empty() && !addresses.contains(&address)
    }

    /// `ovn-bridge-mappings`: which bridge is which physical network.
    fn mappings(&self) -> Vec<Finding> {
        let (name, about) = ("ovn-bridge-mappings", "external_ids:ovn-bridge-mappings");
        let Some(text) = setting(self.ids, name) else { return self.no_way() };
        let mut findings = Vec::new();
        let switch = &self.seen.observed.switch;
        let mut named = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((network, bridge)) =
                pair.split_once(':').filter(|(a, b)| !a.is_empty() && !b.is_empty())
            else {
                let remedy = format!(
                    "write NETWORK:BRIDGE, several with commas: `ovs-vsctl set Open_vSwitch . external_ids:{name}=NETWORK:BRIDGE`"
                );
                let why = "ovn-controller leaves it out: ports to the physical network are not made";
                findings.push(Finding::warning(
                    name,
                    about,
                    format!("\"{pair}\" names no network and bridge"),
                    why,
                    remedy,
                ));
                continue;
            };
            named.push(bridge);
            // A takeover will make it.
            if self.seen.uplinks.iter().any(|uplink| !uplink.taken && uplink.bridge == bridge) {
                continue;
            }
            if switch.bridge(bridge).is_none() {
                let ours = switch.bridge(&plan::bridge_of(bridge)).map(|bridge| bridge.name.as_str());
                let instead = ours.unwrap_or("BRIDGE");
                let what = match ours {
                    Some(ours) => format!("{network} names {bridge}, which is the NIC; its bridge is {ours}"),
                    None => format!("{network} names the bridge {bridge}, which is not there"),
                };
                let remedy =
                    format!("`ovs-vsctl set Open_vSwitch . external_ids:{name}={network}:{instead}`");
                let why = "ovn-controller makes no port between that network and br-int: what goes out there is lost";
                findings.push(Finding::warning(name, about, what, why, remedy));
            }
        }
        if findings.is_empty() && !self.seen.taken().any(|uplink| named.contains(&uplink.bridge.as_str())) {
            findings.extend(self.no_way());
        }
        findings
    }

    /// Neither a mapping nor a patch port leads from an uplink to OVN.
    fn no_way(&self) -> Vec<Finding> {
        let Some(uplink) = self.seen.taken().next().filter(|_| !self.pods) else { return Vec::new() };
        vec![Finding::note(
            "ovn-no-way",
            &uplink.bridge,
            "no patch port leads from it to OVN's bridge, and no mapping names it",
            "pods do not go out by this uplink",
            "the running helper makes the patch port; or name the bridge in external_ids:ovn-bridge-mappings",
        )]
    }

    /// br-int itself.
    fn integration(&self) -> Vec<Finding> {
        match (self.seen.observed.switch.bridge(INTEGRATION_BRIDGE), self.seen.ovn.integration_flows) {
            (None, _) if self.seen.ovn.controller.is_some() => vec![self.finding(
                "ovn-bridge",
                INTEGRATION_BRIDGE,
                "is not there".to_owned(),
                "ovn-controller makes it when it can; all pods of the node hang on it",
                "see ovn-controller.log".to_owned(),
            )],
            (Some(_), Some(0)) => vec![self.finding(
                "ovn-flows",
                INTEGRATION_BRIDGE,
                "has no flows".to_owned(),
                "nothing passes it: pods have no network at all",
                "ovn-controller writes them: see whether it runs and is connected, and ovn-controller.log".to_owned(),
            )],
            _ => Vec::new(),
        }
    }

    fn southbound(&self, so_far: &[Finding]) -> Option<Finding> {
        let database = self.seen.ovn.southbound.as_ref()?;
        // A text that is no remote is said already.
        if so_far.iter().any(|finding| finding.about == "external_ids:ovn-remote") {
            return None;
        }
        let Err(why) = database.answer.as_ref()? else { return None };
        let what = format!("{} does not answer: {why}", database.origin);
        let why = "ovn-controller lives by it: what is in force stays, changes do not get there";
        let remedy = "see whether it runs and can be reached from here (routes, firewall: a takeover changes the device's name in rules)";
        Some(self.finding("ovn-southbound", "the southbound database", what, why, remedy.to_owned()))
    }

    /// A running helper speaks for itself.
    fn northbound(&self) -> Option<Finding> {
        if self.seen.status().is_some() {
            return None;
        }
        let DatabaseSeen { origin, told_by, answer } = self.seen.ovn.northbound.as_ref()?;
        let Err(why) = answer.as_ref()? else { return None };
        Some(Finding::warning(
            "ovn-northbound",
            "the northbound database",
            format!("{origin} ({told_by}) does not answer: {why}"),
            "the helper learns from it what the gateway router shares with the host; without it, it leaves those rows out",
            "see whether it runs and can be reached from here",
        ))
    }
}
