//! OVN on this node. A node without OVN is healthy: a NIC may be taken over first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ovs::ovsdb::Remote;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{DaemonSnapshot, DatabaseSnapshot, NodeSnapshot, ovn_setting};
use helper::INTEGRATION_BRIDGE;
use uplink::names;

const CONTROLLER: &str = "ovn-controller";

/// Kinds of tunnels (ovn-controller(8)).
const TUNNELS: [&str; 3] = ["geneve", "vxlan", "stt"];

/// All findings about OVN.
pub(super) fn check(node: &NodeSnapshot) -> Vec<Finding> {
    let ids = &node.observed.switch.external_ids;
    if node.ovn.controller.is_none() && ovn_setting(ids, "ovn-remote").is_none() {
        return vec![not_configured(node)];
    }
    let checker = Checker { node, ids, pods: node.carries_pods() };
    let mut findings = checker.controller();
    if node.observed.switch.answers {
        findings.extend(checker.settings());
        findings.extend(checker.mappings());
        findings.extend(checker.integration());
    }
    findings.extend(checker.southbound(&findings));
    findings.extend(checker.northbound());
    if findings.is_empty() {
        let southbound = node.ovn.southbound.as_ref().map_or("", |database| &database.origin);
        findings.push(Finding::ok("ovn", CONTROLLER, format!("runs and is connected to {southbound}")));
    }
    findings
}

fn not_configured(node: &NodeSnapshot) -> Finding {
    if !node.observed.switch.answers || node.unprivileged {
        let what = "whether it is set up is not known";
        let remedy = "solve the findings about the switch first";
        return Finding::note("ovn", "OVN", what, "its settings are in the switch's database", remedy);
    }
    Finding::note(
        "ovn",
        "OVN",
        "is not set up on this node (no ovn-controller, no external_ids:ovn-remote)",
        "it provides no network for pods; a NIC can be taken over without it",
        "nothing to do, unless OVN is meant to run here",
    )
}

struct Checker<'a> {
    node: &'a NodeSnapshot,
    ids: &'a BTreeMap<String, String>,
    /// A patch port leads from an uplink to OVN.
    pods: bool,
}

impl Checker<'_> {
    /// An error when pods use this node's uplink, else a warning.
    fn finding(&self, name: &'static str, about: &str, what: String, why: &str, remedy: String) -> Finding {
        if self.pods {
            Finding::error(name, about, what, why, remedy)
        } else {
            Finding::warning(name, about, what, why, remedy)
        }
    }

    fn controller(&self) -> Vec<Finding> {
        const WHY: &str = "br-int keeps its present flows: new pods get no network, changes of routes and NAT have no effect";
        let start = "`systemctl start ovn-controller`; ovn-controller.log says why it ended";
        let Some(controller) = &self.node.ovn.controller else {
            let what = "does not run, and external_ids:ovn-remote is set".to_owned();
            return vec![self.finding("ovn-controller", CONTROLLER, what, WHY, start.to_owned())];
        };
        let DaemonSnapshot { pid, stopped, answer } = controller;
        match answer {
            _ if *stopped => {
                let what = format!("a signal or a debugger stopped it (pid {pid})");
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, format!("`kill -CONT {pid}`"))]
            }
            Err(_) if self.node.unprivileged => Vec::new(),
            Err(why) => {
                let what = format!("runs (pid {pid}) and does not answer: {why}");
                let remedy = "`systemctl restart ovn-controller`; ovn-controller.log says what it waits for"
                    .to_owned();
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, remedy)]
            }
            Ok(status) if status.trim() != "connected" => {
                let what = format!("is not connected to the southbound database ({})", status.trim());
                let remedy = "check that the database runs and is reachable from this node (finding `ovn-southbound`), with ssl: also the certificates; ovn-controller.log has the error";
                vec![self.finding("ovn-controller", CONTROLLER, what, WHY, remedy.to_owned())]
            }
            Ok(_) => Vec::new(),
        }
    }

    /// Settings that ovn-controller requires.
    fn settings(&self) -> Vec<Finding> {
        let (mut findings, get) = (Vec::new(), |name| ovn_setting(self.ids, name));
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
        if get("system-id").is_none() && !self.node.ovn.name_overridden {
            let why = "ovn-controller has no name for this node and does not start its work";
            wrong("system-id", "is not set", why, "NAME");
        }
        const TUNNEL: &str = "there are no tunnels to other nodes: their pods are not reachable";
        match get("ovn-encap-type") {
            None => wrong("ovn-encap-type", "is not set", TUNNEL, "geneve"),
            Some(types) => {
                let unknown = types.split(',').find(|one| !TUNNELS.contains(&one.trim()));
                if let Some(unknown) = unknown {
                    let what = format!("names \"{unknown}\", which is not a tunnel type");
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
                            let what = format!("\"{text}\" is not an IP address");
                            wrong("ovn-encap-ip", &what, TUNNEL, "ADDRESS-OF-THIS-NODE");
                        }
                        Ok(address) if self.is_foreign(address) => {
                            let what = format!("{address} is not an address of this node");
                            let why = "other nodes send the pods' frames to another machine";
                            wrong("ovn-encap-ip", &what, why, "ADDRESS-OF-THIS-NODE");
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
        findings
    }

    fn is_foreign(&self, address: IpAddr) -> bool {
        let addresses = &self.node.ovn.addresses;
        !addresses.is_empty() && !addresses.contains(&address)
    }

    /// `ovn-bridge-mappings`: the bridge of each physical network.
    fn mappings(&self) -> Vec<Finding> {
        let (name, about) = ("ovn-bridge-mappings", "external_ids:ovn-bridge-mappings");
        let Some(text) = ovn_setting(self.ids, name) else { return self.no_path() };
        let mut findings = Vec::new();
        let switch = &self.node.observed.switch;
        let mut named = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((network, bridge)) =
                pair.split_once(':').filter(|(a, b)| !a.is_empty() && !b.is_empty())
            else {
                let remedy = format!(
                    "`ovs-vsctl set Open_vSwitch . external_ids:{name}=NETWORK:BRIDGE` (several separated by commas)"
                );
                let why = "ovn-controller ignores it and creates no port to the physical network";
                findings.push(Finding::warning(
                    name,
                    about,
                    format!("\"{pair}\" is not NETWORK:BRIDGE"),
                    why,
                    remedy,
                ));
                continue;
            };
            named.push(bridge);
            // The takeover creates it.
            if self.node.uplinks.iter().any(|uplink| !uplink.taken_over && uplink.bridge == bridge) {
                continue;
            }
            if switch.bridge(bridge).is_none() {
                let ours = switch.bridge(&names::bridge_of(bridge)).map(|bridge| bridge.name.as_str());
                let instead = ours.unwrap_or("BRIDGE");
                let what = match ours {
                    Some(ours) => format!("{network} names {bridge}, which is the NIC; its bridge is {ours}"),
                    None => format!("{network} names the bridge {bridge}, which does not exist"),
                };
                let remedy =
                    format!("`ovs-vsctl set Open_vSwitch . external_ids:{name}={network}:{instead}`");
                let why = "ovn-controller creates no port between that network and br-int: its outgoing packets are lost";
                findings.push(Finding::warning(name, about, what, why, remedy));
            }
        }
        if findings.is_empty()
            && !self.node.taken_over().any(|uplink| named.contains(&uplink.bridge.as_str()))
        {
            findings.extend(self.no_path());
        }
        findings
    }

    /// Neither a mapping nor a patch port leads from an uplink to OVN.
    fn no_path(&self) -> Vec<Finding> {
        let Some(uplink) = self.node.taken_over().next().filter(|_| !self.pods) else { return Vec::new() };
        vec![Finding::note(
            "ovn-no-way",
            &uplink.bridge,
            "no patch port leads from it to OVN's bridge, and no mapping names it",
            "pods cannot use this uplink",
            "`systemctl start ovn-k8s-gateway-helper` creates the patch port; or name the bridge in external_ids:ovn-bridge-mappings",
        )]
    }

    /// br-int itself.
    fn integration(&self) -> Vec<Finding> {
        match (self.node.observed.switch.bridge(INTEGRATION_BRIDGE), self.node.ovn.integration_flows) {
            (None, _) if self.node.ovn.controller.is_some() => vec![self.finding(
                "ovn-bridge",
                INTEGRATION_BRIDGE,
                "does not exist".to_owned(),
                "all pods of the node are connected to it; ovn-controller creates it",
                "ovn-controller.log says why it was not created".to_owned(),
            )],
            (Some(_), Some(0)) => vec![self.finding(
                "ovn-flows",
                INTEGRATION_BRIDGE,
                "has no flows".to_owned(),
                "no frame passes it: pods have no network",
                "ovn-controller writes them: check that it runs and is connected (`ovn-appctl connection-status`)".to_owned(),
            )],
            _ => Vec::new(),
        }
    }

    fn southbound(&self, so_far: &[Finding]) -> Option<Finding> {
        let database = self.node.ovn.southbound.as_ref()?;
        // An invalid address has a finding already.
        if so_far.iter().any(|finding| finding.about == "external_ids:ovn-remote") {
            return None;
        }
        let Err(why) = database.answer.as_ref()? else { return None };
        let what = format!("{} does not answer: {why}", database.origin);
        let why = "ovn-controller depends on it: present flows stay, changes have no effect";
        let remedy = "check that it runs and is reachable from this node; firewall rules that name the NIC do not match after a takeover";
        Some(self.finding("ovn-southbound", "the southbound database", what, why, remedy.to_owned()))
    }

    /// A running helper reports its own connection.
    fn northbound(&self) -> Option<Finding> {
        if self.node.status().is_some() {
            return None;
        }
        let DatabaseSnapshot { origin, configured_by, answer } = self.node.ovn.northbound.as_ref()?;
        let Err(why) = answer.as_ref()? else { return None };
        Some(Finding::warning(
            "ovn-northbound",
            "the northbound database",
            format!("{origin} ({configured_by}) does not answer: {why}"),
            "the helper reads from it the addresses that the gateway router shares with the host; without it, it omits those flows",
            "check that it runs and is reachable from this node",
        ))
    }
}
