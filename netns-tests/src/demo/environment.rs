//! What the demo plays on: the lab, a helper on each node, servers, and where Services come from.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Options, view::View};
use crate::{
    apiserver::{ApiServer, Place},
    lab::{
        Lab, LabOptions, PortRange,
        address::{Family, central, internet},
        helper::{Daemon, HelperOptions, Objects, ReplyRule, binary},
        node::{BRIDGE, UPLINK},
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{self, POD_PORT},
    probe::Responder,
};

/// The last number of the internet address only pods talk to: what comes from it is the pods'.
pub const PODS_PEER: u8 = 11;
/// NodePort of a Service with a pod on the node that is asked.
pub const NODE_PORT_HERE: u16 = 30081;
/// NodePort of a Service with a pod on the other node.
pub const NODE_PORT_THERE: u16 = 30082;
/// NodePort of the Service that comes, moves and goes.
pub const NODE_PORT_NEW: u16 = 30090;

/// The lab with all that the demo needs in it.
#[derive(Debug)]
pub struct Environment {
    // Helpers and servers end before the lab goes.
    helpers: Vec<Daemon>,
    options: HelperOptions,
    _servers: Vec<Responder>,
    api: Option<ApiServer>,
    lab: Lab,
}

impl Environment {
    /// Brings the nodes up, their address on the NIC itself; node2's NIC goes onto its bridge at once, node1's when
    /// somebody looks ([`take_over`](Self::take_over)).
    pub fn set_up(options: Options, view: &View) -> Result<Self> {
        view.say("two nodes, four pods, OVN central, a router, an administrator and an internet: starting");
        let snat_ports = options.partitioned.then_some(PortRange::USUAL);
        let lab = Lab::up(LabOptions { snat_ports, bare_uplinks: true, ..LabOptions::default() })?;
        let mut helper = HelperOptions { snat_ports, ..HelperOptions::default() };
        if options.partitioned {
            helper.reply_rule = ReplyRule::Partitioned;
        }
        let api = options.api.then(|| start_api(&lab, view)).transpose()?;
        if let Some(api) = &api {
            helper.objects = Objects::Elsewhere;
            helper.extra = api_flags(api, &lab)?;
        }
        let servers = matrix::servers(&lab)?;
        let environment = Self { helpers: Vec::new(), options: helper, _servers: servers, api, lab };
        environment.take_over(2)?;
        Ok(environment)
    }

    /// `ovn-k8s-util nics-to-bridge eth0` on a node.
    pub fn take_over(&self, node: usize) -> Result<()> {
        self.util(node, &format!("nics-to-bridge {UPLINK}"))
    }

    /// `ovn-k8s-util bridge-to-nics breth0` on a node, whose bridge nothing of the overlay may use any more.
    pub fn give_back(&self, node: usize) -> Result<()> {
        self.lab.node(node)?.leave_overlay()?;
        self.util(node, &format!("bridge-to-nics {BRIDGE}"))
    }

    fn util(&self, node: usize, line: &str) -> Result<()> {
        let node = self.lab.node(node)?;
        let program = node.program(binary()?).line(&format!("ovn-k8s-util {line}"));
        program.arg(format!("--state-dir={}", node.dir().join("state").display())).run().map(drop)
    }

    /// Joins the bridges to the overlay and starts a helper on each node; returns when every bridge serves the first
    /// Services.
    pub fn open(&mut self, view: &View) -> Result<()> {
        view.say("bridges joined to the overlay, a helper on each node: starting");
        for node in self.lab.nodes() {
            self.lab.join_overlay(node)?;
            self.helpers.push(Daemon::start(&self.lab, node, &self.options)?);
        }
        self.serve(&[])?;
        self.watch_the_host()?;
        view.say(&format!("up; Services come from {}", self.source()));
        Ok(())
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The helper of a node, from 1.
    pub fn helper(&self, node: usize) -> Result<&Daemon> {
        let helper = node.checked_sub(1).and_then(|index| self.helpers.get(index));
        helper.with_context(|| format!("the demo has no node {node}"))
    }

    /// Starts the helper of a node again, which was ended before; returns when it is ready.
    pub fn start_helper(&mut self, node: usize) -> Result<()> {
        let started = Daemon::start(&self.lab, self.lab.node(node)?, &self.options)?;
        if let Some(slot) = self.helpers.get_mut(node - 1) {
            *slot = started;
        }
        Ok(())
    }

    /// The API server, when there is one.
    pub fn api_mut(&mut self) -> Option<&mut ApiServer> {
        self.api.as_mut()
    }

    fn source(&self) -> String {
        match &self.api {
            Some(api) => format!("a kube-apiserver at {}", api.url()),
            None => format!("the folder {}", self.lab.manifests().display()),
        }
    }

    /// Makes the Services of the traffic and these more the Services of the cluster; returns when OVN has them and
    /// the helpers were told. What the helpers make of them shows in the answers.
    pub fn serve(&mut self, more: &[ServiceSpec]) -> Result<()> {
        let mut services = matrix::services();
        services.extend_from_slice(more);
        if let Some(api) = &self.api {
            tell(api, &mut services)?;
        }
        self.lab.apply(&services)
    }

    /// Changes a Service that nobody uses, as the helpers' source sees it: load on them, nothing for OVN.
    pub fn churn(&self, round: u16) -> Result<()> {
        let service = ServiceSpec::new("churn", 1000, 31000 + round, POD_PORT, vec![EndpointSpec::pod(1, 1)]);
        match &self.api {
            Some(api) => {
                without_addresses(&service).iter().try_for_each(|object| api.apply(object).map(drop))
            }
            None => {
                let (draft, file) = (self.lab.manifests().join(".draft"), self.churn_file());
                fs::write(&draft, service.manifest()?)?;
                fs::rename(&draft, &file).with_context(|| format!("writing {}", file.display()))
            }
        }
    }

    fn churn_file(&self) -> PathBuf {
        self.lab.manifests().join("churn.yaml")
    }

    /// Counts what the bridge of node1 hands to the host though it is the pods': replies of the internet address
    /// only pods talk to, and requests to NodePorts of pods.
    fn watch_the_host(&self) -> Result<()> {
        let [v4, v6] = internet(PODS_PEER).both();
        self.lab.node(1)?.namespace().nft(format!(
            "table inet demo {{\n\
               counter replies {{ }}\n counter requests {{ }}\n\
               chain watch {{\n\
                 type filter hook prerouting priority -400; policy accept;\n\
                 iifname \"breth0\" meta l4proto {{ tcp, udp }} ip saddr {v4} counter name replies\n\
                 iifname \"breth0\" meta l4proto {{ tcp, udp }} ip6 saddr {v6} counter name replies\n\
                 iifname \"breth0\" meta l4proto {{ tcp, udp }} th dport \
                   {{ {NODE_PORT_HERE}, {NODE_PORT_THERE} }} counter name requests\n\
               }}\n\
             }}\n"
        ))
    }

    /// How many of the pods' frames the bridge handed to the host of node1 so far.
    pub fn strays(&self) -> Result<u64> {
        let listed = self.lab.node(1)?.program("nft").line("-j list counters table inet demo").run()?;
        let listed: Value = serde_json::from_str(&listed).context("reading nft's counters")?;
        let rows = listed.get("nftables").and_then(Value::as_array).into_iter().flatten();
        Ok(rows.filter_map(|row| row.pointer("/counter/packets")).filter_map(Value::as_u64).sum())
    }

    /// What the helper of a node says of itself.
    pub fn status(&self, node: usize) -> Result<Value> {
        let text = self.helper(node)?.appctl("status json")?;
        serde_json::from_str(&text).context("reading the helper's status")
    }
}

fn start_api(lab: &Lab, view: &View) -> Result<ApiServer> {
    view.say("a real kube-apiserver with its etcd: starting");
    let name = lab.central().namespace().name().to_owned();
    ApiServer::start(&Place::Netns { name, ip: central().of(Family::V4) })
}

fn api_flags(api: &ApiServer, lab: &Lab) -> Result<Vec<String>> {
    let token = lab.dir().join("token");
    fs::write(&token, api.token()).with_context(|| format!("writing {}", token.display()))?;
    Ok(vec![
        format!("--k8s-api-server={}", api.url()),
        format!("--k8s-ca-file={}", api.ca_file().display()),
        format!("--k8s-token-file={}", token.display()),
    ])
}

/// Makes these the Services of the API server, and takes the cluster addresses it gave them.
fn tell(api: &ApiServer, services: &mut [ServiceSpec]) -> Result<()> {
    let wanted: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let listed = api.get("/api/v1/namespaces/default/services")?;
    let rows = listed.get("items").and_then(Value::as_array).into_iter().flatten();
    let names = rows.filter_map(|row| row.pointer("/metadata/name").and_then(Value::as_str));
    for gone in names.filter(|name| *name != "kubernetes" && !wanted.contains(name)) {
        for object in ServiceSpec::new(gone, 0, 0, 0, Vec::new()).objects() {
            api.delete(&object)?;
        }
    }
    for service in services {
        for object in without_addresses(service) {
            let made = api.apply(&object)?;
            let addresses = made.pointer("/spec/clusterIPs").and_then(Value::as_array).into_iter().flatten();
            for address in addresses.filter_map(Value::as_str).filter_map(|text| text.parse().ok()) {
                match address {
                    std::net::IpAddr::V4(v4) => service.cluster_ip.v4 = v4,
                    std::net::IpAddr::V6(v6) => service.cluster_ip.v6 = v6,
                }
            }
        }
    }
    Ok(())
}

/// The objects of a Service; its cluster addresses are for the API server to give.
fn without_addresses(service: &ServiceSpec) -> Vec<Value> {
    let mut objects = service.objects();
    for spec in
        objects.iter_mut().filter_map(|object| object.get_mut("spec")).filter_map(Value::as_object_mut)
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    objects
}
