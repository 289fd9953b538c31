//! A bridge that goes with all it carries (`ovs-vsctl del-br`, `ovs-appctl exit --cleanup`): its addresses are gone with
//! its device, and the ingress filter still drops the NIC's frames. The decision to restore the NIC's addresses; pure.

use std::time::Duration;

use super::observation::{AddressLocation, Observation};

/// So long a bridge may be without its device: it may be about to be given back.
const GRACE: Duration = Duration::from_millis(200);

/// The bridge's device that carried management.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BridgeWatch {
    /// Its index.
    device: Option<u32>,
    /// Since when it is gone.
    lost_since: Option<Duration>,
}

impl BridgeWatch {
    /// Whether the bridge's device has to be observed, whatever the database says.
    pub(super) fn is_watching(&self) -> bool {
        self.device.is_some()
    }

    /// Whether the device is gone and the grace is running.
    pub(super) fn is_lost(&self) -> bool {
        self.lost_since.is_some()
    }

    /// One observation: the state after it, and whether the NIC needs its addresses back.
    #[must_use]
    pub(super) fn next(mut self, seen: &Observation) -> (Self, bool) {
        let present = seen.devices.bridge.map(|stats| stats.index);
        if seen.location == AddressLocation::Bridge && present.is_some() {
            return (Self { device: present, lost_since: None }, false);
        }
        if self.device.is_none() || present == self.device {
            self.lost_since = None;
            return (self, false);
        }
        let lost_since = *self.lost_since.get_or_insert(seen.now);
        (self, seen.now.saturating_sub(lost_since) >= GRACE)
    }

    /// The NIC has its addresses back, or there are none to give.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use host::link_stats::LinkStats;

    use super::*;
    use crate::failover::observation::{DeviceObservation, SwitchProcess};
    use crate::failover::path_health::PathHealth;

    fn seen(now: u64, bridge: Option<u32>, location: AddressLocation) -> Observation {
        let bridge = bridge.map(|index| LinkStats { index, ..LinkStats::default() });
        Observation {
            now: Duration::from_millis(now),
            process: SwitchProcess::Running,
            location,
            bridge: PathHealth::default(),
            nic: PathHealth::default(),
            nic_up: true,
            can_probe: true,
            has_traffic: false,
            flows_installed: true,
            active: true,
            may_leave: true,
            devices: DeviceObservation { bridge, ..DeviceObservation::default() },
        }
    }

    #[test]
    fn addresses_are_restored_when_the_device_stays_away() {
        use AddressLocation::{Bridge, Nic, Nowhere};
        let mut watch = BridgeWatch::default();
        // The time, the bridge's index, where the addresses are, whether the device is lost, whether to restore.
        for (now, bridge, location, is_lost, restores) in [
            (0, None, Nowhere, false, false),
            (10, Some(7), Bridge, false, false),
            (20, None, Nowhere, true, false),
            (219, None, Nowhere, true, false),
            (220, None, Nowhere, true, true),
            (230, Some(7), Nowhere, false, false),
            (240, Some(8), Nowhere, true, false),
            (300, Some(8), Bridge, false, false),
            (310, Some(8), Nic, false, false),
            (320, Some(9), Nic, true, false),
            (520, Some(9), Nowhere, true, true),
        ] {
            let (next, found) = watch.next(&seen(now, bridge, location));
            assert_eq!((next.is_lost(), found), (is_lost, restores), "at {now} ms");
            watch = next;
        }
        watch.forget();
        assert!(!watch.is_watching() && !watch.next(&seen(900, None, Nowhere)).1);
    }
}
