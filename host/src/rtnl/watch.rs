//! Word of changes to links, addresses and routes, for a thread that waits.
//!
//! What it says is only "look again": what changed is not told, so that nothing is lost when too much changes at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::Result;
use crate::netlink_socket::Channel;

/// A socket that hears of changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    channel: Channel,
}

// linux/rtnetlink.h
const RTNLGRP_LINK: i32 = 1;
const RTNLGRP_IPV4_IFADDR: i32 = 5;
const RTNLGRP_IPV4_ROUTE: i32 = 7;
const RTNLGRP_IPV6_IFADDR: i32 = 9;
const RTNLGRP_IPV6_ROUTE: i32 = 11;
const GROUPS: [i32; 5] =
    [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE];

impl Watch {
    /// Opens one: what changes from now on is heard.
    pub fn open() -> Result<Self> {
        let channel = Channel::open(libc::NETLINK_ROUTE)?;
        GROUPS.into_iter().try_for_each(|group| channel.join(group))?;
        Ok(Self { channel })
    }

    /// Waits for a change, at most so long (`None`: for ever). True when there was one; several at once are one.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.channel.heard(timeout)
    }
}

impl AsFd for Watch {
    /// Readable when there was a change; [`Watch::wait`] makes it not be so again.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
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
            let watch = Watch::open().unwrap();
            assert!(!watch.wait(Some(Duration::ZERO)).unwrap());
            for change in
                ["addr add 10.1.0.1/24 dev lo", "route add 10.2.0.0/16 dev lo", "link set d0 mtu 1400"]
            {
                ip(change);
                assert!(watch.wait(Some(Duration::from_secs(30))).unwrap(), "{change}");
            }
            // More than the buffer holds is a change as well.
            let batch: String = (0..5000)
                .map(|n| format!("route add 10.{}.{}.0/24 dev lo\n", 3 + n / 256, n % 256))
                .collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), batch).unwrap();
            ip(&format!("-batch {}", file.path().display()));
            assert!(watch.wait(None).unwrap());
            while watch.wait(Some(Duration::from_millis(50))).unwrap() {}
        };
        Namespace::create().unwrap().run(work).unwrap();
    }
}
