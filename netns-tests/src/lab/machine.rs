//! What differs from machine to machine: which datapath the nodes' switches run on, and how slow everything is.

use std::{sync::OnceLock, time::Duration};

/// What the nodes' switches forward with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// OVS's own, in ovs-vswitchd: needs no kernel module.
    Userspace,
    /// The module `openvswitch` of the kernel.
    Kernel,
}

impl Datapath {
    /// The one this process's labs use: the kernel's where `LAB_DATAPATH=kernel`.
    pub fn wanted() -> Self {
        match std::env::var("LAB_DATAPATH") {
            Ok(name) if name == "kernel" => Self::Kernel,
            _ => Self::Userspace,
        }
    }

    /// `datapath_type` of a bridge.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "netdev",
            Self::Kernel => "system",
        }
    }
}

/// A time limit as this machine needs it: `LAB_SLOWNESS` times as long. An emulated machine is slow, not wrong.
pub fn scaled(limit: Duration) -> Duration {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    let factor = SLOWNESS.get_or_init(|| {
        let said = std::env::var("LAB_SLOWNESS").ok().and_then(|text| text.parse().ok());
        said.unwrap_or(1).clamp(1, 100)
    });
    limit * *factor
}
