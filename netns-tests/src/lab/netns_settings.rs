//! What programs of the machine set inside a namespace: devices and addresses, nft tables, offloads.

use anyhow::Result;

use super::{netns::Namespace, process::Program};

impl Namespace {
    /// Several `ip` commands in one process, one a line (`ip -batch`).
    pub fn ip(&self, lines: impl Into<String>) -> Result<()> {
        Program::new("ip").args(["-n", self.name(), "-batch", "-"]).input(lines).run()?;
        Ok(())
    }

    /// Loads an nft script.
    pub fn nft(&self, script: impl Into<String>) -> Result<()> {
        Program::new("nft").args(["-f", "-"]).inside(self).input(script).run()?;
        Ok(())
    }

    /// Lets the device finish checksums itself: a packet socket (an OVS port of the userspace datapath) at the other
    /// end of a veth sees a frame as it was sent, a checksum left to the device included.
    pub fn finish_checksums(&self, device: &str) -> Result<()> {
        Program::new("ethtool").args(["-K", device, "tx", "off"]).inside(self).run()?;
        Ok(())
    }
}
