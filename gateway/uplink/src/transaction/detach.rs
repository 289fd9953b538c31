//! `bridge-to-nics`.
//!
//! The routes and the ingress filter are switched to the NIC while the bridge still exists. When that fails, and the bridge
//! still carries, management goes back onto it; a run that is killed is finished towards the NIC.

use std::net::IpAddr;
use std::time::Instant;

use host::ingress_filter::IngressFilter;

use super::*;
use crate::migration;
use crate::probe_targets::{ProbePurpose, probe_targets};
use crate::steps::{DetachStep, PlannedStep};
use crate::switchover::{Context, InFlight, Target};
use crate::undo::Rollback;

/// Moves what each bridge carries back to its NIC, and removes the bridge. Needs no switch: it is what is left to a node
/// whose switch does not start any more.
pub(crate) fn bridge_to_nics(planned: &Plan, options: &Options) -> Result<TakeoverReport> {
    let bridges: Vec<String> = planned.uplinks.iter().map(|uplink| uplink.bridge.clone()).collect();
    let (mut run, plan) = Run::begin(options, Direction::Detach, planned, || plan_detach(&bridges, options))?;
    let answering: Vec<Vec<IpAddr>> = run.journal.uplinks.iter().map(answering).collect();
    let journal = run.journal.clone();
    let mut rollback = Rollback::of(&journal)?;
    let mut troubles = Vec::new();
    for step in plan.steps {
        let PlannedStep::Detach(step) = step else { continue };
        match step {
            DetachStep::Journal => {
                if let Err(error) = run.arm().and_then(|()| run.done(step.name())) {
                    return Err(run.given_up(error));
                }
            }
            DetachStep::Verify => {
                let outcome = verified(&run, &answering).and_then(|()| run.done(step.name()));
                if let Err(error) = outcome.and_then(|()| run.confirmed()) {
                    troubles.iter().for_each(cli::note);
                    return Err(undone(run, error));
                }
            }
            DetachStep::Commit => commit(&mut run, &journal, rollback.pending)?,
            _ => {
                rollback.all(&[step], &mut troubles);
                run.report_step(step.name());
            }
        }
    }
    run.report.warnings.append(&mut troubles);
    Ok(run.report)
}

/// The NICs have everything again, and the journal says so.
fn commit(run: &mut Run<'_>, journal: &Journal, pending: bool) -> Result<()> {
    if pending {
        run.close(JournalState::UndoneOvsdbPending)?;
        let took = run.started.elapsed().as_millis();
        run.report.lines.push(format!(
            "the NIC has its addresses and routes again; the bridge is still in the switch's database, which does not \
             answer: run `{PROGRAM} recover` when it does ({took} ms)"
        ));
        return Ok(());
    }
    for uplink in &journal.uplinks {
        run.lock.forget(&uplink.bridge)?;
    }
    run.close(JournalState::Committed)?;
    run.done(DetachStep::Commit.name())?;
    let took = run.started.elapsed().as_millis();
    for uplink in &journal.uplinks {
        let (nic, bridge) = (&uplink.nic.name, &uplink.bridge);
        run.report
            .lines
            .push(format!("{nic} has its addresses and routes again, {bridge} is gone ({took} ms)"));
    }
    Ok(())
}

/// The routers of a bridge that answer a ping now.
fn answering(uplink: &Uplink) -> Vec<IpAddr> {
    uplink.bridge_rows.as_ref().map(verify::replying_routers).unwrap_or_default()
}

/// The NICs carry what the bridges carried, and it works.
fn verified(run: &Run<'_>, answering: &[Vec<IpAddr>]) -> Result<()> {
    let network = Network::observe(&run.socket)?;
    for (uplink, answering) in run.journal.uplinks.iter().zip(answering) {
        let Some(link) = network.link(&uplink.nic.name) else {
            return Err(Error::failed(
                format!("reach anybody by {}", uplink.nic.name),
                "it is gone",
                "is it plugged in?",
            ));
        };
        if let Some(rows) = &uplink.bridge_rows {
            let mapping = host::rtnl::DeviceMapping { from: rows.device.clone(), to: link.device() };
            verify::carries(&run.socket, &migration::moved(rows, &mapping))?;
        }
        verify::still_reply(answering, &link.device(), run.deadline)?;
    }
    match &run.options.verify_cmd {
        Some(line) => verify::run_command(line, run.deadline),
        None => Ok(()),
    }
}

/// Onto the bridges again where they still carry; else the NIC is the safe end.
fn undone(mut run: Run<'_>, why: Error) -> Error {
    let carried = |run: &Run<'_>, uplink: &Uplink| -> Result<bool> {
        let network = Network::observe(&run.socket)?;
        let (Some(nic), Some(bridge)) = (network.link(&uplink.nic.name), network.link(&uplink.bridge)) else {
            return Ok(false);
        };
        let rows = network.of(&nic.device());
        let soon = Instant::now() + SILENCE;
        let Some(mac) = bridge.mac() else { return Ok(false) };
        if !verify::any_reply(bridge.index(), mac, &probe_targets(&rows, ProbePurpose::Proof), soon)? {
            return Ok(false);
        }
        let filter = (uplink.datapath == Datapath::Netdev)
            .then(|| IngressFilter::new(&uplink.nic.name, &uplink.bridge));
        let context = Context {
            socket: &run.socket,
            nic: nic.device(),
            bridge: bridge.device(),
            filter: filter.as_ref(),
            in_flight: InFlight::Accept,
        };
        context.run(Target::Bridge, |_| Ok(()))?;
        Ok(true)
    };
    let all = run
        .journal
        .uplinks
        .iter()
        .try_fold(true, |so_far, uplink| Ok::<_, Error>(carried(&run, uplink)? && so_far));
    let what = match all {
        Ok(true) => "management is on the bridge again, as before",
        _ => "the bridge does not carry either: management stays on the NIC, the bridge is left as it is",
    };
    if let Err(error) = run.close(JournalState::Undone) {
        cli::note(error);
    }
    Error::Undone { why: Box::new(why), what }
}
