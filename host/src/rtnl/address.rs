//! Addresses of devices (`struct ifaddrmsg`).

use std::fmt;
use std::net::IpAddr;

use super::view::view;
use super::{Device, DeviceMapping, Family, Kind, Row, display};
use crate::netlink_format;

view! {
    /// An address as the kernel dumps it.
    Address, |row| row.is(Kind::Address) && row.family().is_some()
}

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const PREFIX: usize = 1;
const FLAGS: usize = 2;
const SCOPE: usize = 3;
const INDEX: usize = 4;
const IFA_F_SECONDARY: u32 = 0x01; // IFA_F_TEMPORARY for IPv6
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_HOMEADDRESS: u32 = 0x10;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_MANAGETEMPADDR: u32 = 0x100;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFA_F_MCAUTOJOIN: u32 = 0x400;
/// The flags that are configuration. The rest is state, which the kernel determines.
const CONFIGURED: u32 = IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
const FOREVER: u32 = u32::MAX;
/// The longest label: that of a device name.
const LABEL: usize = 15;

impl Address {
    /// An address without flags and without a lifetime.
    #[must_use]
    pub fn new(device: u32, address: IpAddr, prefix: u8) -> Self {
        let mut row = Row::empty(Kind::Address);
        row.set_byte(0, Family::of_address(address).number());
        row.set_byte(PREFIX, prefix);
        row.set_word(INDEX, device);
        row.set(IFA_LOCAL, display::bytes(address));
        row.set(IFA_ADDRESS, display::bytes(address));
        Self { row }
    }

    /// Index of the device.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.row.word(INDEX)
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> Family {
        self.row.family().unwrap_or(Family::V4)
    }

    /// Prefix length.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.row.byte(PREFIX)
    }

    /// The host's own address. IPv6 has an attribute for it only when there is a peer.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        display::address(self.row.attribute(IFA_LOCAL).or_else(|| self.row.attribute(IFA_ADDRESS))?)
    }

    /// The other end of a point-to-point address, when it is another one.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        display::address(self.row.attribute(IFA_ADDRESS)?).filter(|peer| Some(*peer) != self.local())
    }

    /// Label (IPv4): the device's name, or that and a suffix.
    #[must_use]
    pub fn label(&self) -> Option<String> {
        self.row.text(IFA_LABEL)
    }

    /// Flags (`IFA_F_*`).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.row.number(IFA_FLAGS).unwrap_or_else(|| self.row.byte(FLAGS).into())
    }

    /// Seconds for which it is valid; `None` without limit.
    #[must_use]
    pub fn valid(&self) -> Option<u32> {
        self.lifetimes().and_then(|(_, valid)| (valid != FOREVER).then_some(valid))
    }

    /// Seconds for which it is used for new connections; `None` without limit.
    #[must_use]
    pub fn preferred(&self) -> Option<u32> {
        self.lifetimes().and_then(|(preferred, _)| (preferred != FOREVER).then_some(preferred))
    }

    /// It is a secondary IPv4 address: the kernel removes it together with the first one of its network.
    #[must_use]
    pub fn is_secondary(&self) -> bool {
        self.family() == Family::V4 && self.flags() & IFA_F_SECONDARY != 0
    }

    /// It is a temporary IPv6 address (RFC 8981). The kernel generates its own on another device.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.family() == Family::V6 && self.flags() & IFA_F_SECONDARY != 0
    }

    /// Duplicate address detection (RFC 4862) has not finished, or has failed.
    #[must_use]
    pub fn is_tentative(&self) -> bool {
        let flags = self.flags();
        flags & IFA_F_DADFAILED != 0 || flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC) == IFA_F_TENTATIVE
    }

    /// It was added without a route to its network.
    #[must_use]
    pub(super) fn is_without_route(&self) -> bool {
        self.flags() & IFA_F_NOPREFIXROUTE != 0
    }

    /// The metric of the route to its network.
    #[must_use]
    pub fn metric(&self) -> Option<u32> {
        self.row.number(IFA_RT_PRIORITY)
    }

    /// It is link-local (fe80::/10, 169.254.0.0/16).
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        match self.local() {
            Some(IpAddr::V4(address)) => address.is_link_local(),
            Some(IpAddr::V6(address)) => address.is_unicast_link_local(),
            None => false,
        }
    }

    /// The row that makes it on the other device: without state, usable at once (no other host can have an address that
    /// this one has), its label with the other device's name.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let usable = if self.family() == Family::V6 { IFA_F_NODAD } else { 0 };
        self.with_flags(mapping, self.flags() & CONFIGURED | usable)
    }

    /// The same with its duplicate address detection as configured, for a caller that stores the row.
    #[must_use]
    pub fn for_device_as_configured(&self, mapping: &DeviceMapping) -> Row {
        self.with_flags(mapping, self.flags() & (CONFIGURED | IFA_F_NODAD))
    }

    fn with_flags(&self, mapping: &DeviceMapping, flags: u32) -> Row {
        let mut row = self.row.clone();
        row.set_word(INDEX, mapping.index(self.device()));
        row.set_byte(FLAGS, (flags & 0xff) as u8);
        row.set(IFA_FLAGS, flags.to_ne_bytes().to_vec());
        match self.label().and_then(|label| moved_label(&label, &mapping.from, &mapping.to)) {
            Some(label) => row.set(IFA_LABEL, netlink_format::terminated(&label)),
            None => row.drop_attributes(&[IFA_LABEL]),
        }
        row
    }

    /// The row that deletes it from its device.
    #[must_use]
    pub fn delete_request(&self) -> Row {
        let mut row = self.row.clone();
        row.keep_attributes(&[IFA_ADDRESS, IFA_LOCAL, IFA_LABEL]);
        row
    }

    /// The same without a lifetime.
    #[must_use]
    pub fn without_lifetime(&self) -> Self {
        let mut row = self.row.clone();
        row.drop_attributes(&[IFA_CACHEINFO]);
        Self { row }
    }

    /// The key by which the kernel identifies it: address, prefix length, peer.
    #[must_use]
    pub fn key(&self) -> (Option<IpAddr>, u8, Option<IpAddr>) {
        (self.local(), self.prefix(), self.peer())
    }

    /// The row without lifetimes and state: equal for an address that was put on another device and back. It has the
    /// device's index, so compare rows for the same device.
    #[must_use]
    pub fn identity(&self) -> Row {
        let mut row = self.for_device(&DeviceMapping::unchanged());
        if let Some(label) = self.label() {
            row.set(IFA_LABEL, netlink_format::terminated(&label));
        }
        row.drop_attributes(&[IFA_CACHEINFO]);
        row.attributes.sort();
        row
    }

    #[cfg(test)]
    pub(super) fn row_mut(&mut self) -> &mut Row {
        &mut self.row
    }

    fn lifetimes(&self) -> Option<(u32, u32)> {
        let info = self.row.attribute(IFA_CACHEINFO)?;
        Some((netlink_format::number(info, 0)?, netlink_format::number(info, 4)?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(local) = self.local() else { return f.write_str("a malformed address") };
        write!(f, "{local}")?;
        if let Some(peer) = self.peer() {
            write!(f, " peer {peer}")?;
        }
        write!(f, "/{} scope {}", self.prefix(), display::scope(self.row.byte(SCOPE)))?;
        if let Some(label) = self.label() {
            write!(f, " {label}")?;
        }
        let flags = self.flags();
        let names = [
            (self.is_secondary(), "secondary"),
            (self.is_temporary(), "temporary"),
            (flags & IFA_F_TENTATIVE != 0, "tentative"),
            (flags & IFA_F_DADFAILED != 0, "dadfailed"),
            (flags & IFA_F_DEPRECATED != 0, "deprecated"),
            (flags & IFA_F_NODAD != 0, "nodad"),
            (flags & IFA_F_MANAGETEMPADDR != 0, "mngtmpaddr"),
            (flags & IFA_F_NOPREFIXROUTE != 0, "noprefixroute"),
        ];
        for (_, name) in names.iter().filter(|(set, _)| *set) {
            write!(f, " {name}")?;
        }
        if let Some(metric) = self.metric() {
            write!(f, " metric {metric}")?;
        }
        if self.valid().is_some() {
            write!(f, " valid_lft {}", display::seconds(self.valid()))?;
            write!(f, " preferred_lft {}", display::seconds(self.preferred()))?;
        }
        Ok(())
    }
}

/// The label of an address on the other device: `eth0:1` becomes `breth0:1`. `None` when it would be too long, or is no
/// label of that device: the kernel uses the device's name.
fn moved_label(label: &str, from: &Device, to: &Device) -> Option<String> {
    let rest = label.strip_prefix(&from.name).filter(|_| !from.name.is_empty())?;
    let label = format!("{}{rest}", to.name);
    (rest.is_empty() || rest.starts_with(':')).then_some(label).filter(|label| label.len() <= LABEL)
}
