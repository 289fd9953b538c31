//! Nexthop objects, which routes name by a number (`struct nhmsg`, ip-nexthop(8)).

use std::fmt;
use std::net::IpAddr;

use super::view::view;
use super::{DeviceMapping, Kind, Row, display};
use crate::netlink_format::{self, NLA_TYPE_MASK};

view! {
    /// A nexthop object as the kernel dumps it.
    Nexthop, |row| row.is(Kind::Nexthop) && row.number(NHA_ID).is_some()
}

// linux/nexthop.h
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_MASTER: u16 = 10;
const NHA_RES_GROUP: u16 = 12;
/// Attributes of a group that the kernel reports and does not accept: flags of the answer, counters, hardware counters.
const STATE_OF_GROUP: [u16; 3] = [14, 15, 17];
/// Likewise of a resilient group: padding, and the time it has been unbalanced.
const STATE_OF_RES_GROUP: [u16; 2] = [0, 4];
const SCOPE: usize = 1;
const PROTOCOL: usize = 2;
const FLAGS: usize = 4;
const RTNH_F_ONLINK: u32 = 4;

impl Nexthop {
    /// The number by which routes and groups name it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.row.number(NHA_ID).unwrap_or_default()
    }

    /// The program that made it (`RTPROT_*` of linux/rtnetlink.h), as of a route.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.row.byte(PROTOCOL)
    }

    /// Index of the device; none for groups and blackholes.
    #[must_use]
    pub fn device(&self) -> Option<u32> {
        self.row.number(NHA_OIF)
    }

    /// The router.
    #[must_use]
    pub fn via(&self) -> Option<IpAddr> {
        display::address(self.row.attribute(NHA_GATEWAY)?)
    }

    /// The members of a group by number; empty for a single one.
    #[must_use]
    pub fn members(&self) -> Vec<u32> {
        let group = self.row.attribute(NHA_GROUP).unwrap_or_default();
        group.chunks_exact(8).filter_map(|entry| netlink_format::number(entry, 0)).collect()
    }

    /// The row that makes it on the other device. With [`super::Request::replace`] it replaces the one with
    /// its number, and every route and group that names the number follows at once.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let mut row = self.row.clone();
        row.set_byte(SCOPE, 0);
        row.set_word(FLAGS, row.word(FLAGS) & RTNH_F_ONLINK);
        row.drop_attributes(&[NHA_MASTER]);
        row.drop_attributes(&STATE_OF_GROUP);
        if let Some(device) = self.device() {
            row.set(NHA_OIF, mapping.index(device).to_ne_bytes().to_vec());
        }
        for attribute in row.attributes.iter_mut().filter(|found| found.number() == NHA_RES_GROUP) {
            let mut kept = Vec::new();
            for (kind, value) in netlink_format::attributes(&attribute.value) {
                if !STATE_OF_RES_GROUP.contains(&(kind & NLA_TYPE_MASK)) {
                    netlink_format::push_attribute(&mut kept, kind, value);
                }
            }
            attribute.value = kept;
        }
        row
    }

    /// The row that deletes it.
    #[must_use]
    pub fn delete_request(&self) -> Row {
        let mut row = Row::empty(Kind::Nexthop);
        row.set(NHA_ID, self.id().to_ne_bytes().to_vec());
        row
    }

    /// The row without state: equal for two that are the same.
    #[must_use]
    pub fn identity(&self) -> Row {
        self.for_device(&DeviceMapping::unchanged())
    }
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {}", self.id())?;
        let members = self.members();
        if !members.is_empty() {
            let members: Vec<_> = members.iter().map(u32::to_string).collect();
            write!(f, " group {}", members.join("/"))?;
        }
        if self.row.attribute(NHA_BLACKHOLE).is_some() {
            f.write_str(" blackhole")?;
        }
        if let Some(via) = self.via() {
            write!(f, " via {via}")?;
        }
        if let Some(device) = self.device() {
            write!(f, " dev {device}")?;
        }
        if self.row.word(FLAGS) & RTNH_F_ONLINK != 0 {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}
