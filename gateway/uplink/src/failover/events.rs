//! Events of the kernel, and waiting for several things at once.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::error::{Error, Result};

/// A socket that becomes readable when devices or addresses change.
pub(super) fn kernel_news() -> Result<OwnedFd> {
    const GROUPS: i32 = libc_groups::LINK | libc_groups::IPV4_ADDRESS | libc_groups::IPV6_ADDRESS;
    let failed = |errno: nix::errno::Errno| Error::from(host::Error::NetlinkSocket { source: errno.into() });
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute);
    let socket = socket.map_err(failed)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS as u32)).map_err(failed)?;
    Ok(socket)
}

/// linux/rtnetlink.h: RTMGRP_*.
mod libc_groups {
    pub const LINK: i32 = 0x1;
    pub const IPV4_ADDRESS: i32 = 0x10;
    pub const IPV6_ADDRESS: i32 = 0x100;
}

pub(super) fn drain(socket: &OwnedFd) {
    let mut buffer = [0; 8192];
    // An overflow (ENOBUFS) is news as well, and once.
    while let Ok(1..) | Err(nix::errno::Errno::ENOBUFS) =
        recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
    {}
}

/// Which of them became readable within the time.
pub(super) fn readable(fds: &[BorrowedFd<'_>], within: Duration) -> Vec<usize> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    if poll(&mut polled, timeout).is_err() {
        return Vec::new();
    }
    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    polled.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(at, _)| at).collect()
}
