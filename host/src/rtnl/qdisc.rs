//! Queueing disciplines (`struct tcmsg`, tc(8)).
//!
//! A row makes the qdisc with its options again. Classes and filters below it are not rows here
//! ([`Qdisc::is_classful`] says when there may be some).

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
/// Those without classes of their own to configure.
const CLASSLESS: [&str; 18] = [
    "noqueue",
    "noop",
    "pfifo",
    "bfifo",
    "pfifo_fast",
    "pfifo_head_drop",
    "fq",
    "fq_codel",
    "fq_pie",
    "codel",
    "pie",
    "sfq",
    "sfb",
    "cake",
    "red",
    "choke",
    "mq",
    "clsact",
];

impl Qdisc {
    /// Index of the device.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.row.word(INDEX)
    }

    /// What it is (`fq_codel`).
    #[must_use]
    pub fn kind(&self) -> String {
        self.row.text(TCA_KIND).unwrap_or_default()
    }

    /// Does it take what the device sends first?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.row.word(PARENT) == TC_H_ROOT
    }

    /// Is it for what the device receives (`ingress`, `clsact`)?
    #[must_use]
    pub fn is_ingress(&self) -> bool {
        self.row.word(PARENT) == TC_H_INGRESS
    }

    /// Did the kernel put it there by itself? It does so again when another one is removed; such a one cannot be made
    /// by a row.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.row.word(HANDLE) == 0
    }

    /// May it have classes and filters, which a row does not hold?
    #[must_use]
    pub fn is_classful(&self) -> bool {
        !CLASSLESS.contains(&self.kind().as_str())
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

    /// What should be equal for two to be the same: without counters.
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

/// The row that, deleted, takes away a device's root qdisc, so that the kernel puts its default there.
#[must_use]
pub fn root_of(device: u32) -> Row {
    let mut row = Row::empty(Kind::Qdisc);
    row.set_word(INDEX, device);
    row.set_word(PARENT, TC_H_ROOT);
    row
}
