//! Devices (`struct ifinfomsg`), and the rows that change them.

use std::fmt;

use super::view::view;
use super::{Device, Family, Kind, Request, Row, Socket, display};
use crate::netlink_format::{self, NLA_TYPE_MASK};
use crate::{Mac, Result};

view! {
    /// A device as the kernel dumps it.
    Link, |row| row.is(Kind::Link)
}

/// An XDP program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xdp {
    /// It runs before the network stack has the frame (`xdpdrv`, `xdpoffload`), not after (`xdpgeneric`).
    pub native: bool,
    /// Its number (bpftool(8)), where there is one program.
    pub program: Option<u32>,
}

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const TYPE: usize = 2;
const INDEX: usize = 4;
const FLAGS: usize = 8;
const CHANGE: usize = 12;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const ARPHRD_ETHER: u16 = 1;

impl Link {
    /// Index and name.
    #[must_use]
    pub fn device(&self) -> Device {
        Device { index: self.index(), name: self.name() }
    }

    /// Index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.row.word(INDEX)
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> String {
        self.row.text(IFLA_IFNAME).unwrap_or_default()
    }

    /// MAC address.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        Mac::from_bytes(self.row.attribute(IFLA_ADDRESS)?)
    }

    /// MTU.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.row.number(IFLA_MTU).unwrap_or_default()
    }

    /// Flags (`IFF_*`).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.row.word(FLAGS)
    }

    /// It is set up (IFF_UP).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags() & IFF_UP != 0
    }

    /// It is the loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.flags() & IFF_LOOPBACK != 0
    }

    /// It carries Ethernet frames.
    #[must_use]
    pub fn is_ethernet(&self) -> bool {
        self.row.half(TYPE) == ARPHRD_ETHER && !self.is_loopback()
    }

    /// It has a carrier.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.row.attribute(IFLA_CARRIER).and_then(<[u8]>::first).is_some_and(|carrier| *carrier != 0)
    }

    /// Index of the bridge, bond or VRF it is a part of.
    #[must_use]
    pub fn master(&self) -> Option<u32> {
        self.row.number(IFLA_MASTER).filter(|index| *index != 0)
    }

    /// Index of the device below it (VLAN, macvlan, tunnel), when that is of this namespace.
    #[must_use]
    pub fn lower(&self) -> Option<u32> {
        let link = self.row.number(IFLA_LINK).or_else(|| self.below_vxlan());
        let lower = link.filter(|index| *index != 0 && *index != self.index())?;
        self.row.attribute(IFLA_LINK_NETNSID).is_none().then_some(lower)
    }

    /// VXLAN alone reports it among its settings (drivers/net/vxlan: no `ndo_get_iflink`).
    fn below_vxlan(&self) -> Option<u32> {
        if self.kind().as_deref() != Some("vxlan") {
            return None;
        }
        let settings = self.nested(IFLA_INFO_DATA)?;
        netlink_format::number(netlink_format::find(settings, IFLA_VXLAN_LINK)?, 0)
    }

    /// Its kind, when it is virtual (`veth`, `bond`, `vlan`...).
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        self.info(IFLA_INFO_KIND)
    }

    /// The kind of its root qdisc.
    #[must_use]
    pub fn qdisc(&self) -> Option<String> {
        self.row.text(IFLA_QDISC)
    }

    /// The XDP program on it.
    #[must_use]
    pub fn xdp(&self) -> Option<Xdp> {
        let nest = self.row.attribute(IFLA_XDP)?;
        let attached =
            netlink_format::find(nest, IFLA_XDP_ATTACHED)?.first().copied().filter(|mode| *mode != 0)?;
        let program =
            netlink_format::find(nest, IFLA_XDP_PROG_ID).and_then(|value| netlink_format::number(value, 0));
        Some(Xdp { native: attached != XDP_ATTACHED_SKB, program })
    }

    /// The row without counters and state: what identifies the device and its settings.
    #[must_use]
    pub fn identity(&self) -> Row {
        let mut row = self.row.clone();
        row.keep_attributes(&[
            IFLA_ADDRESS,
            IFLA_IFNAME,
            IFLA_MTU,
            IFLA_LINK,
            IFLA_QDISC,
            IFLA_MASTER,
            IFLA_TXQLEN,
            IFLA_LINKINFO,
            IFLA_LINK_NETNSID,
            IFLA_XDP,
            IFLA_PROP_LIST,
            IFLA_PERM_ADDRESS,
        ]);
        // Veth's LINKINFO has counters of its own.
        if let Some(info) = row.attributes.iter_mut().find(|found| found.number() == IFLA_LINKINFO) {
            let mut kept = Vec::new();
            for (kind, value) in netlink_format::attributes(&info.value) {
                if [IFLA_INFO_KIND, IFLA_INFO_SLAVE_KIND].contains(&(kind & NLA_TYPE_MASK)) {
                    netlink_format::push_attribute(&mut kept, kind, value);
                }
            }
            info.value = kept;
        }
        row
    }

    fn info(&self, wanted: u16) -> Option<String> {
        self.nested(wanted).map(netlink_format::text)
    }

    fn nested(&self, wanted: u16) -> Option<&[u8]> {
        netlink_format::find(self.row.attribute(IFLA_LINKINFO)?, wanted)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} mtu {}", self.index(), self.name(), self.mtu())?;
        f.write_str(if self.is_up() { " up" } else { " down" })?;
        if let Some(mac) = self.row.attribute(IFLA_ADDRESS) {
            write!(f, " {}", display::mac(mac))?;
        }
        if let Some(kind) = self.kind() {
            write!(f, " ({kind})")?;
        }
        Ok(())
    }
}

/// The device of that name; `None` when there is none.
pub fn named(socket: &Socket, name: &str) -> Result<Option<Link>> {
    let rows = socket.dump(Kind::Link, Family::V4)?;
    Ok(rows.iter().filter_map(Link::of).find(|link| link.name() == name))
}

/// Sets a device up.
#[must_use]
pub fn set_up(device: u32) -> Request {
    Request::change(flagged(device, IFF_UP))
}

/// Sets a device down.
#[must_use]
pub fn set_down(device: u32) -> Request {
    Request::change(flagged(device, 0))
}

/// Sets the MTU.
#[must_use]
pub fn set_mtu(device: u32, mtu: u32) -> Request {
    let mut row = plain(device);
    row.set(IFLA_MTU, mtu.to_ne_bytes().to_vec());
    Request::change(row)
}

/// Deletes a device.
#[must_use]
pub fn remove(device: u32) -> Request {
    Request::delete(plain(device))
}

fn plain(device: u32) -> Row {
    let mut row = Row::empty(Kind::Link);
    row.set_word(INDEX, device);
    row
}

fn flagged(device: u32, up: u32) -> Row {
    let mut row = plain(device);
    row.set_word(FLAGS, up);
    row.set_word(CHANGE, IFF_UP);
    row
}
