//! The switch's part: what its database holds of bridge and NIC, and the transactions that change it.

use serde::{Deserialize, Serialize};

/// What the switch's database held before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The bridge was there.
    pub bridge: bool,
    /// The NIC was a port of it.
    pub port: bool,
}
