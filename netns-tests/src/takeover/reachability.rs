//! Whether node and administrator reach each other, asked of a site at this moment.

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Site,
    meter::{Direction, ping},
};
use crate::lab::{
    address::Family,
    machine::scaled,
    process::{patience, wait_until},
};

/// The four ways: in and out, in each family.
pub const WAYS: [(Direction, Family); 4] = [
    (Direction::In, Family::V4),
    (Direction::In, Family::V6),
    (Direction::Out, Family::V4),
    (Direction::Out, Family::V6),
];

impl Site {
    /// One echo request each of the four ways ([`WAYS`]), all at once, and a fifth of a second for the answers.
    pub fn reach_once(&self) -> Result<[bool; 4]> {
        let mut answered = [false; 4];
        let sockets = WAYS.map(|(direction, family)| {
            let (here, to) = match direction {
                Direction::In => (self.outside(), self.address()),
                Direction::Out => (self.node(), self.administrator()),
            };
            here.enter(|| ping::request(family, to))?
        });
        let (start, patience) = (Instant::now(), scaled(Duration::from_millis(200)));
        while answered.contains(&false) && start.elapsed() < patience {
            for ((way, socket), (_, family)) in answered.iter_mut().zip(&sockets).zip(WAYS) {
                // No route at this moment is no answer.
                *way |= socket.as_ref().is_ok_and(|socket| ping::answered(socket, family));
            }
            thread::sleep(Duration::from_micros(500));
        }
        Ok(answered)
    }

    /// Waits until all four ways work.
    pub fn wait_until_reachable(&self) -> Result<()> {
        wait_until("node and administrator to reach each other", || {
            let ways = self.reach_once()?;
            if let Some((_, way)) = ways.iter().zip(WAYS).find(|(answered, _)| !**answered) {
                bail!("no answer {way:?}");
            }
            Ok(true)
        })
    }

    /// A new TCP connection to the node in each family, a byte each way.
    pub fn connect_anew(&self) -> Result<()> {
        use std::io::{Read as _, Write as _};
        for family in Family::ALL {
            // Any port: the last one's listener may still be held by a program that another test is starting.
            let any = match family {
                Family::V4 => std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
                Family::V6 => std::net::SocketAddr::from(([0_u16; 8], 0)),
            };
            let listener = self.node().enter(|| TcpListener::bind(any))?.context("listening in the node")?;
            let to = self.address().port(family, listener.local_addr()?.port());
            let mut client = self
                .outside()
                .enter(|| TcpStream::connect_timeout(&to, patience()))?
                .with_context(|| format!("connecting to {to}"))?;
            let (mut server, _) = listener.accept()?;
            let mut byte = [0];
            client.write_all(b"a")?;
            server.read_exact(&mut byte)?;
            server.write_all(b"b")?;
            client.read_exact(&mut byte)?;
        }
        Ok(())
    }
}
