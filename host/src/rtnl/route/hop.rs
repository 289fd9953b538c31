//! Next hops of a route: one, or the entries of a multipath route (`struct rtnexthop`).

use std::fmt;
use std::net::IpAddr;

use super::super::{DeviceMapping, display};
use super::{RTA_GATEWAY, RTA_VIA};
use crate::netlink_format;

/// One of the next hops of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// Index of the device.
    pub device: Option<u32>,
    /// The router; `None` when the destination is on the link.
    pub via: Option<IpAddr>,
    /// Its weight among several, 1 to 256.
    pub weight: u16,
    /// The router counts as on the link, whatever the addresses (`onlink`).
    pub onlink: bool,
}

const RTNH_F_PERVASIVE: u32 = 2;
pub(super) const RTNH_F_ONLINK: u32 = 4;
/// The flags of a hop that are configuration; the rest is state (dead, no carrier, offloaded), which the kernel refuses.
pub(super) const CONFIGURED: u32 = RTNH_F_ONLINK | RTNH_F_PERVASIVE;
/// `struct rtnexthop`: length, flags, hops, index of the device.
const HOP_HEADER: usize = 8;

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(device) = self.device {
            write!(f, " dev {device}")?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}

/// One hop of a multipath route: its header and its attributes.
pub(super) struct HopEntry<'a> {
    header: [u8; HOP_HEADER],
    rest: &'a [u8],
}

impl HopEntry<'_> {
    pub(super) fn hop(&self) -> Hop {
        Hop {
            device: netlink_format::number(&self.header, 4),
            via: gateway(|kind| netlink_format::find(self.rest, kind)),
            weight: u16::from(self.header[3]) + 1,
            onlink: u32::from(self.header[2]) & RTNH_F_ONLINK != 0,
        }
    }
}

pub(super) fn hop_entries(bytes: &[u8]) -> impl Iterator<Item = HopEntry<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(netlink_format::short(rest, 0)?);
        let header = *rest.first_chunk::<HOP_HEADER>()?;
        let entry = HopEntry { header, rest: rest.get(HOP_HEADER..length)? };
        rest = rest.get(netlink_format::aligned(length)..).unwrap_or_default();
        Some(entry)
    })
}

pub(super) fn hop_entries_for_device(bytes: &[u8], mapping: &DeviceMapping, flags: u8) -> Vec<u8> {
    let mut bytes_out = Vec::with_capacity(bytes.len());
    for entry in hop_entries(bytes) {
        let mut header = entry.header;
        header[2] = header[2] & CONFIGURED as u8 | flags;
        let device = mapping.index(netlink_format::number(&header, 4).unwrap_or_default());
        header[4..].copy_from_slice(&device.to_ne_bytes());
        bytes_out.extend(header);
        bytes_out.extend(entry.rest);
        bytes_out.resize(netlink_format::aligned(bytes_out.len()), 0);
    }
    bytes_out
}

/// The router: of the route's own family, or (IPv4 routes) of another one (`struct rtvia`).
pub(super) fn gateway<'a>(find: impl Fn(u16) -> Option<&'a [u8]>) -> Option<IpAddr> {
    match find(RTA_GATEWAY) {
        Some(bytes) => display::address(bytes),
        None => display::address(find(RTA_VIA)?.get(2..)?),
    }
}
