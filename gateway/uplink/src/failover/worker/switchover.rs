//! The turns: the right to it, an order carried out, and told.

use std::time::{Duration, Instant};

use host::ingress_filter::Accepting;
use host::rtnl::Device;

use super::Worker;
use crate::error::Result;
use crate::failover::state_machine::{Order, Place, Reason, Seen};
use crate::{fault, journal, switchover};

/// One at work with another folder is waited for no longer than this when management has to leave a dead bridge: he may
/// stand still, or wait for a word for an hour.
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Not looked at for this long, it was another one.
const ANOTHER: Duration = Duration::from_secs(1);

impl Worker {
    /// The right to change this uplink; `false`: a takeover of this bridge is under way, and has its own undo. Of one with
    /// another folder it is not known what it takes over.
    pub(in crate::failover) fn lock(&self) -> Result<(journal::Lock, bool)> {
        let lock = self.duty.folder.lock_or_go_on(Duration::ZERO);
        let ours = |journal: &journal::Journal| {
            journal.state == journal::JournalState::Open
                && journal.uplinks.iter().any(|uplink| uplink.bridge == self.duty.bridge)
        };
        let free = lock.is_held()
            || !lock.is_held_elsewhere()
                && !self.duty.folder.journal()?.is_some_and(|journal| ours(&journal));
        Ok((lock, free))
    }

    /// The right to give the NIC what management needs; `None`: not now. One who is at work with another folder is waited
    /// for, but not for ever.
    pub(in crate::failover) fn lock_for_the_nic(&mut self) -> Result<Option<journal::Lock>> {
        let (lock, free) = self.lock()?;
        let goes_on = free || lock.is_held_elsewhere() && self.has_waited_for_another();
        Ok(goes_on.then_some(lock))
    }

    fn has_waited_for_another(&mut self) -> bool {
        let now = self.now();
        let known = self.elsewhere.filter(|(_, last)| now.saturating_sub(*last) < ANOTHER);
        let (since, _) = known.unwrap_or((now, now));
        self.elsewhere = Some((since, now));
        if known.is_none() {
            tracing::warn!(
                "management has to leave {}, and somebody is at work with another --state-dir: waiting for him, {} s at most",
                self.duty.bridge,
                ELSEWHERE.as_secs()
            );
        }
        now.saturating_sub(since) >= ELSEWHERE
    }

    /// Carries an order out. Whether anything was done.
    pub(super) fn act(&mut self, order: Order, seen: &Seen) -> bool {
        let before = self.place;
        let done = self.turn(order);
        self.look_soon();
        match (done, order) {
            (Ok(None), _) | (_, Order::Stay) => false,
            (Ok(Some(turned)), Order::ToNic(why)) => {
                self.bridge.way.forget();
                self.turned_to_nic(why, before, seen, turned);
                true
            }
            (Ok(Some(turned)), Order::ToBridge) => {
                self.turned_to_bridge(before, turned.saturating_sub(seen.now));
                true
            }
            (Err(error), _) => {
                self.failed.failed(&error);
                self.told.problem = Some(error.to_string());
                false
            }
        }
    }

    /// Turns ears and mouth. `None`: not now; else when frames went the new way.
    pub(in crate::failover) fn turn(&mut self, order: Order) -> Result<Option<Duration>> {
        let (Some(bridge), Some(nic)) = (self.bridge.pulse, self.nic.pulse) else { return Ok(None) };
        let lock = match order {
            Order::ToNic(_) => self.lock_for_the_nic()?,
            _ => self.lock().map(|(lock, free)| free.then_some(lock))?,
        };
        let Some(_lock) = lock else { return Ok(None) };
        // A NIC that was given back a moment ago must not be taken again: its bridge is about to go.
        if order == Order::ToBridge && self.place == Place::Nic {
            self.listening = self.ears.observe()?.and_then(|state| state.accepting());
            if !self.is_ours() {
                return Ok(None);
            }
        }
        let device = |index, name: &str| Device { index, name: name.to_owned() };
        let (bridge, nic) = (device(bridge.index, &self.duty.bridge), device(nic.index, &self.duty.nic));
        let (way, ears) = match order {
            Order::Stay => return Ok(None),
            Order::ToNic(_) => (switchover::Migration::new(&self.rows, &bridge, &nic), Accepting::Nic),
            Order::ToBridge => (switchover::Migration::new(&self.rows, &nic, &bridge), Accepting::Bridge),
        };
        let start = Instant::now();
        let mut refused = way.prepare()?;
        part(order, "prepare")?;
        let prepared = start.elapsed();
        // The new rules of the ears hold at once, but the kernel returns only when nobody uses the old ones any more,
        // some ten milliseconds later. So on the way to the NIC, where every one counts, the mouth is first; on the way
        // back, where both ways carry, the order is that of a takeover.
        if matches!(order, Order::ToNic(_)) {
            refused.extend(way.move_routes()?);
            part(order, "mouth")?;
            self.ears.set(ears)?;
            part(order, "ears")?;
        } else {
            self.ears.set(ears)?;
            part(order, "ears")?;
            refused.extend(way.move_routes()?);
            part(order, "mouth")?;
        }
        let turned = self.now();
        let turning = start.elapsed();
        refused.extend(way.remove_old()?);
        part(order, "old-off")?;
        tracing::debug!(
            "turned: ready after {prepared:?}, ears and mouth after {turning:?}, all after {:?}",
            start.elapsed()
        );
        for line in refused {
            tracing::warn!("refused by the kernel while management was turned: {line}");
        }
        self.told.problem = None;
        self.failed.recovered();
        Ok(Some(turned))
    }

    fn turned_to_nic(&mut self, why: Reason, before: Place, seen: &Seen, now: Duration) {
        let since = match why {
            Reason::Silent => seen.bridge.silent_since(),
            _ => None,
        };
        let gap = now.saturating_sub(since.or(self.trouble).unwrap_or(seen.now));
        self.trouble = None;
        if before == Place::Nic || self.mind.is_away() {
            if before == Place::Both {
                tracing::info!("what stood on {} is on {}, too", self.duty.bridge, self.duty.nic);
            }
            return;
        }
        *self.told.failovers.entry(why).or_default() += 1;
        self.told.last_gap_ms = Some(gap.as_secs_f64() * 1000.0);
        tracing::warn!(
            "management is on the NIC {} now: {why} ({:.1} ms after the first sign of it); pods' traffic waits for {}",
            self.duty.nic,
            gap.as_secs_f64() * 1000.0,
            self.duty.bridge
        );
    }

    fn turned_to_bridge(&mut self, before: Place, took: Duration) {
        let bridge = &self.duty.bridge;
        if before == Place::Both {
            tracing::warn!(
                "addresses or routes on {} beside those on {bridge}: moved to {bridge}; is a network manager still in charge of {}?",
                self.duty.nic,
                self.duty.nic
            );
        } else {
            tracing::info!("management is back on {bridge} ({:.1} ms)", took.as_secs_f64() * 1000.0);
        }
    }
}

/// A part of a turn is done: `to-nic-mouth`, `to-bridge-ears` and their like are fault points.
fn part(order: Order, name: &str) -> Result<()> {
    let way = if matches!(order, Order::ToNic(_)) { "to-nic" } else { "to-bridge" };
    fault::after(&format!("{way}-{name}"))
}
