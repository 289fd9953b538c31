//! Whether the switch hears the NIC: one that was made anew has to be attached again.

use std::thread::JoinHandle;
use std::time::Duration;

use super::state_machine::{Order, Place, Process};
use super::worker::Worker;
use crate::error::Result;
use crate::{reattach, recover};

/// It is looked at this often without a reason.
const EVERY: Duration = Duration::from_secs(2);
/// So long it must not have been heard: a switch that begins opens one port after the other, and one of a later version
/// may find out by itself.
const GRACE: Duration = Duration::from_millis(200);
/// Between two tries, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// The kernel may give a new NIC an address of the link some time after it came up.
const TIDY: Duration = Duration::from_secs(2);
/// Between two tries to give a new NIC what the one before had.
const GIFT: Duration = Duration::from_secs(10);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct ReattachState {
    /// The NIC that the switch hears, or that is not ours to attach.
    settled: Option<u32>,
    /// When that was looked at.
    looked: Option<Duration>,
    /// Since when the NIC is not heard.
    lost: Option<Duration>,
    /// Somebody attaches it.
    work: Option<JoinHandle<Result<bool>>>,
    /// When it may be tried again, and how long to wait after that.
    again: Duration,
    pause: Duration,
    /// When what the new NIC has by itself is to be taken off.
    tidy: Option<Duration>,
    /// When a new NIC may get again what the one before had: the kernel may have refused it.
    gift: Duration,
}

impl ReattachState {
    /// The NIC is away.
    pub(super) fn forget(&mut self) {
        (self.settled, self.lost, self.gift) = (None, None, Duration::ZERO);
    }
}

impl Worker {
    /// Has the NIC attached again when the switch does not hear it.
    pub(super) fn look_at_attachment(&mut self, now: Duration, process: Process) -> Result<()> {
        let (Some(bridge), Some(nic)) = (self.bridge.pulse, self.nic.pulse) else { return Ok(()) };
        if self.attachment.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return Ok(());
        }
        if let Some(work) = self.attachment.work.take() {
            self.attached(now, nic.index, work)?;
        }
        if self.attachment.tidy.is_some_and(|due| now >= due) && self.place == Place::Bridge {
            self.attachment.tidy = None;
            self.turn(Order::ToBridge)?;
        }
        if bridge.mac == nic.mac && bridge.up && self.attachment.settled != Some(nic.index) {
            self.made_anew(now, nic.index, nic.up)?;
        }
        // A dead switch opens what there is when it begins; one without a number cannot be looked at.
        let Some(pid) = self.switch.pid().filter(|_| process == Process::Running && bridge.carrier) else {
            self.attachment.lost = None;
            return Ok(());
        };
        let fresh = self.attachment.looked.is_some_and(|last| now.saturating_sub(last) < EVERY);
        if self.attachment.settled == Some(nic.index) && fresh {
            return Ok(());
        }
        self.attachment.looked = Some(now);
        match reattach::is_received(pid, nic.index) {
            Some(false) if bridge.mac == nic.mac => {}
            // What cannot be told is taken to be well; it is not noted.
            heard => {
                self.heard(nic.index, heard == Some(true));
                return Ok(());
            }
        }
        let lost = *self.attachment.lost.get_or_insert(now);
        if now.saturating_sub(lost) < GRACE || now < self.attachment.again {
            return Ok(());
        }
        let (lock, free) = self.lock()?;
        if !free {
            return Ok(());
        }
        let known = self.is_taken();
        let duty = self.duty.clone();
        let work = move || {
            // PriorOvsConfig until it is done: nobody else turns anything meanwhile but the keeper itself.
            let _lock = lock;
            reattach::again(&duty.db, &duty.bridge, &duty.nic, known)
        };
        let thread = std::thread::Builder::new().name("attach".to_owned());
        self.attachment.work = thread.spawn(work).ok();
        Ok(())
    }

    /// Another device than the one that was taken over: it is set up as that one was (one that is the same as ever was
    /// set down by somebody), and has what that one had, when management was on it and went with it.
    fn made_anew(&mut self, now: Duration, nic: u32, up: bool) -> Result<()> {
        let Ok(Some(taken)) = self.duty.folder.taken(&self.duty.bridge) else { return Ok(()) };
        let bare =
            self.place == Place::Nowhere && now >= self.attachment.gift && taken.uplink.rows.has_address();
        if taken.uplink.nic.index == nic || !taken.is_of_this_boot()? || (up && !bare) {
            return Ok(());
        }
        let Some(_lock) = self.lock_for_the_nic()? else { return Ok(()) };
        let name = &self.duty.nic;
        if !up {
            tracing::info!("{name} was made anew: set up");
            reattach::raise(&self.rows, name)?;
        }
        if bare {
            self.attachment.gift = now + GIFT;
            tracing::warn!(
                "{name} was made anew, and management was on it: it has what it had before the takeover"
            );
            for line in recover::home(&taken, &self.duty.db)? {
                tracing::warn!("refused by the kernel while {name} got its addresses back: {line}");
            }
            self.look_soon();
        }
        Ok(())
    }

    /// The switch hears it, or another one is meant.
    fn heard(&mut self, nic: u32, surely: bool) {
        self.attachment.lost = None;
        // Without addresses it may still get what the one before had.
        let waits = || {
            let taken = self.duty.folder.taken(&self.duty.bridge);
            taken.is_ok_and(|taken| taken.is_some_and(|taken| taken.uplink.rows.has_address()))
        };
        if self.attachment.settled == Some(nic) || (self.place == Place::Nowhere && waits()) {
            return;
        }
        self.attachment.settled = Some(nic);
        self.attachment.pause = PAUSE;
        if surely {
            self.note(nic);
        }
    }

    fn note(&self, nic: u32) {
        let Ok(Some(taken)) = self.duty.folder.taken(&self.duty.bridge) else { return };
        if taken.uplink.nic.index == nic || !taken.is_of_this_boot().unwrap_or(false) {
            return;
        }
        let noted = self.lock().and_then(|(lock, free)| match free {
            true => reattach::note(&lock, &taken, nic),
            false => Ok(()),
        });
        if let Err(error) = noted {
            tracing::debug!("the record of {} keeps an old number: {error}", self.duty.nic);
        }
    }

    /// A try has come to its end.
    fn attached(&mut self, now: Duration, nic: u32, work: JoinHandle<Result<bool>>) -> Result<()> {
        let (name, bridge) = (&self.duty.nic, &self.duty.bridge);
        let pause = self.attachment.pause.max(PAUSE);
        self.attachment.again = now + pause;
        self.attachment.pause = (pause * 2).min(PAUSE_MOST);
        match work.join() {
            Ok(Ok(true)) => {
                tracing::warn!(
                    "{name} was made anew (a driver that was loaded again?): attached to {bridge} again"
                );
                self.bridge.way.forget();
                self.attachment.tidy = Some(now + TIDY);
                self.look_soon();
                Ok(())
            }
            Ok(Ok(false)) => {
                tracing::warn!(
                    "{name} was made anew, and ovs-vswitchd does not hear it; its port is not ours to attach: \
                     `ovs-vsctl del-port {bridge} {name}`, then `ovs-vsctl add-port {bridge} {name}`"
                );
                self.attachment.settled = Some(nic);
                self.attachment.lost = None;
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(()),
        }
    }
}
