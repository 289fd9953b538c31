//! Devices, and the mapping that puts the rows of one device on another.

use serde::{Deserialize, Serialize};

/// A device: the index that rows name it by, and its name, which labels and rules hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Index (`ifindex`).
    pub index: u32,
    /// Name.
    pub name: String,
}

/// Which device takes the place of which: rows of `from` become rows of `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// The device the rows name.
    pub from: Device,
    /// The device they name afterwards.
    pub to: Device,
}

impl DeviceMapping {
    /// The mapping that changes no row.
    #[must_use]
    pub fn unchanged() -> Self {
        let none = Device { index: 0, name: String::new() };
        Self { from: none.clone(), to: none }
    }

    /// The mapping in the other direction.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone() }
    }

    pub(super) fn index(&self, index: u32) -> u32 {
        if index == self.from.index { self.to.index } else { index }
    }

    pub(super) fn name(&self, name: &str) -> String {
        if name == self.from.name { self.to.name.clone() } else { name.to_owned() }
    }
}
