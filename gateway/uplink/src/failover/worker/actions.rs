//! What the thread does: one function for each kind of action.

use std::time::{Duration, Instant};

use host::ingress_filter::Accepting;

use super::Worker;
use crate::error::Result;
use crate::failover::action::{RestoreCause, Switchover};
use crate::failover::observation::{AddressLocation, Observation};
use crate::switchover::{Context, InFlight, Part, Target};
use crate::{fault, reattach, recover};

impl Worker {
    /// Moves management, and reports it. Whether anything was done.
    pub(super) fn switch_over_and_log(&mut self, switchover: Switchover, seen: &Observation) -> Result<bool> {
        let before = self.observer.location();
        let moved = self.switch_over(switchover);
        self.memory.schedule.observe_soon();
        let Some(moved) = moved? else { return Ok(false) };
        match switchover {
            Switchover::ToNic(why) => {
                self.observer.bridge.health.reset();
                self.note_failover(why, before, seen, moved);
            }
            Switchover::ToBridge => self.log_return(before, moved.saturating_sub(seen.now)),
        }
        Ok(true)
    }

    /// Moves management. `None`: not now; else when frames went the new way.
    pub(super) fn switch_over(&mut self, switchover: Switchover) -> Result<Option<Duration>> {
        let Some((bridge, nic)) = self.observer.devices() else { return Ok(None) };
        let lock = match switchover {
            Switchover::ToNic(_) => self.lock_for_nic()?,
            Switchover::ToBridge => self.lock().map(|(lock, is_free)| is_free.then_some(lock))?,
        };
        let Some(_lock) = lock else { return Ok(None) };
        // A NIC that was given back a moment ago must not be taken again: its bridge is about to go.
        if switchover == Switchover::ToBridge && self.observer.location() == AddressLocation::Nic {
            self.observer.accepting = self.observer.filter.observe()?.and_then(|state| state.accepting());
            if !self.observer.is_failover() {
                return Ok(None);
            }
        }
        let (target, name) = match switchover {
            Switchover::ToNic(_) => (Target::Nic, "to-nic"),
            Switchover::ToBridge => (Target::Bridge, "to-bridge"),
        };
        let context = Context {
            socket: &self.observer.netlink,
            nic,
            bridge,
            filter: Some(&self.observer.filter),
            in_flight: InFlight::None,
        };
        let (start, mut moved) = (Instant::now(), Duration::ZERO);
        let refused = context.run(target, |part| {
            match part {
                Part::Prepare => tracing::debug!("switchover {name}: prepared after {:?}", start.elapsed()),
                Part::IngressFilter | Part::Routes => moved = self.started.elapsed(),
                Part::OldOff => tracing::debug!("switchover {name}: all done after {:?}", start.elapsed()),
            }
            // `to-nic-routes`, `to-bridge-ingress-filter` and their like.
            fault::after(&format!("{name}-{}", part.name()))
        })?;
        for line in refused {
            tracing::warn!("refused by the kernel in the switchover {name}: {line}");
        }
        self.recover();
        Ok(Some(moved))
    }

    /// The NIC gets the addresses it had before the takeover, where neither device has any.
    pub(super) fn restore_addresses(&mut self, cause: RestoreCause) -> Result<()> {
        let Some(_lock) = self.lock_for_nic()? else { return Ok(()) };
        match cause {
            RestoreCause::BridgeGone => self.memory.bridge.forget(),
            RestoreCause::NicRecreated => self.memory.reattach.note_restored(self.now()),
        }
        // Under the lock: a NIC that was given back has no record any more.
        let taken = self.config.folder.taken(&self.config.bridge)?;
        let Some(taken) = taken.filter(|taken| taken.is_of_this_boot().unwrap_or(false)) else {
            return Ok(());
        };
        if self.observer.has_addresses()? {
            return Ok(());
        }
        let refused = recover::home(&taken, &self.config.db)?;
        let (bridge, nic) = (&self.config.bridge, &self.config.nic);
        match cause {
            RestoreCause::BridgeGone => tracing::warn!(
                "the device of {bridge} is gone with its addresses: {nic} has those of before the takeover"
            ),
            RestoreCause::NicRecreated => tracing::warn!(
                "{nic} was recreated, and management was on it: it has the addresses of before the takeover"
            ),
        }
        for line in refused {
            tracing::warn!("refused by the kernel while {nic} got its addresses back: {line}");
        }
        self.memory.schedule.observe_soon();
        Ok(())
    }

    /// The host accepts frames from where management is, and only from there.
    pub(super) fn set_filter(&mut self, wanted: Accepting) -> Result<()> {
        let (_lock, is_free) = self.lock()?;
        if !is_free {
            return Ok(());
        }
        let bridge = &self.config.bridge;
        match self.observer.accepting {
            None => tracing::info!("the ingress filter of {bridge} was not whole: made again"),
            Some(before) => {
                tracing::warn!(
                    "the ingress filter of {bridge} accepted frames from {before}: now from {wanted}"
                );
            }
        }
        self.observer.filter.set(wanted)?;
        self.observer.accepting = Some(wanted);
        Ok(())
    }

    /// A tap loses its carrier when vswitchd ends: the neighbour entries must not go with it.
    pub(super) fn write_sysctls(&self) {
        for (family, name) in [("ipv4", "arp_evict_nocarrier"), ("ipv6", "ndisc_evict_nocarrier")] {
            let Some(key) = host::sysctl::Key::below_net(&[family, "conf", &self.config.bridge, name]) else {
                continue;
            };
            // Kernels before 5.16 have no such key.
            if host::sysctl::read(&key).is_ok_and(|value| value.trim() != "0") {
                let _ = host::sysctl::write(&key, "0");
            }
        }
    }

    /// A recreated NIC is set up, as the one that was taken over.
    pub(super) fn raise_nic(&mut self) -> Result<()> {
        let Some(_lock) = self.lock_for_nic()? else { return Ok(()) };
        tracing::info!("{} was recreated: set up", self.config.nic);
        reattach::raise(&self.observer.netlink, &self.config.nic)
    }

    /// The record gets the NIC's new index.
    pub(super) fn record_nic(&self, index: u32) {
        let Ok(Some(taken)) = self.config.folder.taken(&self.config.bridge) else { return };
        let recorded = self.lock().and_then(|(lock, is_free)| match is_free {
            true => reattach::record_index(&lock, &taken, index),
            false => Ok(()),
        });
        if let Err(error) = recorded {
            tracing::debug!("the record of {} keeps the old index: {error}", self.config.nic);
        }
    }

    /// The switch opens the NIC again, on a thread of its own: database and vswitchd take their time.
    pub(super) fn reattach(&mut self) -> Result<()> {
        let (lock, is_free) = self.lock()?;
        if !is_free {
            return Ok(());
        }
        let is_taken = self.observer.is_taken();
        let config = self.config.clone();
        let work = move || {
            // Held until it is done: meanwhile only this thread's own switchovers go on.
            let _lock = lock;
            reattach::reattach(&config.db, &config.bridge, &config.nic, is_taken)
        };
        self.reattaching = std::thread::Builder::new().name("reattach".to_owned()).spawn(work).ok();
        Ok(())
    }
}
