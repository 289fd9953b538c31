//! The steps of a takeover and of its undo, as data: what is done in which order, and under which name.

use std::fmt;

use super::options::Datapath;

/// One step, for all uplinks of a run. The names stand in logs, fault points and the operator's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// What has to be put back is on the disk, and the rollback watchdog is armed.
    Journal,
    /// The bridge is in the switch's database, its own device only.
    BridgeTx,
    /// The bridge's device is there, with the NIC's MAC address.
    Bridge,
    /// The bridge's device is deaf.
    GuardB,
    /// It has the NIC's settings, and is up.
    LinkUp,
    /// It has the NIC's addresses.
    Addresses,
    /// It knows the NIC's neighbours.
    Neighbours,
    /// The NIC is a port, in the database.
    PortTx,
    /// The NIC is a port of the datapath.
    Ofport,
    /// A next hop answers through the bridge.
    Proven,
    /// The bridge is listened to, the NIC is not.
    IngressFilter,
    /// The routes name the bridge.
    Routes,
    /// The NIC has no addresses any more.
    OldOff,
    /// All is as it was, on the bridge, and works.
    Verify,
    /// The journal says so.
    Commit,
}

/// One step towards the NIC: of an undo, and of the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetachStep {
    /// The NIC has the addresses.
    Addresses,
    /// The routes name the NIC.
    Routes,
    /// The NIC is listened to.
    IngressFilter,
    /// The bridge has no addresses any more.
    OldOff,
    /// The bridge's device is down.
    Down,
    /// The switch's database has nothing of ours any more.
    Ovsdb,
    /// The guard is gone, the NIC has its settings again.
    Guard,
}

/// Forwards, on a datapath.
pub fn forwards(datapath: Datapath) -> &'static [Step] {
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
        // The kernel gives the NIC's frames to the bridge as soon as it is a port: the mouth follows at once, and the
        // proof comes after it.
        Datapath::System => &[
            Journal, BridgeTx, Bridge, LinkUp, Addresses, Neighbours, PortTx, Ofport, Routes, OldOff, Proven,
            Verify, Commit,
        ],
    }
}

/// Management goes to the NIC.
#[must_use]
pub fn to_nic(datapath: Datapath) -> &'static [DetachStep] {
    use DetachStep::{Addresses, IngressFilter, OldOff, Routes};
    match datapath {
        Datapath::Netdev => &[Addresses, Routes, IngressFilter, OldOff],
        // The kernel's bridge gets the NIC's frames until the port is taken off; until then it answers for the addresses
        // (IPv6 neighbours ask the device that hears them).
        Datapath::System => &[Addresses, Routes],
    }
}

/// What was built goes away.
#[must_use]
pub fn clear(datapath: Datapath) -> &'static [DetachStep] {
    use DetachStep::{Down, Guard, OldOff, Ovsdb};
    match datapath {
        Datapath::Netdev => &[Down, Ovsdb, Guard],
        Datapath::System => &[Ovsdb, OldOff, Down, Guard],
    }
}

impl Step {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Addresses => "u-addr",
            Self::Routes => "u-routes",
            Self::IngressFilter => "u-ears",
            Self::OldOff => "u-old-off",
            Self::Down => "u-down",
            Self::Ovsdb => "u-ovsdb",
            Self::Guard => "u-guard",
        }
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
