//! Neighbours: the MAC address of an IP address (`struct ndmsg`).

use std::fmt;
use std::net::IpAddr;

use super::view::view;
use super::{DeviceMapping, Kind, Row, display};
use crate::Mac;

view! {
    /// A neighbour entry as the kernel dumps it.
    Neighbour, |row| row.is(Kind::Neighbour)
}

// linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
const NDA_PROBES: u16 = 4;
const NDA_MASTER: u16 = 9;
const INDEX: usize = 4;
const STATE: usize = 8;
pub(super) const FLAGS: usize = 10;
pub(super) const NTF_PROXY: u8 = 0x08;
const NTF_EXT_LEARNED: u8 = 0x10;
const NTF_ROUTER: u8 = 0x80;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

impl Neighbour {
    /// Index of the device.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.row.word(INDEX)
    }

    /// The IP address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        display::address(self.row.attribute(NDA_DST)?)
    }

    /// The MAC address, once known.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        Mac::from_bytes(self.row.attribute(NDA_LLADDR)?)
    }

    /// State (`NUD_*`).
    #[must_use]
    pub fn state(&self) -> u16 {
        self.row.half(STATE)
    }

    /// It was configured, not resolved.
    #[must_use]
    fn is_permanent(&self) -> bool {
        self.state() & NUD_PERMANENT != 0
    }

    /// The host answers for the address (`ip neigh add proxy`).
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.row.byte(FLAGS) & NTF_PROXY != 0
    }

    /// Another device could use it: it has a resolved or configured MAC address, or is a proxy entry. The kernel's own
    /// entries for multicast and failed ones are not.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        let known = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
        self.is_proxy()
            || (self.state() & known != 0
                && self.state() & NUD_NOARP == 0
                && self.row.attribute(NDA_LLADDR).is_some())
    }

    /// The row that makes it on the other device: in the state stale, so the kernel verifies it when it is used; a
    /// configured one stays permanent.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let mut row = self.row.clone();
        row.set_word(INDEX, mapping.index(self.device()));
        row.set_byte(FLAGS, row.byte(FLAGS) & (NTF_PROXY | NTF_EXT_LEARNED | NTF_ROUTER));
        if !self.is_proxy() {
            row.set_half(STATE, if self.is_permanent() { NUD_PERMANENT } else { NUD_STALE });
        }
        row.drop_attributes(&[NDA_CACHEINFO, NDA_PROBES, NDA_MASTER]);
        row
    }

    /// The row that deletes it from its device.
    #[must_use]
    pub fn delete_request(&self) -> Row {
        let mut row = self.row.clone();
        row.keep_attributes(&[NDA_DST]);
        row.set_byte(FLAGS, row.byte(FLAGS) & NTF_PROXY);
        row.set_half(STATE, 0);
        row
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => write!(f, "{address}")?,
            None => f.write_str("a malformed neighbour")?,
        }
        if let Some(mac) = self.row.attribute(NDA_LLADDR) {
            write!(f, " lladdr {}", display::mac(mac))?;
        }
        let states = [
            (NUD_REACHABLE, "REACHABLE"),
            (NUD_STALE, "STALE"),
            (NUD_DELAY, "DELAY"),
            (NUD_PROBE, "PROBE"),
            (NUD_NOARP, "NOARP"),
            (NUD_PERMANENT, "PERMANENT"),
        ];
        if self.is_proxy() {
            f.write_str(" proxy")?;
        }
        for (_, name) in states.iter().filter(|(bit, _)| self.state() & bit != 0) {
            write!(f, " {name}")?;
        }
        Ok(())
    }
}
