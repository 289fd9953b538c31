//! A bridge that goes with all it carries (`ovs-vsctl del-br`, `ovs-appctl exit --cleanup`): its addresses are gone with
//! its device, and the guard keeps the NIC deaf. The NIC gets back what it had before the takeover.

use std::time::Duration;

use host::rtnl::Kind;

use super::address_location;
use super::worker::Worker;
use crate::error::Result;
use crate::recover;

/// So long a bridge may be without its device: it may be about to be given back.
const GRACE: Duration = Duration::from_millis(200);

impl Worker {
    /// Whether the device that carried management is gone and the grace is running.
    pub(super) fn is_losing(&self) -> bool {
        self.lost.is_some()
    }

    /// Gives the NIC its own again when the bridge's device, which carried management, is gone or another one.
    pub(super) fn rescue(&mut self) -> Result<()> {
        let Some(carried) = self.carried else { return Ok(()) };
        if self.doctor.read(&self.duty.bridge)?.is_some_and(|pulse| pulse.index == carried) {
            self.lost = None;
            return Ok(());
        }
        let now = self.now();
        if now.saturating_sub(*self.lost.get_or_insert(now)) < GRACE {
            return Ok(());
        }
        let Some(_lock) = self.lock_for_the_nic()? else { return Ok(()) };
        (self.carried, self.lost) = (None, None);
        // Under the lock: a NIC that was given back has no record any more.
        let taken = self.duty.folder.taken(&self.duty.bridge)?;
        let Some(taken) = taken.filter(|taken| taken.is_of_this_boot().unwrap_or(false)) else {
            return Ok(());
        };
        let addresses = self.rows.dump_all(Kind::Address)?;
        for name in [&self.duty.bridge, &self.duty.nic] {
            if self.doctor.read(name)?.is_some_and(|pulse| address_location::carries(&addresses, pulse.index))
            {
                return Ok(());
            }
        }
        let refused = recover::home(&taken, &self.duty.db)?;
        tracing::warn!(
            "the device of {} is gone with its addresses: {} has those of before the takeover",
            self.duty.bridge,
            self.duty.nic
        );
        for line in refused {
            tracing::warn!("refused by the kernel while the NIC got its addresses back: {line}");
        }
        self.look_soon();
        Ok(())
    }
}
