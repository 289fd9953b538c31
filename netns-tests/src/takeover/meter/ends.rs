//! The two ends of a measured flow: sockets, and what belongs to each.

use std::{
    net::{TcpStream, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::lab::address::Family;

/// The asking end of a flow.
#[derive(Debug)]
pub(super) struct Client {
    pub number: usize,
    pub pace: Duration,
    pub family: Family,
    pub socket: ClientSocket,
}

/// Its socket. All are connected and do not block.
#[derive(Debug)]
pub(super) enum ClientSocket {
    Udp(UdpSocket),
    Ping(OwnedFd),
    Tcp(TcpStream),
}

impl Client {
    /// The same socket for another thread.
    pub fn twin(&self) -> Result<Self> {
        let socket = match &self.socket {
            ClientSocket::Udp(socket) => ClientSocket::Udp(socket.try_clone()?),
            ClientSocket::Ping(socket) => {
                ClientSocket::Ping(socket.try_clone().context("a twin of a socket")?)
            }
            ClientSocket::Tcp(stream) => ClientSocket::Tcp(stream.try_clone()?),
        };
        Ok(Self { number: self.number, pace: self.pace, family: self.family, socket })
    }
}

/// The answering end of a flow; the kernel itself answers pings.
#[derive(Debug)]
pub(super) enum Server {
    /// Echoes datagrams.
    Udp(UdpSocket),
    /// Echoes a connection's bytes; holds those not yet written back.
    Tcp { number: usize, stream: TcpStream, owed: usize, died: Option<String> },
}
