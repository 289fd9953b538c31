//! The helper on a real kube-apiserver: it follows Services, and the API server's absence costs nobody a packet, not
//! even when the helper or the switch ends meanwhile.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    apiserver::{ApiServer, Place},
    lab::{
        Lab, LabOptions,
        address::{Family, central},
        helper::{Daemon, HelperOptions, Objects},
        node::{Node, Stop},
        process::wait_until,
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::{Listen, Request, Responder, Session, Stream},
};
use serde_json::Value;

const PACE: Duration = Duration::from_millis(5);
/// What a busy machine drops is not the flows' doing; an interruption would lose many times more.
const LOST_PER_MILLE: u64 = 20;

struct Bench {
    // Servers and API server end before the lab goes.
    api: ApiServer,
    options: HelperOptions,
    _servers: Vec<Responder>,
    lab: Lab,
}

impl Bench {
    fn up() -> Result<Self> {
        let lab = Lab::start(LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() })?;
        let name = lab.central().namespace().name().to_owned();
        let api = ApiServer::start(&Place::Netns { name, ip: central().of(Family::V4) })?;
        let token = lab.dir().join("token");
        fs::write(&token, api.token()).context("writing the token")?;
        let extra = vec![
            format!("--k8s-api-server={}", api.url()),
            format!("--k8s-ca-file={}", api.ca_file().display()),
            format!("--k8s-token-file={}", token.display()),
        ];
        let options = HelperOptions { objects: Objects::Elsewhere, extra, ..HelperOptions::default() };
        let (node, pod, internet) = (lab.node(1)?, lab.pod(1, 1)?, lab.world().internet());
        let servers = vec![
            Responder::start(pod.namespace(), pod.name(), &Listen::everywhere(POD_PORT))?,
            Responder::start(node.namespace(), node.name(), &Listen::everywhere(HOST_PORT))?,
            Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?,
        ];
        Ok(Self { api, options, _servers: servers, lab })
    }

    fn node(&self) -> Result<&Arc<Node>> {
        self.lab.node(1)
    }

    /// Puts the Service into the API server, and the logical network that belongs to it into OVN.
    fn apply(&self, node_port: u16) -> Result<()> {
        let service = service(node_port);
        for object in service.objects() {
            self.api.apply(&object)?;
        }
        self.lab.apply(&[service])
    }

    fn node_port_answers(&self, port: u16) -> Result<()> {
        let pod = self.lab.pod(1, 1)?.name();
        for family in Family::ALL {
            let to = self.node()?.address().port(family, port);
            wait_until(&format!("{to} to be answered by {pod}"), || {
                let answer = Request::tcp(to).send(self.lab.world().internet().namespace())?;
                ensure!(answer.name == pod, "{} answered", answer.name);
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// A session and a stream of datagrams of each owner.
    fn traffic(&self) -> Result<Vec<(&'static str, Session, Stream)>> {
        let (node, world) = (self.node()?, self.lab.world());
        let ways = [
            (
                "administrator to host",
                world.administrator().namespace(),
                node.address().port(Family::V4, HOST_PORT),
            ),
            ("host to internet", node.namespace(), world.internet().address().port(Family::V6, POD_PORT)),
            (
                "pod to internet",
                self.lab.pod(1, 1)?.namespace(),
                world.internet().address().port(Family::V4, POD_PORT),
            ),
            ("outside to NodePort", world.internet().namespace(), node.address().port(Family::V6, 30081)),
        ];
        ways.into_iter()
            .map(|(title, from, to)| {
                let session = Session::open(from, &Request::tcp(to), PACE).context(title)?;
                Ok((title, session, Stream::open(from, &Request::udp(to), PACE).context(title)?))
            })
            .collect()
    }
}

fn service(node_port: u16) -> ServiceSpec {
    ServiceSpec::new("web", 10, node_port, POD_PORT, vec![EndpointSpec::pod(1, 1)])
}

fn status(helper: &Daemon) -> Result<Value> {
    Ok(serde_json::from_str(&helper.appctl("status json")?)?)
}

fn kubernetes_is(helper: &Daemon, connected: bool) -> Result<()> {
    wait_until(&format!("the helper to say that the API server is there: {connected}"), || {
        let status = status(helper)?;
        let sources = status["sources"].as_array().context("no sources")?;
        let api = sources.iter().find(|source| source["name"] == "kubernetes").context("no kubernetes")?;
        Ok(api["connected"] == connected)
    })
}

#[test]
fn the_api_server_may_be_away() -> Result<()> {
    let mut bench = Bench::up()?;
    bench.api.apply(&service(30081).objects()[0])?;
    let helper = Daemon::start(&bench.lab, bench.node()?, &bench.options)?;
    bench.lab.wait_until_bound()?;
    bench.apply(30081)?;
    bench.node_port_answers(30081)?;
    // What is in force is in the state folder some seconds later.
    let kept = bench.node()?.dir().join("state/breth0.policy.json");
    wait_until("the policy to be kept", || Ok(fs::read_to_string(&kept)?.contains("30081")))?;

    // Away: nothing changes for anybody.
    let traffic = bench.traffic()?;
    bench.api.kill()?;
    kubernetes_is(&helper, false)?;
    bench.node_port_answers(30081)?;
    let ours = bench.node()?.flows("breth0")?.len();

    // The helper dies and starts while nobody tells it of Services: it takes nothing away.
    helper.end(Stop::Kill)?;
    let helper = Daemon::launch(&bench.lab, bench.node()?, &bench.options)?;
    kubernetes_is(&helper, false)?;
    bench.node_port_answers(30081)?;
    ensure!(bench.node()?.flows("breth0")?.len() == ours, "flows were changed while Services are not known");
    let (code, reason) = helper.get("/readyz")?;
    ensure!(code == 503 && reason.contains("Services are not known yet"), "{code}: {reason}");
    for (title, session, stream) in traffic {
        let (session, stream) = (session.finish()?, stream.finish()?);
        println!("{title}: longest {:?}; {} of {} datagrams lost", session.longest, stream.lost, stream.sent);
        ensure!(session.died.is_none(), "{title} died: {:?}", session.died);
        ensure!(
            stream.lost * 1000 <= stream.sent * LOST_PER_MILLE,
            "{title}: {} of {} lost",
            stream.lost,
            stream.sent
        );
    }

    // Then the switch dies, too: an empty bridge is filled from what was kept.
    bench.node()?.stop_switch(Stop::Kill)?;
    bench.node()?.start_switch()?;
    bench.node_port_answers(30081).context("an empty bridge, and no API server")?;

    // Back: it is ready and follows again.
    bench.api.restart()?;
    helper.wait_until_ready()?;
    bench.apply(30082)?;
    bench.node_port_answers(30082)?;
    wait_until("the old port's flows to go", || {
        Ok(!bench.node()?.flows("breth0")?.iter().any(|flow| flow.contains("30081")))
    })?;
    helper.end(Stop::Terminate)
}
