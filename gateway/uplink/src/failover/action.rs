//! What a pass may ask for, and why management leaves the bridge: values alone.

use std::fmt;

use host::ingress_filter::Accepting;
use serde::{Deserialize, Serialize};

/// Why management went to the NIC. The names are those of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// vswitchd ended.
    Ended,
    /// vswitchd was stopped.
    Stopped,
    /// vswitchd runs, but what is sent into the bridge does not come back, while probes over the NIC get replies.
    Silent,
    /// The NIC's port was removed from the bridge.
    Detached,
    /// It was on the NIC already at the first observation.
    Found,
}

/// A switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switchover {
    /// Management to the NIC.
    ToNic(Reason),
    /// Management to the bridge.
    ToBridge,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The NIC gets the addresses it had before the takeover.
    RestoreAddresses(RestoreCause),
    /// The host accepts frames from this device.
    SetIngressFilter(Accepting),
    /// The bridge's sysctls are written again.
    WriteSysctls,
    /// What the kernel gave a recreated NIC moves to the bridge.
    TidyNic,
    /// A recreated NIC is set up.
    RaiseNic,
    /// The record gets the NIC's new index.
    RecordNic(u32),
    /// The switch opens the NIC again.
    Reattach,
    /// Management changes its device.
    SwitchOver(Switchover),
    /// Probes are sent.
    Probe(Probes),
}

/// Why the NIC needs the addresses of before the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreCause {
    /// The bridge's device, which carried management, is gone.
    BridgeGone,
    /// The NIC was recreated while it carried management.
    NicRecreated,
}

/// On which paths probes are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Through the bridge.
    pub bridge: bool,
    /// Over the NIC.
    pub nic: bool,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Ended => "ovs-vswitchd ended",
            Reason::Stopped => "ovs-vswitchd was stopped",
            Reason::Silent => "ovs-vswitchd runs, but the bridge carries nothing",
            Reason::Detached => "it is no port of the bridge any more",
            Reason::Found => "it was found there",
        })
    }
}

impl Reason {
    /// As the metric's label has it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Ended => "ended",
            Reason::Stopped => "stopped",
            Reason::Silent => "silent",
            Reason::Detached => "detached",
            Reason::Found => "found",
        }
    }
}
