//! What is done to the nodes while the traffic flows. Each act is told with what it cost each owner.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::{
    Quit,
    environment::{Environment, NODE_PORT_NEW},
    meter::Owner,
    traffic::{Sum, Traffic},
    view::View,
};
use crate::{
    lab::{
        address::Family,
        node::Stop,
        process::wait_until,
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::POD_PORT,
    probe::Request,
};

/// Long enough that what got lost is counted as lost.
const SETTLE: Duration = Duration::from_millis(1500);
/// How many Service changes come in a burst.
const BURST: u16 = 40;

/// What a script works with.
struct Play<'a> {
    environment: &'a mut Environment,
    traffic: &'a mut Traffic,
    view: &'a View,
    quit: &'a Quit,
}

/// What came of the script besides what the meters say.
#[derive(Debug)]
pub struct Outcome {
    /// The pods' frames that the host got: while a switch that has just started had no flows, and at all.
    pub strays: [u64; 2],
    /// What the helper of node1 said of itself at the end.
    pub status: Value,
    /// The ways that were not answered any more.
    pub silent: Vec<String>,
}

/// Plays all acts.
pub fn play(
    environment: &mut Environment,
    traffic: &mut Traffic,
    view: &View,
    quit: &Quit,
) -> Result<Outcome> {
    view.say("what is done, and what it cost: management + north-south");
    let mut play = Play { environment, traffic, view, quit };
    play.act("node1: nics-to-bridge eth0", |play| play.turn(Environment::take_over))?;
    play.environment.open(view)?;
    play.traffic.join(play.environment, Owner::NorthSouth, quit)?;
    view.show(play.traffic.meters());
    play.act("nothing", |play| {
        play.quit.pause(Duration::from_secs(2))?;
        Ok("all of it flows".to_owned())
    })?;
    play.act("node1: helper restarted (SIGTERM)", |play| {
        play.restart_helper(Stop::Terminate, Duration::ZERO)
    })?;
    play.act("node1: helper killed (-9), 2 s away", |play| {
        play.restart_helper(Stop::Kill, Duration::from_secs(2))
    })?;
    play.services()?;
    play.act(&format!("{BURST} Service changes in a burst"), Play::burst)?;
    if play.environment.api_mut().is_some() {
        play.act("kube-apiserver killed, 2 s away", Play::restart_api)?;
    }
    let before = play.environment.strays()?;
    play.act("node1: vswitchd killed, 1 s away", Play::restart_switch)?;
    let restarting = play.environment.strays()? - before;
    play.quit.pause(Duration::from_secs(1))?;
    let mut silent = play.traffic.silent();
    let (status, strays) = (play.environment.status(1)?, play.environment.strays()?);
    play.traffic.part(Owner::NorthSouth)?;
    play.environment.helper(1)?.end(Stop::Terminate)?;
    play.act("node1: bridge-to-nics breth0", |play| play.turn(Environment::give_back))?;
    silent.extend(play.traffic.silent_of(Owner::Management));
    silent.dedup();
    Ok(Outcome { strays: [restarting, strays], status, silent })
}

/// What an act cost an owner.
struct Cost {
    lost: u64,
    reopened: u64,
    gap: Duration,
}

impl Play<'_> {
    /// One act: what it says itself, and then what each owner lost by it.
    fn act(&mut self, title: &str, work: impl FnOnce(&mut Self) -> Result<String>) -> Result<()> {
        self.view.now(title);
        let before = Owner::ALL.map(|owner| self.traffic.sum(owner));
        self.traffic.meters().iter().for_each(|meter| meter.mark());
        let said = work(self)?;
        self.quit.pause(SETTLE)?;
        let [management, pods] = [0, 1].map(|index| self.cost(Owner::ALL[index], before[index]));
        let opened = management.reopened + pods.reopened;
        let sessions = if opened > 0 { format!(", {opened} sessions opened again") } else { String::new() };
        self.view.say(&format!(
            "{title:<37} {said:<23} lost {} + {}, gap {} + {} ms{sessions}",
            management.lost,
            pods.lost,
            management.gap.as_millis(),
            pods.gap.as_millis()
        ));
        Ok(())
    }

    fn cost(&self, owner: Owner, before: Sum) -> Cost {
        let now = self.traffic.sum(owner);
        let ours = self.traffic.meters().iter().filter(|meter| meter.owner == owner);
        Cost {
            // A datagram that was given up before and came after all makes the number smaller.
            lost: now.lost.saturating_sub(before.lost),
            reopened: now.reopened.saturating_sub(before.reopened),
            gap: ours.map(|meter| meter.read().recent).max().unwrap_or_default(),
        }
    }

    /// Moves node1's NIC onto the bridge or back.
    fn turn(&self, how: impl FnOnce(&Environment, usize) -> Result<()>) -> Result<String> {
        // What is counted from here on is the turn's, not the wait's before it.
        self.quit.pause(Duration::from_millis(500))?;
        let start = Instant::now();
        how(self.environment, 1)?;
        Ok(format!("done in {}", millis(start)))
    }

    fn restart_helper(&mut self, how: Stop, away: Duration) -> Result<String> {
        self.environment.helper(1)?.end(how)?;
        self.quit.pause(away)?;
        let start = Instant::now();
        self.environment.start_helper(1)?;
        Ok(format!("ready in {}", millis(start)))
    }

    /// A Service comes, its endpoint moves to the other node, it goes.
    fn services(&mut self) -> Result<()> {
        let service = |endpoint| ServiceSpec::new("new", 105, NODE_PORT_NEW, POD_PORT, vec![endpoint]);
        self.act("a Service is made (NodePort 30090)", |play| {
            play.serve(&[service(EndpointSpec::pod(1, 2))], Some("pod12"))
        })?;
        self.act("its endpoint moves to node2", |play| {
            play.serve(&[service(EndpointSpec::pod(2, 2))], Some("pod22"))
        })?;
        self.act("it is deleted", |play| play.serve(&[], None))
    }

    /// Changes Services, and waits for who answers at the new NodePort: nobody, when nobody is named.
    fn serve(&mut self, more: &[ServiceSpec], expected: Option<&str>) -> Result<String> {
        let start = Instant::now();
        self.environment.serve(more)?;
        let lab = self.environment.lab();
        let to = lab.node(1)?.address().port(Family::V4, NODE_PORT_NEW);
        let request = Request::tcp(to).within(Duration::from_millis(300));
        let outside = lab.world().internet().namespace();
        wait_until(&format!("{} at {to}", expected.unwrap_or("nobody")), || {
            Ok(request.send(outside).ok().map(|answer| answer.name).as_deref() == expected)
        })?;
        let who = expected.map_or("nobody answers".to_owned(), |name| format!("{name} answers"));
        Ok(format!("{who} in {}", millis(start)))
    }

    fn burst(&mut self) -> Result<String> {
        let start = Instant::now();
        for round in 0..BURST {
            self.environment.churn(round)?;
            self.quit.pause(Duration::from_millis(10))?;
        }
        let written = millis(start);
        self.environment.serve(&[])?;
        Ok(format!("written in {written}"))
    }

    fn restart_api(&mut self) -> Result<String> {
        let quit = self.quit;
        let Some(api) = self.environment.api_mut() else { return Ok(String::new()) };
        api.kill()?;
        quit.pause(Duration::from_secs(2))?;
        let start = Instant::now();
        api.restart()?;
        Ok(format!("serves again in {}", millis(start)))
    }

    fn restart_switch(&mut self) -> Result<String> {
        let node = self.environment.lab().node(1)?;
        node.stop_switch(Stop::Kill)?;
        self.quit.pause(Duration::from_secs(1))?;
        let start = Instant::now();
        node.start_switch()?;
        let up = millis(start);
        self.quit.pause(Duration::from_secs(2))?;
        Ok(format!("up in {up}"))
    }
}

fn millis(start: Instant) -> String {
    format!("{} ms", start.elapsed().as_millis())
}
