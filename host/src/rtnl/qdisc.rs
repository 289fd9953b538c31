//! Queueing disciplines (`struct tcmsg`, tc(8)).
//!
//! A row contains the qdisc and its options, but not the classes and filters below it.

use std::fmt;

use super::view::view;
use super::{DeviceMapping, Kind, Row};

view! {
    /// A qdisc as the kernel dumps it.
    Qdisc, |row| row.is(Kind::Qdisc)
}

// linux/rtnetlink.h, linux/pkt_sched.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const INDEX: usize = 4;
const HANDLE: usize = 8;
const PARENT: usize = 12;
const INFO: usize = 16;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;

impl Qdisc {
    /// Index of the device.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.row.word(INDEX)
    }

    /// Its kind (`fq_codel`).
    #[must_use]
    pub fn kind(&self) -> String {
        self.row.text(TCA_KIND).unwrap_or_default()
    }

    /// It is the root, for what the device sends.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.row.word(PARENT) == TC_H_ROOT
    }

    /// It is for what the device receives (`ingress`, `clsact`).
    #[must_use]
    pub fn is_ingress(&self) -> bool {
        self.row.word(PARENT) == TC_H_INGRESS
    }

    /// The kernel created it by itself, as it does again when another one is removed. A row cannot create it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.row.word(HANDLE) == 0
    }

    /// The row that makes it on the other device.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let mut row = self.row.clone();
        row.set_word(INDEX, mapping.index(self.device()));
        row.set_word(INFO, 0);
        row.keep_attributes(&[TCA_KIND, TCA_OPTIONS, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK]);
        row
    }

    /// The row without counters: equal for two that are the same.
    #[must_use]
    pub fn identity(&self) -> Row {
        self.for_device(&DeviceMapping::unchanged())
    }
}

impl fmt::Display for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (handle, parent) = (self.row.word(HANDLE), self.row.word(PARENT));
        write!(f, "{} {:x}:", self.kind(), handle >> 16)?;
        match parent {
            TC_H_ROOT => f.write_str(" root"),
            TC_H_INGRESS => f.write_str(" ingress"),
            _ => write!(f, " parent {:x}:{:x}", parent >> 16, parent & 0xffff),
        }
    }
}
