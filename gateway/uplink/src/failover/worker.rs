//! The failover thread: observes, decides by [`pass`], acts, waits.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use host::rtnl::events::KernelEvents;
use ovs::vlog::repeat::Repeat;

use super::action::{Action, Switchover};
use super::observation::Observation;
use super::observer::Observer;
use super::pass::{Memory, pass};
use super::poll::readable;
use super::reattach_detection::Attempt;
use super::shared::{FailoverConfig, OnChange, Shared};
use super::state_machine::FailoverState;
use super::status::FailoverStatus;
use crate::error::{Error, Result};

mod actions;
mod locking;
mod report;

use locking::LockWait;

/// The thread's state: the observer, the state machine, and what actions need.
pub(super) struct Worker {
    config: FailoverConfig,
    shared: Arc<Shared>,
    on_change: OnChange,
    started: Instant,
    events: KernelEvents,
    observer: Observer,
    memory: Memory,
    /// A reattachment, on a thread of its own.
    reattaching: Option<JoinHandle<Result<bool>>>,
    lock_wait: LockWait,
    status: FailoverStatus,
    failures: Repeat,
}

impl Worker {
    pub(super) fn new(config: FailoverConfig, shared: Arc<Shared>, on_change: OnChange) -> Result<Self> {
        Ok(Self {
            observer: Observer::new(config.clone(), shared.clone())?,
            events: KernelEvents::of_links_and_addresses()?,
            status: shared.status(),
            config,
            shared,
            on_change,
            started: Instant::now(),
            memory: Memory::default(),
            reattaching: None,
            lock_wait: LockWait::default(),
            failures: Repeat::new("failover"),
        })
    }

    pub(super) fn run(&mut self) {
        // When the machine is overloaded, this thread has to run first. Without the privilege, it runs as all others.
        if !host::priority::raise_thread_priority() {
            tracing::debug!("the failover thread runs with normal priority");
        }
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.pass() {
                // After a switchover the next observation must not wait.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => self.fail(&error),
            }
            self.publish();
            self.wait();
        }
    }

    /// One pass. Whether management was switched over.
    fn pass(&mut self) -> Result<bool> {
        let now = self.now();
        let reattaching = self.reattaching.as_ref().is_some_and(|thread| !thread.is_finished());
        let seen = self.observer.observe(now, &mut self.memory, reattaching)?;
        let attempt = self.note_attempt(&seen);
        let before = self.memory.machine.state;
        let (memory, actions) = pass(&self.memory, &seen);
        self.memory = memory;
        self.log_transition(before, &seen);
        if self.memory.machine.is_settled() {
            self.recover();
        }
        if let Err(error) = attempt {
            self.fail(&error);
        }
        for action in actions {
            match self.act(action, &seen) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => self.fail(&error),
            }
        }
        self.update_status(&seen);
        Ok(false)
    }

    /// Does one thing. Whether that was a switchover.
    fn act(&mut self, action: Action, seen: &Observation) -> Result<bool> {
        match action {
            Action::SwitchOver(switchover) => return self.switch_over_and_log(switchover, seen),
            Action::RestoreAddresses(cause) => self.restore_addresses(cause)?,
            Action::SetIngressFilter(accepting) => self.set_filter(accepting)?,
            Action::WriteSysctls => self.write_sysctls(),
            Action::TidyNic => drop(self.switch_over(Switchover::ToBridge)?),
            Action::RaiseNic => self.raise_nic()?,
            Action::RecordNic(index) => self.record_nic(index),
            Action::Reattach => self.reattach()?,
            Action::Probe(probes) => {
                let Observer { bridge, nic, probes: targets, .. } = &mut self.observer;
                for (path, is_due) in [(bridge, probes.bridge), (nic, probes.nic)] {
                    if is_due {
                        path.send_probes(seen.now, targets);
                    }
                }
            }
        }
        Ok(false)
    }

    /// The result of a reattachment that has ended.
    fn note_attempt(&mut self, seen: &Observation) -> Result<()> {
        let Some((_, nic)) = seen.devices.both() else { return Ok(()) };
        let Some(thread) = self.reattaching.take_if(|thread| thread.is_finished()) else { return Ok(()) };
        let outcome = thread.join();
        let attempt = match &outcome {
            Ok(Ok(true)) => Attempt::Attached,
            Ok(Ok(false)) => Attempt::NotOurs,
            // A panic was reported by its own thread.
            Ok(Err(_)) | Err(_) => Attempt::Failed,
        };
        self.memory.reattach.note_attempt(seen.now, nic.index, attempt);
        if attempt != Attempt::Failed {
            self.log_attempt(attempt == Attempt::Attached);
        }
        if attempt == Attempt::Attached {
            self.observer.bridge.health.reset();
            self.memory.schedule.observe_soon();
        }
        outcome.unwrap_or(Ok(false)).map(drop)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn fail(&mut self, error: &Error) {
        self.failures.failed(error);
        self.status.problem = Some(error.to_string());
    }

    fn recover(&mut self) {
        self.status.problem = None;
        self.failures.recovered();
    }

    /// Waits until there is something new, or the next pass is due.
    fn wait(&mut self) {
        let state = self.memory.machine.state;
        let has_bridge = self.shared.has_bridge.load(Ordering::Relaxed);
        let schedule = &self.memory.schedule;
        let pause = schedule.pause(self.now(), state, self.memory.bridge.is_lost(), has_bridge);
        let mut fds = vec![self.shared.wake.as_fd()];
        let events_at = fds.len();
        if !schedule.has_events() && state != FailoverState::Idle {
            fds.push(self.events.as_fd());
        }
        let paths_at = fds.len();
        fds.extend(
            [&self.observer.bridge, &self.observer.nic].into_iter().filter_map(|path| path.descriptor()),
        );
        let process_at = fds.len();
        if !schedule.is_ending() {
            fds.extend(self.observer.switch.descriptors());
        }
        let ready = readable(&fds, pause);
        let any = |from: usize, to: usize| ready.iter().any(|at| (from..to).contains(at));
        let (woken, has_event) = (any(0, events_at), any(events_at, paths_at));
        let has_thread_ended = any(process_at, usize::MAX);
        if woken {
            let _ = self.shared.wake.read();
        }
        if has_event {
            // An error counts as an event: the kernel is observed.
            let _ = self.events.drain();
            self.memory.schedule.note_event();
        }
        let now = self.now();
        if has_thread_ended {
            // A thread may end while the process goes on; when the process ends, that shows some milliseconds later.
            self.memory.schedule.note_thread_end(now);
        } else if self.memory.schedule.count_ending() {
            self.observer.switch.watch_again();
        }
    }
}
