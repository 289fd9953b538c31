//! `nics-to-bridge` and `bridge-to-nics`, as transactions on the node's network.
//!
//! ```text
//!   observe -> plan -> refuse, print (--dry-run), or:
//!   lock -> observe and plan again -> refuse if the node changed meanwhile
//!        -> the plan's steps: journal and rollback watchdog, ..., verify, commit
//! ```
//!
//! The steps of a [`Plan`] are data ([`super::steps`]); one loop executes them. One that fails undoes everything, by the
//! same undo that the rollback watchdog runs when this process is gone. Several NICs are one journal: all or none.

use std::cell::Cell;
use std::time::{Duration, Instant};

use host::rtnl::link::Link;
use host::rtnl::{Kind, Socket};

use super::confirm;
use super::device_config::Network;
use super::error::{Error, Result};
use super::fault;
use super::journal::{Folder, Journal, JournalState, Lock, Uplink};
use super::managers::{self, Handover, HandoverExecutor};
use super::names::PROGRAM;
use super::observe;
use super::options::{Datapath, Direction, Options};
use super::plan::{self, Plan};
use super::undo::{self, Undone};
use super::verify;
use super::watchdog::{self, Armed};

mod attach;
mod detach;

pub(crate) use attach::nics_to_bridge;
pub(crate) use detach::bridge_to_nics;

/// How long to wait for the lock of another run.
pub(super) const LOCK: Duration = Duration::from_secs(2);
/// The rollback watchdog waits this much longer: this process undoes itself where it can.
const GRACE: Duration = Duration::from_secs(2);
/// From here on steps are printed for the operator at a terminal.
const SILENCE: Duration = Duration::from_secs(1);

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct TakeoverReport {
    /// What was done, for people.
    pub lines: Vec<String>,
    /// What failed and is no reason to undo the run.
    pub warnings: Vec<String>,
    /// Every step with when it was done, in microseconds from the start.
    pub steps: Vec<(&'static str, u64)>,
}

/// What a run works with.
struct Run<'o> {
    options: &'o Options,
    socket: Socket,
    lock: Lock,
    journal: Journal,
    started: Instant,
    deadline: Instant,
    report: TakeoverReport,
    /// The TCP connections at the beginning, and right before the switchover.
    first: Vec<host::sockets::Connection>,
    before: Vec<host::sockets::Connection>,
    /// From the journal on.
    armed: Option<Armed>,
    /// While a confirmation is waited for: when the bridges were probed last.
    probed: Cell<Option<Instant>>,
}

impl<'o> Run<'o> {
    /// The run of a plan and the plan as it is under the lock. Nothing is changed yet, but for what an earlier run left
    /// to be removed from the database.
    fn begin(
        options: &'o Options,
        direction: Direction,
        planned: &Plan,
        again: impl Fn() -> Result<Plan>,
    ) -> Result<(Self, Plan)> {
        // The programs that are started inherit no descriptor of this process, nor one that it was given itself.
        let _ = host::pidfd::keep_descriptors();
        fault::after("plan")?;
        let lock = Folder::below(&options.state_dir).lock(LOCK)?;
        let finished = finish_earlier(&lock, options)?;
        lock.wait_for_watchdog(LOCK)?;
        let plan = again()?;
        let changed = match plan.verdict(options.force) {
            Err(Error::Refused { what, .. }) => Some(what),
            Err(error) => return Err(error),
            Ok(()) if finished => None,
            Ok(()) => planned.difference(&plan),
        };
        if let Some(what) = changed {
            return Err(Error::refused(
                format!("the node changed meanwhile: {what}"),
                "nothing was changed; run it again (--dry-run shows the plan as it is now)",
            ));
        }
        let journal = Journal::begin(direction, &options.db, plan.configs()?)?;
        let started = Instant::now();
        let run = Self {
            options,
            socket: Socket::open()?,
            lock,
            journal,
            started,
            deadline: started + options.verify_timeout,
            report: TakeoverReport::default(),
            // They only help to verify.
            first: host::sockets::connections().unwrap_or_default(),
            before: Vec::new(),
            armed: None,
            probed: Cell::new(None),
        };
        Ok((run, plan))
    }

    /// Writes the journal and starts the rollback watchdog; from here on the run is undone whatever happens to this process.
    fn arm(&mut self) -> Result<()> {
        self.lock.begin(&self.journal)?;
        let time = self.options.verify_timeout + self.options.confirm.unwrap_or_default() + GRACE;
        self.armed = Some(watchdog::arm(self.lock.folder(), &self.journal, time)?);
        Ok(())
    }

    /// The journal's last state; the rollback watchdog leaves when it sees it.
    fn close(&mut self, state: JournalState) -> Result<()> {
        self.lock.close(&mut self.journal, state)?;
        self.disarm();
        Ok(())
    }

    fn disarm(&mut self) {
        if let Some(armed) = self.armed.take() {
            armed.dismiss(&self.journal);
        }
    }

    /// A NIC that is gone has nothing to carry over any more.
    fn has_nics(&self) -> Result<()> {
        let gone = self.journal.uplinks.iter().find(|uplink| !host::devices::exists(&uplink.nic.name));
        match gone {
            Some(uplink) => Err(Error::failed(
                "go on",
                format!("{} does not exist any more", uplink.nic.name),
                "check its driver and cable (`ip -br link`, `dmesg`)",
            )),
            None => Ok(()),
        }
    }

    /// Without a rollback watchdog nothing may be changed.
    fn is_watched(&self) -> Result<()> {
        if self.armed.as_ref().is_some_and(|armed| !armed.is_alive()) {
            return Err(Error::failed(
                "go on",
                "the rollback watchdog has died",
                "run it again; was it killed for lack of memory? (`dmesg`)",
            ));
        }
        Ok(())
    }

    /// A bridge whose switch has died carries nothing, and only this run may move management away from it while it waits
    /// for a confirmation: the wait ends early.
    fn has_switch(&self) -> Result<()> {
        if self.journal.direction == Direction::Detach {
            return Ok(());
        }
        let links = self.socket.dump(Kind::Link, host::rtnl::Family::V4)?;
        let links: Vec<Link> = links.iter().filter_map(Link::of).collect();
        let held = |uplink: &Uplink| {
            uplink.datapath != Datapath::Netdev
                || links.iter().any(|link| link.name() == uplink.bridge && link.has_carrier())
        };
        let silent = self.silent_bridge()?;
        let carries = |uplink: &Uplink| held(uplink) && silent.as_ref() != Some(&uplink.bridge);
        match self.journal.uplinks.iter().find(|uplink| !carries(uplink)) {
            Some(uplink) => Err(Error::failed(
                "wait for a confirmation",
                format!("{} carries no traffic any more", uplink.bridge),
                "ovs-vswitchd has ended or hangs; its log says why",
            )),
            None => Ok(()),
        }
    }

    /// A bridge through which no next hop answers, twice in a row, that answers on the NIC. Probed once a second.
    fn silent_bridge(&self) -> Result<Option<String>> {
        let recently = self.probed.get().is_some_and(|probed| probed.elapsed() < SILENCE);
        if recently || !self.options.probe {
            return Ok(None);
        }
        let network = Network::observe(&self.socket)?;
        for uplink in &self.journal.uplinks {
            if !verify::is_alive(&network, uplink)? && !verify::is_alive(&network, uplink)? {
                return Ok(Some(uplink.bridge.clone()));
            }
        }
        self.probed.set(Some(Instant::now()));
        Ok(None)
    }

    /// Waits for the operator's confirmation, with `--confirm`.
    fn confirmed(&mut self) -> Result<()> {
        if let Some(limit) = self.options.confirm {
            let since = Instant::now();
            confirm::wait(self.lock.folder(), &self.journal.run, limit, || {
                self.is_watched()?;
                self.has_switch()
            })?;
            self.deadline += since.elapsed();
        }
        Ok(())
    }

    /// Puts a step that is done into the report. Gives the time since the start.
    fn report_step(&mut self, name: &'static str) -> Duration {
        let so_far = self.started.elapsed();
        self.report.steps.push((name, u64::try_from(so_far.as_micros()).unwrap_or(u64::MAX)));
        if so_far > SILENCE {
            cli::note(format!("{:>6} ms  {name}", so_far.as_millis()));
        }
        so_far
    }

    /// A step is done: whether the run may go on.
    fn done(&mut self, name: &'static str) -> Result<()> {
        let so_far = self.report_step(name);
        fault::after(name)?;
        self.is_watched()?;
        self.has_nics()?;
        if self.journal.state == JournalState::Open && Instant::now() > self.deadline {
            return Err(Error::failed(
                "finish in time",
                format!("{name} was done after {} ms", so_far.as_millis()),
                "give it longer with --verify-timeout",
            ));
        }
        Ok(())
    }

    /// Does a part of all handovers; what fails becomes a warning.
    fn each_manager(
        &mut self,
        part: impl FnOnce(&mut HandoverExecutor<'static>, &[Handover]) -> Vec<String>,
    ) {
        let values: Vec<_> = self.journal.uplinks.iter().flat_map(|uplink| uplink.managers.clone()).collect();
        if !values.is_empty() {
            self.report
                .warnings
                .extend(part(&mut HandoverExecutor::host(), &managers::from_journal(&values)));
        }
    }

    /// Ends a run that has not begun: nothing but the journal may have been written.
    fn given_up(mut self, why: Error) -> Error {
        match self.lock.folder().journal() {
            Ok(Some(written)) if written.run == self.journal.run => {
                if let Err(error) = self.close(JournalState::Undone) {
                    cli::note(error);
                }
                why
            }
            _ => why,
        }
    }

    /// Undoes everything; the error says why.
    fn undo(mut self, why: Error) -> Error {
        let Undone { troubles, pending } = undo::run(&self.lock, &mut self.journal);
        self.disarm();
        for trouble in &troubles {
            cli::note(format!("undoing: {trouble}"));
        }
        let what = if pending {
            "the node is as before, except for the bridge in the switch's database: run `ovn-k8s-util recover` when the database answers"
        } else if troubles.is_empty() {
            "everything was undone; the node is as before"
        } else {
            "undone as far as possible; `ovn-k8s-util recover` tries the rest again"
        };
        Error::Undone { why: Box::new(why), what }
    }
}

/// Finishes what an earlier run left, and gives whether there was anything. An open journal is not this run's to undo;
/// where only the switch's database was missing, its bridge would be taken for one that was there before.
fn finish_earlier(lock: &Lock, options: &Options) -> Result<bool> {
    let Some(mut journal) = lock.folder().journal()?.filter(|journal| journal.state.is_unfinished()) else {
        return Ok(false);
    };
    if journal.state == JournalState::UndoneOvsdbPending {
        journal.db = options.db.to_string();
        undo::run(lock, &mut journal);
    }
    match journal.state.is_unfinished() {
        false => Ok(true),
        true => Err(not_ended()),
    }
}

/// Refuses while another run is open: a clearer reason than the interrupted state it left.
pub(crate) fn nothing_open(options: &Options) -> Result<()> {
    let folder = Folder::below(&options.state_dir);
    match folder.journal() {
        Ok(Some(journal)) if journal.state == JournalState::Open => match folder.lock(Duration::ZERO) {
            Err(busy @ Error::Busy { .. }) => Err(busy),
            _ => Err(not_ended()),
        },
        Err(error @ (Error::JournalBroken { .. } | Error::JournalVersion { .. })) => Err(error),
        // The run itself reports what it cannot read.
        _ => Ok(()),
    }
}

fn not_ended() -> Error {
    Error::refused(
        "an earlier run did not come to its end",
        "`ovn-k8s-util recover` undoes what it left; then run this again",
    )
}

/// The plan of `nics-to-bridge` for the node as it is now.
pub(crate) fn plan_attach(nics: &[String], options: &Options) -> Result<Plan> {
    Ok(plan::attach(&observe::observe(nics, options)?, nics, options))
}

/// The plan of `bridge-to-nics` for the node as it is now.
pub(crate) fn plan_detach(bridges: &[String], options: &Options) -> Result<Plan> {
    let folder = Folder::below(&options.state_dir);
    let records = bridges.iter().filter_map(|bridge| folder.taken(bridge).transpose());
    let records = records.collect::<Result<Vec<_>>>()?;
    Ok(plan::detach(&observe::observe(bridges, options)?, bridges, &records))
}
