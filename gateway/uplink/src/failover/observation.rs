//! What one pass observes: values alone, shared by the parts that observe, decide and act.

use std::time::Duration;

use host::ingress_filter::Accepting;
use host::link_stats::LinkStats;

use super::path_health::PathHealth;

/// ovs-vswitchd, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchProcess {
    /// It ended, or no process holds the bridge's tap.
    Gone,
    /// It was stopped (SIGSTOP).
    Stopped,
    /// Its state does not matter: the NIC is no port of the bridge any more.
    Detached,
    /// It runs, or nothing says that it does not.
    Running,
}

/// Where the node's addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressLocation {
    /// On the bridge's device.
    Bridge,
    /// On the NIC.
    Nic,
    /// On both: a switchover was interrupted, or another program put them back.
    Both,
    /// On neither.
    #[default]
    Nowhere,
}

/// Everything that is observed at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The moment, since the thread started.
    pub now: Duration,
    /// vswitchd.
    pub process: SwitchProcess,
    /// The addresses.
    pub location: AddressLocation,
    /// The path through the bridge.
    pub bridge: PathHealth,
    /// The path over the NIC.
    pub nic: PathHealth,
    /// The NIC is set up: what is put on one that is down loses its routes.
    pub nic_up: bool,
    /// There is a next hop to probe.
    pub can_probe: bool,
    /// The node sends through the bridge or receives from the wire: more than our own probes.
    pub has_traffic: bool,
    /// Our flows are in the switch, as far as is known.
    pub flows_installed: bool,
    /// The failover is active: the bridge holds the NIC, and no takeover is running.
    pub active: bool,
    /// Management may leave the bridge.
    pub may_leave: bool,
    /// The devices.
    pub devices: DeviceObservation,
}

/// The devices, beside what the state machine goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceObservation {
    /// The helper wants this bridge watched, and the NIC is its port or was taken over.
    pub enabled: bool,
    /// The bridge's device; `None` where there is none.
    pub bridge: Option<LinkStats>,
    /// The NIC; `None` where there is none.
    pub nic: Option<LinkStats>,
    /// Addresses and ingress filter were read in this pass.
    pub is_location_fresh: bool,
    /// What the ingress filter accepts; `None` where it is not whole, or accepts nothing.
    pub accepting: Option<Accepting>,
    /// With the addresses on the NIC: they are there by a failover.
    pub is_failover: bool,
    /// A reattachment is running.
    pub reattaching: bool,
    /// The process ID of vswitchd is known.
    pub is_switch_known: bool,
    /// The takeover's record, where it was read.
    pub record: Option<RecordedNic>,
    /// Whether the switch receives from the NIC; `None` where it was not asked or cannot be known.
    pub received: Option<bool>,
    /// [`DeviceObservation::received`] was asked for.
    pub is_reception_checked: bool,
}

/// What the record of a takeover says of the NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedNic {
    /// Its index.
    pub index: u32,
    /// It had an address of more than the link.
    pub has_address: bool,
    /// The record is of this boot.
    pub of_this_boot: bool,
}

impl DeviceObservation {
    /// Both devices, where both are there and the bridge is watched.
    pub fn both(&self) -> Option<(LinkStats, LinkStats)> {
        self.bridge.zip(self.nic).filter(|_| self.enabled)
    }
}
