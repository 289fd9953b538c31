//! Notice of changes to links, addresses and routes.
//!
//! It says only that something changed, not what: the reader observes again, so nothing is lost when the kernel's buffer
//! overflows.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::Result;
use crate::netlink_socket::NetlinkSocket;

/// A socket that becomes readable on changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct KernelEvents {
    socket: NetlinkSocket,
}

// linux/rtnetlink.h
const RTNLGRP_LINK: i32 = 1;
const RTNLGRP_IPV4_IFADDR: i32 = 5;
const RTNLGRP_IPV4_ROUTE: i32 = 7;
const RTNLGRP_IPV6_IFADDR: i32 = 9;
const RTNLGRP_IPV6_ROUTE: i32 = 11;

impl KernelEvents {
    /// Changes of links, addresses and routes from now on.
    pub fn open() -> Result<Self> {
        let events = Self::of_links_and_addresses()?;
        events.join(&[RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE])
    }

    /// Changes of links and addresses from now on.
    pub fn of_links_and_addresses() -> Result<Self> {
        let events = Self { socket: NetlinkSocket::open(libc::NETLINK_ROUTE)? };
        events.join(&[RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR])
    }

    fn join(self, groups: &[i32]) -> Result<Self> {
        groups.iter().try_for_each(|group| self.socket.join(*group))?;
        Ok(self)
    }

    /// Waits for a change, at most so long (`None`: without limit). True when there was one; several at once are one.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.socket.wait_for_event(timeout)
    }

    /// Takes the events that have arrived, 1024 at most. True when there was one; more may then be left.
    pub fn drain(&self) -> Result<bool> {
        self.wait(Some(Duration::ZERO))
    }
}

impl AsFd for KernelEvents {
    /// Readable when there was a change, until [`KernelEvents::wait`] or [`KernelEvents::drain`] has taken all.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for KernelEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    #[test]
    fn changes_are_heard_and_then_it_is_quiet() {
        let work = || {
            let ip = |arguments: &str| {
                assert!(Command::new("ip").args(arguments.split_whitespace()).status().unwrap().success());
            };
            ip("link add d0 type veth peer name d1");
            ip("link set lo up");
            let events = KernelEvents::open().unwrap();
            assert!(!events.wait(Some(Duration::ZERO)).unwrap());
            for change in
                ["addr add 10.1.0.1/24 dev lo", "route add 10.2.0.0/16 dev lo", "link set d0 mtu 1400"]
            {
                ip(change);
                assert!(events.wait(Some(Duration::from_secs(30))).unwrap(), "{change}");
            }
            // More than the buffer holds is a change as well.
            let batch: String = (0..5000)
                .map(|n| format!("route add 10.{}.{}.0/24 dev lo\n", 3 + n / 256, n % 256))
                .collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), batch).unwrap();
            ip(&format!("-batch {}", file.path().display()));
            assert!(events.wait(None).unwrap());
            while events.wait(Some(Duration::from_millis(50))).unwrap() {}
        };
        Namespace::create().unwrap().run(work).unwrap();
    }
}
