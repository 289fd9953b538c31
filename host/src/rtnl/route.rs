//! Routes of all tables (`struct rtmsg`).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

mod hop;

pub use hop::Hop;
use hop::{CONFIGURED, RTNH_F_ONLINK, gateway, hop_entries, hop_entries_for_device};

use super::view::view;
use super::{DeviceMapping, Family, Kind, Row, display};
use crate::netlink_format;

view! {
    /// A route as the kernel dumps it.
    Route, |row| row.is(Kind::Route) && row.family().is_some()
}

/// The key by which the kernel identifies a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Table.
    pub table: u32,
    /// Destination.
    pub destination: IpNet,
    /// Type of service.
    pub tos: u8,
    /// Metric; the lowest wins.
    pub metric: u32,
}

// linux/rtnetlink.h
const RTA_DST: u16 = 1;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_MARK: u16 = 16;
const RTA_MFC_STATS: u16 = 17;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_EXPIRES: u16 = 23;
const RTA_PAD: u16 = 24;
const RTA_UID: u16 = 25;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const DST_LEN: usize = 1;
const TOS: usize = 3;
const TABLE: usize = 4;
const PROTOCOL: usize = 5;
const SCOPE: usize = 6;
const TYPE: usize = 7;
pub(super) const FLAGS: usize = 8;
pub(super) const RTM_F_CLONED: u32 = 0x200;
/// In `struct rta_cacheinfo`: when it expires, in hundredths of a second (USER_HZ) from now.
const CACHEINFO_EXPIRES: usize = 8;
const USER_HZ: i32 = 100;

/// The protocol number of our routes, which marks them as ours (`ip route show proto 158`; free in
/// `/etc/iproute2/rt_protos`). Routes with another number are never changed.
pub const OUR_PROTOCOL: u8 = 158;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_RA: u8 = 9;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
/// The metric of an IPv6 route that is added without one (include/uapi/linux/ipv6_route.h).
const IP6_RT_PRIO_USER: u32 = 1024;
const RTN_BLACKHOLE: u8 = 6;

impl Route {
    /// A unicast route of the main table. Its metric is the kernel's default: none for IPv4, 1024 for IPv6.
    #[must_use]
    pub fn unicast(
        destination: IpNet,
        device: u32,
        via: Option<IpAddr>,
        source: Option<IpAddr>,
        protocol: u8,
    ) -> Self {
        let mut row = Row::empty(Kind::Route);
        row.set_byte(0, Family::of_address(destination.addr()).number());
        row.set_byte(DST_LEN, destination.prefix_len());
        row.set_byte(PROTOCOL, protocol);
        row.set_byte(TYPE, RTN_UNICAST);
        // IPv6 has no other scope.
        let on_link = destination.addr().is_ipv4() && via.is_none();
        row.set_byte(SCOPE, if on_link { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE });
        row.set(RTA_DST, display::bytes(destination.network()));
        if destination.addr().is_ipv6() {
            row.set(RTA_PRIORITY, IP6_RT_PRIO_USER.to_ne_bytes().to_vec());
        }
        row.set(RTA_OIF, device.to_ne_bytes().to_vec());
        if let Some(via) = via {
            row.set(RTA_GATEWAY, display::bytes(via));
        }
        if let Some(source) = source {
            row.set(RTA_PREFSRC, display::bytes(source));
        }
        Self { row }.in_table(RT_TABLE_MAIN)
    }

    /// The same in another table.
    #[must_use]
    pub(super) fn in_table(mut self, table: u32) -> Self {
        // A number above 255 does not fit the header, which has RT_TABLE_UNSPEC then.
        self.row.set_byte(TABLE, u8::try_from(table).unwrap_or_default());
        self.row.set(RTA_TABLE, table.to_ne_bytes().to_vec());
        self
    }

    /// The same with another protocol number.
    #[must_use]
    pub(super) fn with_protocol(&self, protocol: u8) -> Self {
        let mut row = self.row.clone();
        row.set_byte(PROTOCOL, protocol);
        Self { row }
    }

    /// It has our protocol number.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol() == OUR_PROTOCOL
    }

    /// It is a unicast route, and not of the table `local`.
    #[must_use]
    pub(super) fn is_unicast(&self) -> bool {
        self.kind() == RTN_UNICAST && self.table() != RT_TABLE_LOCAL
    }

    /// The route to an address's network that the kernel adds with the address, and that must be added on its own when the
    /// address existed already. `None` for an address without one. To be [appended](super::Request::append): another
    /// device may have a route to the same network, and an existing one is refused
    /// ([`super::Refused::already_exists`]).
    #[must_use]
    pub fn connected(address: &super::address::Address) -> Option<Self> {
        let (local, family) = (address.local()?, address.family());
        let network = IpNet::new(address.peer().unwrap_or(local), address.prefix()).ok()?.trunc();
        let host = family == Family::V4 && network.prefix_len() == 32 && address.peer().is_none();
        if address.is_without_route() || host {
            return None;
        }
        let mut row = Row::empty(Kind::Route);
        row.set_byte(0, family.number());
        row.set_byte(DST_LEN, network.prefix_len());
        row.set_byte(TABLE, RT_TABLE_MAIN as u8);
        row.set_byte(PROTOCOL, RTPROT_KERNEL);
        row.set_byte(TYPE, RTN_UNICAST);
        row.set(RTA_TABLE, RT_TABLE_MAIN.to_ne_bytes().to_vec());
        row.set(RTA_DST, display::bytes(network.addr()));
        if family == Family::V4 {
            row.set_byte(SCOPE, RT_SCOPE_LINK);
            row.set(RTA_PREFSRC, display::bytes(local));
        }
        // addrconf's IP6_RT_PRIO_ADDRCONF; none for IPv4.
        let metric = address.metric().filter(|metric| *metric != 0);
        if let Some(metric) = metric.or((family == Family::V6).then_some(256)) {
            row.set(RTA_PRIORITY, metric.to_ne_bytes().to_vec());
        }
        row.set(RTA_OIF, address.device().to_ne_bytes().to_vec());
        // It ends with the address; for IPv6 by its own expiry.
        if let (Family::V6, Some(seconds)) = (family, address.valid()) {
            row.set(RTA_EXPIRES, seconds.max(1).to_ne_bytes().to_vec());
        }
        Some(Self { row })
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> Family {
        self.row.family().unwrap_or(Family::V4)
    }

    /// Table.
    #[must_use]
    pub fn table(&self) -> u32 {
        self.row.number(RTA_TABLE).unwrap_or_else(|| self.row.byte(TABLE).into())
    }

    /// Destination. `None` when the row is malformed.
    #[must_use]
    pub fn destination(&self) -> Option<IpNet> {
        let address = match self.row.attribute(RTA_DST) {
            Some(bytes) => display::address(bytes)?,
            None => display::any(self.family()),
        };
        IpNet::new(address, self.row.byte(DST_LEN)).ok()
    }

    /// It is a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.destination().is_some_and(|to| to.prefix_len() == 0)
    }

    /// Metric.
    #[must_use]
    pub fn metric(&self) -> u32 {
        self.row.number(RTA_PRIORITY).unwrap_or_default()
    }

    /// The preferred source address.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        display::address(self.row.attribute(RTA_PREFSRC)?)
    }

    /// The protocol number of its creator (`RTPROT_*`).
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.row.byte(PROTOCOL)
    }

    /// Scope (`RT_SCOPE_*`).
    #[must_use]
    pub fn scope(&self) -> u8 {
        self.row.byte(SCOPE)
    }

    /// Type (`RTN_*`).
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.row.byte(TYPE)
    }

    /// The nexthop object it names.
    #[must_use]
    pub fn nexthop(&self) -> Option<u32> {
        self.row.number(RTA_NH_ID).filter(|id| *id != 0)
    }

    /// Seconds until the kernel drops it (IPv6); `None` without limit.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        if let Some(seconds) = self.row.number(RTA_EXPIRES) {
            return Some(seconds);
        }
        let info = self.row.attribute(RTA_CACHEINFO)?;
        let ticks = i32::from_ne_bytes(*info.get(CACHEINFO_EXPIRES..)?.first_chunk()?);
        // Never 0, which means without limit.
        (ticks != 0).then_some((ticks / USER_HZ).max(1) as u32)
    }

    /// The MTU set for it.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        let metrics = self.row.attribute(RTA_METRICS)?;
        netlink_format::number(netlink_format::find(metrics, RTAX_MTU)?, 0)
    }

    /// Its next hops: one, or several (multipath). With a nexthop object they are the object's.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        if let Some(several) = self.row.attribute(RTA_MULTIPATH) {
            return hop_entries(several).map(|entry| entry.hop()).collect();
        }
        let device = self.row.number(RTA_OIF);
        let via = gateway(|kind| self.row.attribute(kind));
        let onlink = self.row.word(FLAGS) & RTNH_F_ONLINK != 0;
        if device.is_none() && via.is_none() {
            return Vec::new();
        }
        vec![Hop { device, via, weight: 1, onlink }]
    }

    /// It uses the device, also by a nexthop object where the kernel reports that.
    #[must_use]
    pub fn names(&self, device: u32) -> bool {
        self.hops().iter().any(|hop| hop.device == Some(device))
    }

    /// The kernel added it for an address of the device.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.protocol() == RTPROT_KERNEL
            && self.kind() == RTN_UNICAST
            && self.hops().iter().all(|hop| hop.via.is_none())
    }

    /// It is in the table that the kernel keeps for addresses (local, broadcast, multicast), which follows the addresses.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.table() == RT_TABLE_LOCAL || (self.kind() != RTN_UNICAST && self.protocol() == RTPROT_KERNEL)
    }

    /// It was learned from router advertisements.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.protocol() == RTPROT_RA
    }

    /// The key by which the kernel identifies it.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        let (table, metric) = (self.table(), self.metric());
        Some(Key { table, destination: self.destination()?, tos: self.row.byte(TOS), metric })
    }

    /// The row that makes it on the other device. A route with a nexthop object names only the object; an expiry is in
    /// seconds.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let mut row = self.row.clone();
        row.set_word(FLAGS, row.word(FLAGS) & CONFIGURED);
        let expires = self.expires();
        row.drop_attributes(&[RTA_IIF, RTA_CACHEINFO, RTA_MARK, RTA_MFC_STATS, RTA_PAD, RTA_UID]);
        if let Some(seconds) = expires {
            row.set(RTA_EXPIRES, seconds.to_ne_bytes().to_vec());
        }
        if self.nexthop().is_some() {
            row.set_word(FLAGS, 0);
            // With a blackhole object it is listed as a blackhole, and is none.
            row.set_byte(TYPE, if self.kind() == RTN_BLACKHOLE { RTN_UNICAST } else { self.kind() });
            row.drop_attributes(&[RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH, RTA_ENCAP_TYPE, RTA_ENCAP]);
            return row;
        }
        if let Some(device) = self.row.number(RTA_OIF) {
            row.set(RTA_OIF, mapping.index(device).to_ne_bytes().to_vec());
        }
        if let Some(several) = self.row.attribute(RTA_MULTIPATH) {
            row.set(RTA_MULTIPATH, hop_entries_for_device(several, mapping, 0));
        }
        row
    }

    /// The row that deletes it.
    #[must_use]
    pub fn delete_request(&self) -> Row {
        let mut row = self.identity();
        row.drop_attributes(&[RTA_METRICS]);
        row
    }

    /// The same with its routers as `onlink`: for routers that are in no connected network any more.
    #[must_use]
    pub fn onlink(&self) -> Self {
        let mut row = self.row.clone();
        match self.row.attribute(RTA_MULTIPATH) {
            Some(several) => row.set(
                RTA_MULTIPATH,
                hop_entries_for_device(several, &DeviceMapping::unchanged(), RTNH_F_ONLINK as u8),
            ),
            None => row.set_word(FLAGS, row.word(FLAGS) | RTNH_F_ONLINK),
        }
        Self { row }
    }

    /// The row without expiry and state: equal for a route that was put on another device and back. It has the device's
    /// index, so compare rows for the same device.
    #[must_use]
    pub fn identity(&self) -> Row {
        let mut row = self.for_device(&DeviceMapping::unchanged());
        row.drop_attributes(&[RTA_EXPIRES]);
        row
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(destination) = self.destination() else { return f.write_str("a malformed route") };
        if self.kind() != RTN_UNICAST {
            write!(f, "{} ", display::kind(self.kind()))?;
        }
        if destination.prefix_len() == 0 {
            f.write_str("default")?;
        } else {
            write!(f, "{destination}")?;
        }
        if let Some(id) = self.nexthop() {
            write!(f, " nhid {id}")?;
        } else {
            let hops = self.hops();
            for hop in &hops {
                if hops.len() > 1 {
                    f.write_str(" nexthop")?;
                }
                write!(f, "{hop}")?;
                if hops.len() > 1 {
                    write!(f, " weight {}", hop.weight)?;
                }
            }
        }
        if self.table() != RT_TABLE_MAIN {
            write!(f, " table {}", display::table(self.table()))?;
        }
        write!(f, " proto {}", display::protocol(self.protocol()))?;
        if let Some(source) = self.source() {
            write!(f, " src {source}")?;
        }
        if self.metric() != 0 {
            write!(f, " metric {}", self.metric())?;
        }
        if let Some(mtu) = self.mtu() {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(expires) = self.expires() {
            write!(f, " expires {expires}sec")?;
        }
        Ok(())
    }
}
