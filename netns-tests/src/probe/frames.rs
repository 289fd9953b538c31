//! Frames put on a device and taken from it, as bytes.

use std::{
    ffi::CString,
    io::ErrorKind,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    net::if_::if_nametoindex,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike},
    },
};

use crate::lab::netns::Namespace;

/// Puts frames on a device, as if its host had sent them.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
}

impl Injector {
    /// Opens a device of a namespace.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        Ok(Self { socket: packet_socket(namespace, device, false)? })
    }

    /// Sends one frame, from its destination MAC address on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("sending a frame").map(drop)
    }
}

/// Collects the frames that pass a device, both ways, from the moment it is made.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts capturing.
    pub fn start(namespace: &Namespace, device: &str) -> Result<Self> {
        let socket = packet_socket(namespace, device, true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
        let (frames, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (list, flag): (Arc<Mutex<Vec<Vec<u8>>>>, _) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            loop {
                // What was queued before the end was asked for is still read.
                let ending = flag.load(Ordering::Relaxed);
                match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(length) => {
                        if let Ok(mut list) = list.lock() {
                            list.push(buffer.get(..length).unwrap_or_default().to_vec());
                        }
                    }
                    Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                        if ending {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        });
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// How many frames so far satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&[u8]) -> bool) -> usize {
        self.frames.lock().map_or(0, |frames| frames.iter().filter(|frame| wanted(frame)).count())
    }

    /// Ends the capture and gives the frames.
    pub fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        // The ring of a veth is emptied within a scheduling round.
        std::thread::sleep(Duration::from_millis(20));
        self.end();
        let mut frames = self.frames.lock().map_err(|_| anyhow!("the capture's thread broke"))?;
        Ok(std::mem::take(&mut *frames))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// A packet socket (packet(7)) bound to a device; a sender's asks for no frames.
fn packet_socket(namespace: &Namespace, device: &str, receives: bool) -> Result<OwnedFd> {
    let name = CString::new(device)?;
    let open = || -> Result<OwnedFd> {
        let index = if_nametoindex(name.as_c_str()).with_context(|| format!("looking for {device}"))?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .context("making a packet socket")?;
        let all = u16::try_from(libc::ETH_P_ALL).unwrap_or_default();
        bind_to(&socket, i32::try_from(index)?, if receives { all } else { 0 })?;
        Ok(socket)
    };
    namespace.enter(open)?.with_context(|| format!("opening {device} of {}", namespace.name()))
}

#[allow(unsafe_code, reason = "nix has no way to build a sockaddr_ll")]
fn bind_to(socket: &OwnedFd, index: i32, protocol: u16) -> Result<()> {
    let family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: `address` is a whole sockaddr_ll that lives through the call, and `length` is its size.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("binding a packet socket") }
}
