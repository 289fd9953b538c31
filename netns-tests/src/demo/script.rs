//! What is done to the nodes while the traffic flows. Each act is told with what it cost each owner.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Quit,
    meter::Owner,
    stage::{NODE_PORT_NEW, Stage},
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
    probe::Ask,
};

/// Long enough that what got lost is counted as lost.
const SETTLE: Duration = Duration::from_millis(1500);
/// How many Service changes come in a burst.
const BURST: u16 = 40;

/// What a script works with.
struct Play<'a> {
    stage: &'a mut Stage,
    traffic: &'a Traffic,
    view: &'a View,
    quit: &'a Quit,
}

/// Plays all acts. Gives how many of the pods' frames the host got while a switch that has just started had no flows.
pub fn play(stage: &mut Stage, traffic: &Traffic, view: &View, quit: &Quit) -> Result<u64> {
    let mut play = Play { stage, traffic, view, quit };
    play.act("nothing is done", |play| {
        play.quit.pause(Duration::from_secs(2))?;
        Ok("all traffic flows".to_owned())
    })?;
    play.act("helper of node1 restarted (SIGTERM)", |play| {
        play.restart_helper(Stop::Politely, Duration::ZERO)
    })?;
    play.act("helper of node1 killed (kill -9), away for 2 s", |play| {
        play.restart_helper(Stop::AtOnce, Duration::from_secs(2))
    })?;
    play.services()?;
    play.act(&format!("{BURST} Service changes in a burst"), Play::burst)?;
    if play.stage.api_mut().is_some() {
        play.act("kube-apiserver killed, away for 2 s", Play::restart_api)?;
    }
    let before = play.stage.strays()?;
    play.act("vswitchd of node1 killed and started", Play::restart_switch)?;
    let restarting = play.stage.strays()? - before;
    play.quit.pause(Duration::from_secs(1))?;
    Ok(restarting)
}

impl Play<'_> {
    /// One act: what it says itself, and then what each owner lost by it.
    fn act(&mut self, title: &str, work: impl FnOnce(&mut Self) -> Result<String>) -> Result<()> {
        self.view.now(title);
        let before = Owner::ALL.map(|owner| self.traffic.sum(owner));
        self.traffic.meters().iter().for_each(|meter| meter.mark());
        let said = work(self)?;
        self.quit.pause(SETTLE)?;
        let costs = Owner::ALL.into_iter().zip(before).map(|(owner, before)| self.cost(owner, before));
        let costs: Vec<String> = costs.collect();
        self.view.say(&format!("{title}: {said}; {}", costs.join("; ")));
        Ok(())
    }

    fn cost(&self, owner: Owner, before: Sum) -> String {
        let now = self.traffic.sum(owner);
        let ours = self.traffic.meters().iter().filter(|meter| meter.owner == owner);
        let gap = ours.map(|meter| meter.read().recent).max().unwrap_or_default();
        // A datagram that was given up before and came after all makes the number smaller.
        let lost = now.lost.saturating_sub(before.lost);
        let mut text = format!("{} lost {lost}, longest gap {} ms", owner.name(), gap.as_millis());
        if now.reopened > before.reopened {
            text += &format!(", {} sessions opened again", now.reopened - before.reopened);
        }
        text
    }

    fn restart_helper(&mut self, how: Stop, away: Duration) -> Result<String> {
        self.stage.helper(1)?.end(how)?;
        self.quit.pause(away)?;
        let start = Instant::now();
        self.stage.start_helper(1)?;
        Ok(format!("ready {} after its start", millis(start)))
    }

    /// A Service comes, its endpoint moves to the other node, it goes.
    fn services(&mut self) -> Result<()> {
        let service = |endpoint| ServiceSpec::new("new", 105, NODE_PORT_NEW, POD_PORT, vec![endpoint]);
        self.act("a Service is made", |play| play.serve(&[service(EndpointSpec::pod(1, 2))], Some("pod12")))?;
        self.act("its endpoint moves to node2", |play| {
            play.serve(&[service(EndpointSpec::pod(2, 2))], Some("pod22"))
        })?;
        self.act("it is deleted", |play| play.serve(&[], None))
    }

    /// Changes Services, and waits for who answers at the new NodePort: nobody, when nobody is named.
    fn serve(&mut self, more: &[ServiceSpec], expected: Option<&str>) -> Result<String> {
        let start = Instant::now();
        self.stage.serve(more)?;
        let told = millis(start);
        let lab = self.stage.lab();
        let to = lab.node(1)?.address().port(Family::V4, NODE_PORT_NEW);
        let ask = Ask::tcp(to).within(Duration::from_millis(300));
        let outside = lab.world().internet().namespace();
        wait_until(&format!("{} at {to}", expected.unwrap_or("nobody")), || {
            Ok(ask.ask(outside).ok().map(|answer| answer.name).as_deref() == expected)
        })?;
        let who = expected.map_or("nobody answers".to_owned(), |name| format!("{name} answers"));
        Ok(format!("{who} at NodePort {NODE_PORT_NEW} after {} (OVN had it after {told})", millis(start)))
    }

    fn burst(&mut self) -> Result<String> {
        let start = Instant::now();
        for round in 0..BURST {
            self.stage.churn(round)?;
            self.quit.pause(Duration::from_millis(10))?;
        }
        let written = millis(start);
        self.stage.serve(&[])?;
        Ok(format!("written in {written}"))
    }

    fn restart_api(&mut self) -> Result<String> {
        let quit = self.quit;
        let Some(api) = self.stage.api_mut() else { return Ok(String::new()) };
        api.kill()?;
        quit.pause(Duration::from_secs(2))?;
        let start = Instant::now();
        api.restart()?;
        Ok(format!("serves again after {}", millis(start)))
    }

    fn restart_switch(&mut self) -> Result<String> {
        let node = self.stage.lab().node(1)?;
        node.stop_switch(Stop::AtOnce)?;
        let start = Instant::now();
        node.start_switch()?;
        let up = millis(start);
        self.quit.pause(Duration::from_secs(2))?;
        Ok(format!("up after {up}"))
    }
}

fn millis(start: Instant) -> String {
    format!("{} ms", start.elapsed().as_millis())
}
