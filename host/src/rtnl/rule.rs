//! Policy rules: which table is looked up (`struct fib_rule_hdr`).

use std::fmt;

use super::view::view;
use super::{DeviceMapping, Kind, Row, display};
use crate::netlink_format;

view! {
    /// A rule as the kernel dumps it.
    Rule, |row| row.is(Kind::Rule)
}

// linux/fib_rules.h
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const DST_LEN: usize = 1;
const SRC_LEN: usize = 2;
const TABLE: usize = 4;
const ACTION: usize = 7;
const FLAGS: usize = 8;
const FIB_RULE_INVERT: u32 = 0x2;
const FR_ACT_TO_TBL: u8 = 1;

impl Rule {
    /// The incoming device (`iif`).
    #[must_use]
    pub fn incoming(&self) -> Option<String> {
        self.row.text(FRA_IIFNAME)
    }

    /// The device that the socket is bound to (`oif`).
    #[must_use]
    pub fn outgoing(&self) -> Option<String> {
        self.row.text(FRA_OIFNAME)
    }

    /// Its priority; the lowest is first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.row.number(FRA_PRIORITY).unwrap_or_default()
    }

    /// It names the device.
    #[must_use]
    pub fn names(&self, device: &str) -> bool {
        self.incoming().as_deref() == Some(device) || self.outgoing().as_deref() == Some(device)
    }

    /// The row of the same rule for the other device.
    #[must_use]
    pub fn for_device(&self, mapping: &DeviceMapping) -> Row {
        let mut row = self.row.clone();
        row.set_word(FLAGS, row.word(FLAGS) & FIB_RULE_INVERT);
        row.drop_attributes(&[FRA_PAD]);
        for kind in [FRA_IIFNAME, FRA_OIFNAME] {
            if let Some(name) = self.row.text(kind) {
                row.set(kind, netlink_format::terminated(&mapping.name(&name)));
            }
        }
        row
    }

    /// The row that deletes it.
    #[must_use]
    pub fn delete_request(&self) -> Row {
        self.identity()
    }

    /// The row without state (a missing device): equal for two rules that are the same.
    #[must_use]
    pub fn identity(&self) -> Row {
        let mut row = self.row.clone();
        row.set_word(FLAGS, row.word(FLAGS) & FIB_RULE_INVERT);
        row.drop_attributes(&[FRA_PAD]);
        row
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority())?;
        if self.row.word(FLAGS) & FIB_RULE_INVERT != 0 {
            f.write_str(" not")?;
        }
        for (name, kind, length) in [("from", FRA_SRC, SRC_LEN), ("to", FRA_DST, DST_LEN)] {
            match self.row.attribute(kind).and_then(display::address) {
                Some(address) => write!(f, " {name} {address}/{}", self.row.byte(length))?,
                None if kind == FRA_SRC => write!(f, " {name} all")?,
                None => {}
            }
        }
        if let Some(mark) = self.row.number(FRA_FWMARK) {
            write!(f, " fwmark {mark:#x}")?;
            if let Some(mask) = self.row.number(FRA_FWMASK).filter(|mask| *mask != u32::MAX) {
                write!(f, "/{mask:#x}")?;
            }
        }
        for (name, device) in [("iif", self.incoming()), ("oif", self.outgoing())] {
            if let Some(device) = device {
                write!(f, " {name} {device}")?;
            }
        }
        if self.row.byte(ACTION) == FR_ACT_TO_TBL {
            let table = self.row.number(FRA_TABLE).unwrap_or_else(|| self.row.byte(TABLE).into());
            write!(f, " lookup {}", display::table(table))
        } else {
            write!(f, " action {}", self.row.byte(ACTION))
        }
    }
}
