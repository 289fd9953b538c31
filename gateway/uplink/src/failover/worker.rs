//! The keeper's thread: looks, asks, turns, waits.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::ingress_filter::{Accepting, IngressFilter};
use host::link_stats::LinkMonitor;
use host::neighbour_probe::Question;
use host::rtnl::events::KernelEvents;
use host::rtnl::{Device, Kind, Socket};
use ovs::vlog::repeat::Repeat;

use super::events::readable;
use super::path_health::PathHealth;
use super::probe_path::ProbePath;
use super::process::Vswitchd;
use super::reattach::ReattachState;
use super::state_machine::{Order, Place, Process, Reason, Seen, State, StateMachine};
use super::status::{At, Management};
use super::{Events, FailoverConfig, Shared, address_location};
use crate::device_config::Network;
use crate::error::Result;
use crate::settings;

mod switchover;

/// Between two looks while management is on the bridge.
const LOOK: Duration = Duration::from_millis(50);
/// While it is on the NIC, at first and later.
const AWAY: Duration = Duration::from_millis(20);
const LONG_AWAY: Duration = Duration::from_millis(100);
/// While the way back is being proved.
const PROVING: Duration = Duration::from_millis(10);
/// While a process is perhaps going.
const HURRY: Duration = Duration::from_millis(1);
/// With nothing to keep.
const IDLE: Duration = Duration::from_millis(500);
/// A look that comes this late says nothing about others that were not heard meanwhile.
const LATE: Duration = Duration::from_millis(150);
/// Who carries the addresses, and whether the guard stands, is looked at this often without news.
const SCENE: Duration = Duration::from_secs(1);
/// With news of the kernel, no more often than this.
const NEWS: Duration = Duration::from_millis(20);
/// Who can be asked is looked at this often: a long list of routes is read for it.
const HOPS: Duration = Duration::from_secs(10);
/// Per-interface sysctls are looked at this often.
const SYSCTLS: Duration = Duration::from_secs(60);

/// The thread's belongings.
pub(super) struct Worker {
    pub(super) duty: FailoverConfig,
    shared: Arc<Shared>,
    news: Events,
    started: Instant,
    pub(super) doctor: LinkMonitor,
    pub(super) rows: Socket,
    ears: IngressFilter,
    kernel_events: KernelEvents,
    pub(super) switch: Vswitchd,
    mind: StateMachine,
    pub(super) bridge: ProbePath,
    pub(super) nic: ProbePath,
    questions: Vec<Question>,
    pub(super) place: Place,
    listening: Option<Accepting>,
    last_look: Option<Duration>,
    last_scene: Option<Duration>,
    last_hops: Option<Duration>,
    last_sysctls: Option<Duration>,
    /// The kernel has news that were not looked at.
    dirty: bool,
    stirred: bool,
    /// Routes lead over the NIC beside those over the bridge.
    stray_routes: bool,
    hurry: u8,
    /// The bridge's device that carried management.
    pub(super) carried: Option<u32>,
    /// Since when it is gone.
    pub(super) lost: Option<Duration>,
    pub(super) attachment: ReattachState,
    /// Since when one with another folder is waited for, and when that was last seen.
    elsewhere: Option<(Duration, Duration)>,
    /// When trouble was first noticed.
    trouble: Option<Duration>,
    told: Management,
    failed: Repeat,
}

impl Worker {
    pub(super) fn new(duty: FailoverConfig, shared: Arc<Shared>, news: Events) -> Result<Self> {
        let told = shared.management.lock().map(|told| told.clone()).unwrap_or_default();
        Ok(Self {
            doctor: LinkMonitor::open()?,
            rows: Socket::open()?,
            ears: IngressFilter::new(&duty.nic, &duty.bridge),
            kernel_events: KernelEvents::of_links_and_addresses()?,
            switch: Vswitchd::of(&duty.pidfile),
            duty,
            shared,
            news,
            started: Instant::now(),
            mind: StateMachine::default(),
            bridge: ProbePath::default(),
            nic: ProbePath::default(),
            questions: Vec::new(),
            place: Place::Nowhere,
            listening: None,
            last_look: None,
            last_scene: None,
            last_hops: None,
            last_sysctls: None,
            dirty: false,
            stirred: false,
            stray_routes: false,
            hurry: 0,
            carried: None,
            lost: None,
            attachment: ReattachState::default(),
            elsewhere: None,
            trouble: None,
            told,
            failed: Repeat::new("management cannot be kept"),
        })
    }

    pub(super) fn run(&mut self) {
        // When the machine is in trouble, this is what has to run first. Without the right to it, as anybody.
        if !host::priority::raise_thread_priority() {
            tracing::debug!("the keeper's thread runs with the priority of all others");
        }
        while !self.shared.stop.load(Ordering::Relaxed) {
            let before = self.mind.state;
            match self.rescue().and_then(|()| self.look()) {
                Ok(seen) => {
                    let (mind, order) = self.mind.next(&seen);
                    self.mind = mind;
                    self.say(before, &seen);
                    if self.mind.is_calm() {
                        self.told.problem = None;
                        self.failed.recovered();
                    }
                    if order != Order::Stay && self.act(order, &seen) {
                        continue;
                    }
                    self.ask(&seen);
                    self.publish(&seen);
                }
                Err(error) => {
                    self.failed.failed(&error);
                    self.told.problem = Some(error.to_string());
                    self.tell();
                }
            }
            self.wait();
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What was changed is looked at again with the next look.
    pub(super) fn look_soon(&mut self) {
        (self.dirty, self.last_scene) = (true, None);
    }

    /// Everything there is to see.
    fn look(&mut self) -> Result<Seen> {
        let now = self.now();
        if self.last_look.is_some_and(|last| now.saturating_sub(last) > LATE) {
            self.bridge.way.excuse();
            self.nic.way.excuse();
        }
        self.last_look = Some(now);
        let listed = self.shared.listed.load(Ordering::Relaxed);
        let wanted = self.shared.keep.load(Ordering::Relaxed) && (listed || self.is_taken());
        if !wanted {
            return Ok(self.seen(now, Process::Running, false));
        }
        self.bridge.hear(now, &self.questions);
        self.nic.hear(now, &self.questions);
        let bridge_pulse = self.doctor.read(&self.duty.bridge)?;
        let nic_pulse = self.doctor.read(&self.duty.nic)?;
        if self.bridge.is_another(bridge_pulse) || self.nic.is_another(nic_pulse) {
            // What was seen of the one before says nothing of this one.
            (self.place, self.last_scene) = (Place::Nowhere, None);
            self.mind.prove_anew();
        }
        let (received, sent) = self.bridge.feel(bridge_pulse);
        let (arrived, _) = self.nic.feel(nic_pulse);
        if received > 0 {
            self.bridge.way.moved(now);
        }
        let own = self.bridge.asked + self.nic.asked;
        // Every answer to a question through the bridge comes in by the NIC.
        self.stirred = sent > self.bridge.asked || arrived > own;
        (self.bridge.asked, self.nic.asked) = (0, 0);
        let mut process = self.look_at_switch(bridge_pulse.map(|pulse| pulse.carrier));
        if !listed {
            process = Process::Detached;
        }
        let there = bridge_pulse.is_some() && nic_pulse.is_some();
        if !there {
            self.place = Place::Nowhere;
            self.last_scene = None;
            self.attachment.forget();
            return Ok(self.seen(now, process, false));
        }
        self.look_at_scene(now)?;
        self.look_at_attachment(now, process)?;
        let kept = self.place != Place::Nic || self.is_ours();
        Ok(self.seen(now, process, kept))
    }

    fn seen(&self, now: Duration, process: Process, kept: bool) -> Seen {
        Seen {
            now,
            process,
            place: self.place,
            bridge: self.bridge.way,
            nic: self.nic.way,
            nic_up: self.nic.pulse.is_some_and(|pulse| pulse.up),
            can_ask: !self.questions.is_empty() && self.may_ask(),
            flows_in: self.shared.flows_in.load(Ordering::Relaxed),
            kept,
            may_leave: self.duty.may_leave,
        }
    }

    /// A question tells whoever hears it at which MAC address the node has its own (RFC 826, RFC 4861): it harms nobody
    /// where bridge and NIC have the same one, and the node has an address. A bridge that is just being made has another
    /// one for a moment.
    fn may_ask(&self) -> bool {
        let mac = |line: &ProbePath| line.pulse.map(|pulse| pulse.mac);
        self.place != Place::Nowhere && mac(&self.bridge) == mac(&self.nic)
    }

    fn look_at_switch(&mut self, carrier: Option<bool>) -> Process {
        let before = self.switch.pid();
        let process = self.switch.look(carrier);
        if let (Some(pid), true) = (before, self.switch.pid() != before) {
            tracing::debug!("ovs-vswitchd (pid {pid}) has ended");
            self.bridge.way.forget();
            // Whatever comes next begins without flows.
            self.shared.flows_in.store(false, Ordering::Relaxed);
        }
        process
    }

    /// Who carries the addresses, and whom one can ask.
    fn look_at_scene(&mut self, now: Duration) -> Result<()> {
        let due = |last: Option<Duration>, every: Duration| {
            last.is_none_or(|last| now.saturating_sub(last) >= every)
        };
        let news = self.dirty && due(self.last_scene, NEWS);
        if !news && !due(self.last_scene, SCENE) {
            return Ok(());
        }
        self.dirty = false;
        self.last_scene = Some(now);
        let (Some(bridge), Some(nic)) = (self.bridge.pulse, self.nic.pulse) else { return Ok(()) };
        let addresses = self.rows.dump_all(Kind::Address)?;
        let (on_bridge, on_nic) = (
            address_location::carries(&addresses, bridge.index),
            address_location::carries(&addresses, nic.index),
        );
        // A filter that lacks a chain counts as none, and is made whole.
        self.listening = self.ears.observe()?.and_then(|state| state.accepting());
        // Nobody asks in the name of an address that is somebody else's by now.
        let asked = self.questions.len();
        self.questions.retain(|question| {
            address_location::is_own(&addresses, &[bridge.index, nic.index], question.source)
        });
        let taken_back = self.questions.len() < asked;
        let routes = std::mem::take(&mut self.stray_routes);
        let mut place = address_location::place(on_bridge, on_nic || (on_bridge && routes));
        if place == Place::Both && self.listening != Some(Accepting::Nic) && !self.is_taken() {
            // Somebody else's bridge: what he keeps on the NIC beside it is his.
            place = Place::Bridge;
        }
        let changed = place != self.place;
        self.place = place;
        if place == Place::Bridge {
            self.carried = Some(bridge.index);
        }
        if changed || taken_back || due(self.last_hops, HOPS) {
            self.look_for_hops(now)?;
        }
        self.keep_guard()?;
        if due(self.last_sysctls, SYSCTLS) {
            self.last_sysctls = Some(now);
            self.keep_sysctls();
        }
        Ok(())
    }

    fn look_for_hops(&mut self, now: Duration) -> Result<()> {
        let network = Network::observe(&self.rows)?;
        let line = if self.place == Place::Nic { &self.nic } else { &self.bridge };
        let name = if self.place == Place::Nic { &self.duty.nic } else { &self.duty.bridge };
        let Some(pulse) = line.pulse else { return Ok(()) };
        if let (Place::Bridge, Some(nic)) = (self.place, self.nic.pulse) {
            let nic = network.of(&Device { index: nic.index, name: self.duty.nic.clone() });
            // Looked at with the next scene.
            self.stray_routes = address_location::leads_somewhere(&nic) && self.is_taken();
            self.dirty |= self.stray_routes;
        }
        let questions =
            address_location::questions(&network.of(&Device { index: pulse.index, name: name.clone() }));
        // Routes that are away for a moment are no reason to believe that nobody can be asked.
        if !questions.is_empty() || self.place == Place::Bridge {
            self.last_hops = Some(now);
            self.questions = questions;
        }
        Ok(())
    }

    /// Whether management on the NIC is a failover (ours or a predecessor's), not a NIC that nobody took over or that
    /// was given back: then the bridge is down, or there is neither guard nor record.
    fn is_ours(&self) -> bool {
        let up = self.bridge.pulse.is_some_and(|pulse| pulse.up);
        up && (self.listening == Some(Accepting::Nic) || self.is_taken())
    }

    /// Whether this NIC was taken onto the bridge in this boot, by us.
    pub(super) fn is_taken(&self) -> bool {
        match self.duty.folder.taken(&self.duty.bridge) {
            Ok(Some(taken)) => taken.is_of_this_boot().unwrap_or(false),
            // The record is lost: the mark in the database tells whose the bridge is, a setting that a takeover makes
            // tells that it was in this boot.
            Ok(None) | Err(_) => self.shared.marked.load(Ordering::Relaxed) && self.is_set_by_takeover(),
        }
    }

    fn is_set_by_takeover(&self) -> bool {
        let (key, value) = settings::MARK;
        let parts: Vec<&str> = key.split('/').collect();
        let [family, kind, name] = parts.as_slice() else { return false };
        let key = host::sysctl::Key::below_net(&[family, kind, &self.duty.bridge, name]);
        key.is_some_and(|key| host::sysctl::read(&key).is_ok_and(|found| found.trim() == value))
    }

    /// A frame is heard once: the guard stands, and is turned to where management is.
    fn keep_guard(&mut self) -> Result<()> {
        let wanted = match self.place {
            Place::Bridge => Accepting::Bridge,
            Place::Nic if self.is_ours() => Accepting::Nic,
            _ => return Ok(()),
        };
        if self.listening == Some(wanted) {
            return Ok(());
        }
        let (_lock, free) = self.lock()?;
        if !free {
            return Ok(());
        }
        match self.listening {
            None => tracing::info!("the guard against hearing frames twice was not whole: made"),
            Some(now) => {
                tracing::warn!("the guard against hearing frames twice listened to {now}: now to {wanted}")
            }
        }
        self.ears.set(wanted)?;
        self.listening = Some(wanted);
        Ok(())
    }

    /// A tap loses its carrier when vswitchd dies: neighbours must not go with it.
    fn keep_sysctls(&self) {
        for (family, name) in [("ipv4", "arp_evict_nocarrier"), ("ipv6", "ndisc_evict_nocarrier")] {
            let Some(key) = host::sysctl::Key::below_net(&[family, "conf", &self.duty.bridge, name]) else {
                continue;
            };
            // Kernels before 5.16 have no such key.
            if host::sysctl::read(&key).is_ok_and(|value| value.trim() != "0") {
                let _ = host::sysctl::write(&key, "0");
            }
        }
    }

    /// Asks what is due.
    fn ask(&mut self, seen: &Seen) {
        let asking = self.mind.asking(seen, self.stirred);
        let due = |way: &PathHealth, pace: Option<Duration>| {
            pace.is_some_and(|pace| way.since_asked(seen.now).is_none_or(|ago| ago + HURRY >= pace))
        };
        if due(&self.bridge.way, asking.bridge) {
            self.bridge.ask(seen.now, &self.questions);
        }
        if due(&self.nic.way, asking.nic) {
            self.nic.ask(seen.now, &self.questions);
        }
    }

    /// A change of state that is worth a line.
    fn say(&mut self, before: State, seen: &Seen) {
        match (before, self.mind.state) {
            (State::Idle | State::OnBridge, State::OnNic { why: Reason::Found, .. }) => {
                tracing::info!("management was found on the NIC {}", self.duty.nic);
            }
            (State::OnNic { .. }, State::Proving { .. }) => tracing::debug!("{} answers", self.duty.bridge),
            (State::Proving { .. }, State::OnNic { .. }) => {
                tracing::debug!("{} does not answer any more", self.duty.bridge);
            }
            (State::Idle, State::OnBridge) => tracing::info!(
                "management is on {}, kept alive by way of {}{}",
                self.duty.bridge,
                self.duty.nic,
                if seen.may_leave { "" } else { ", but failover is off" }
            ),
            _ => {}
        }
    }

    /// Tells everybody who wants to know, when there is something to tell.
    fn publish(&mut self, seen: &Seen) {
        let told = &mut self.told;
        told.kept = seen.kept;
        (told.at, told.device) = match self.mind.state {
            State::Idle => (At::Unknown, String::new()),
            State::OnBridge => (At::Bridge, self.duty.bridge.clone()),
            State::OnNic { .. } | State::Proving { .. } => (At::Nic, self.duty.nic.clone()),
        };
        (told.reason, told.since) = match self.mind.state {
            State::OnNic { since, why } | State::Proving { away: since, why, .. } => {
                let ago = seen.now.saturating_sub(since);
                let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let stays = told.since.filter(|_| told.reason == Some(why));
                (Some(why), stays.or(Some(epoch.saturating_sub(ago).as_secs())))
            }
            State::Idle | State::OnBridge => (None, None),
        };
        told.next_hops = self.questions.iter().map(|question| question.target.to_string()).collect();
        self.tell();
    }

    fn tell(&self) {
        let mut shared = self.shared.management.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *shared != self.told {
            shared.clone_from(&self.told);
            drop(shared);
            (self.news)(&self.told);
        }
    }

    /// Waits until there is something new, or it is time to look again.
    fn wait(&mut self) {
        let pause = self.pause();
        let mut fds = vec![self.shared.wake.as_fd()];
        let news_at = fds.len();
        if !self.dirty && self.mind.state != State::Idle {
            fds.push(self.kernel_events.as_fd());
        }
        let lines_at = fds.len();
        for line in [&self.bridge, &self.nic] {
            fds.extend(line.asker.iter().map(|(_, asker)| asker.as_fd()));
        }
        let process_at = fds.len();
        if self.hurry == 0 {
            fds.extend(self.switch.descriptors());
        }
        let ready = readable(&fds, pause);
        let any = |from: usize, to: usize| ready.iter().any(|at| (from..to).contains(at));
        let (woken, kernel) = (any(0, news_at), any(news_at, lines_at));
        let process = any(process_at, usize::MAX);
        if woken {
            let _ = self.shared.wake.read();
        }
        if kernel {
            // An error counts as an event: the kernel is observed.
            let _ = self.kernel_events.drain();
            self.dirty = true;
        }
        if process {
            // A thread may end for reasons of its own; when all are going, the first one shows some moments later.
            self.hurry = 20;
            self.trouble = Some(self.now());
        } else if self.hurry > 0 {
            self.hurry -= 1;
            if self.hurry == 0 {
                self.switch.watch_again();
                self.trouble = None;
            }
        }
    }

    fn pause(&self) -> Duration {
        let pause = match self.mind.state {
            _ if self.hurry > 0 => HURRY,
            _ if self.is_losing() => LOOK,
            State::Idle if self.shared.keep.load(Ordering::Relaxed) => IDLE,
            State::Idle => IDLE * 10,
            State::OnBridge => LOOK,
            State::Proving { .. } => PROVING,
            State::OnNic { since, .. } if self.now().saturating_sub(since).as_secs() < 30 => AWAY,
            State::OnNic { .. } => LONG_AWAY,
        };
        // Events that came right after a look are looked at soon.
        if self.dirty { pause.min(NEWS) } else { pause }
    }
}
