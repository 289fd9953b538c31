//! The steps of a takeover, of the way back and of an undo, as data: what is done in which order, and under which name.
//!
//! A [`crate::plan::Plan`] holds the steps that its run executes; `--dry-run` prints them.

use std::fmt;

use super::options::Datapath;

/// One step of a run, for all its uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlannedStep {
    /// Of `nics-to-bridge`.
    Attach(Step),
    /// Of `bridge-to-nics`.
    Detach(DetachStep),
}

/// One step of `nics-to-bridge`, for all uplinks. The names stand in logs, fault points and the operator's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The undo journal is on the disk, and the rollback watchdog is armed.
    Journal,
    /// The bridge is in the switch's database, with its own device only.
    BridgeTx,
    /// The bridge's device exists, with the NIC's MAC address.
    Bridge,
    /// The host accepts no frames from the bridge's device.
    GuardB,
    /// The bridge's device has the NIC's settings, and is up.
    LinkUp,
    /// It has the NIC's addresses.
    Addresses,
    /// It has the NIC's neighbour entries.
    Neighbours,
    /// The NIC is a port, in the database.
    PortTx,
    /// The NIC is a port of the datapath.
    Ofport,
    /// A next hop answers through the bridge.
    Proven,
    /// The host accepts frames from the bridge, and none from the NIC.
    IngressFilter,
    /// The routes name the bridge.
    Routes,
    /// The NIC has no addresses any more.
    OldOff,
    /// Everything is as it was, on the bridge, and works.
    Verify,
    /// The journal says so.
    Commit,
}

/// One step towards the NIC: of an undo, and of `bridge-to-nics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetachStep {
    /// The undo journal is on the disk, and the rollback watchdog is armed.
    Journal,
    /// The NIC has the addresses.
    Addresses,
    /// The routes name the NIC.
    Routes,
    /// The host accepts frames from the NIC.
    IngressFilter,
    /// The bridge has no addresses any more.
    OldOff,
    /// Everything is as it was, on the NIC, and works.
    Verify,
    /// The bridge's device is down.
    Down,
    /// The switch's database has nothing of ours any more.
    Ovsdb,
    /// The ingress filter is gone, the NIC has its own settings.
    Guard,
    /// The journal says so.
    Commit,
}

/// The steps of `nics-to-bridge`, on a datapath.
#[must_use]
pub(crate) fn attach(datapath: Datapath) -> &'static [Step] {
    use Step::{
        Addresses, Bridge, BridgeTx, Commit, GuardB, IngressFilter, Journal, LinkUp, Neighbours, Ofport,
        OldOff, PortTx, Proven, Routes, Verify,
    };
    match datapath {
        Datapath::Netdev => &[
            Journal,
            BridgeTx,
            Bridge,
            GuardB,
            LinkUp,
            Addresses,
            Neighbours,
            PortTx,
            Ofport,
            Proven,
            IngressFilter,
            Routes,
            OldOff,
            Verify,
            Commit,
        ],
        // The kernel gives the NIC's frames to the bridge as soon as it is a port: the routes follow at once, and the
        // proof comes after them.
        Datapath::System => &[
            Journal, BridgeTx, Bridge, LinkUp, Addresses, Neighbours, PortTx, Ofport, Routes, OldOff, Proven,
            Verify, Commit,
        ],
    }
}

/// The steps of `bridge-to-nics`, on a datapath.
#[must_use]
pub(crate) fn detach(datapath: Datapath) -> Vec<DetachStep> {
    let first = std::iter::once(&DetachStep::Journal);
    let rest = to_nic(datapath).iter().chain([&DetachStep::Verify]);
    first.chain(rest).chain(clear(datapath)).chain([&DetachStep::Commit]).copied().collect()
}

/// Management goes to the NIC.
#[must_use]
pub(crate) fn to_nic(datapath: Datapath) -> &'static [DetachStep] {
    use DetachStep::{Addresses, IngressFilter, OldOff, Routes};
    match datapath {
        Datapath::Netdev => &[Addresses, Routes, IngressFilter, OldOff],
        // The kernel's bridge gets the NIC's frames until the port is removed; until then it answers for the addresses
        // (IPv6 neighbours ask the device that receives them).
        Datapath::System => &[Addresses, Routes],
    }
}

/// What was built goes away.
#[must_use]
pub(crate) fn clear(datapath: Datapath) -> &'static [DetachStep] {
    use DetachStep::{Down, Guard, OldOff, Ovsdb};
    match datapath {
        Datapath::Netdev => &[Down, Ovsdb, Guard],
        Datapath::System => &[Ovsdb, OldOff, Down, Guard],
    }
}

impl PlannedStep {
    /// Its name, as in the report of the run.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attach(step) => step.name(),
            Self::Detach(step) => step.name(),
        }
    }
}

impl Step {
    /// Its name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::BridgeTx => "bridge-tx",
            Self::Bridge => "bridge",
            Self::GuardB => "guard-b",
            Self::LinkUp => "link-up",
            Self::Addresses => "addresses",
            Self::Neighbours => "neighbours",
            Self::PortTx => "port-tx",
            Self::Ofport => "ofport",
            Self::Proven => "proven",
            Self::IngressFilter => "ears",
            Self::Routes => "routes",
            Self::OldOff => "old-off",
            Self::Verify => "verify",
            Self::Commit => "commit",
        }
    }
}

impl DetachStep {
    /// Its name, in an undo and in the way back.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Addresses => "u-addr",
            Self::Routes => "u-routes",
            Self::IngressFilter => "u-ears",
            Self::OldOff => "u-old-off",
            Self::Verify => "verify",
            Self::Down => "u-down",
            Self::Ovsdb => "u-ovsdb",
            Self::Guard => "u-guard",
            Self::Commit => "commit",
        }
    }
}

impl serde::Serialize for PlannedStep {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DetachStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
