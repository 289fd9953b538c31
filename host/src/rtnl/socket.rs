//! The rtnetlink socket: lists of rows, and batches of requests.

use super::row::GET;
use super::{Family, Kind, Refused, Request, Row, neighbour};
use crate::netlink_socket::NetlinkSocket;
use crate::{Error, Result};

/// An rtnetlink socket, of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: NetlinkSocket,
}

impl Socket {
    /// Opens one, in the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: NetlinkSocket::open(libc::NETLINK_ROUTE)? })
    }

    /// All objects of a kind. Routes of all tables (the local one too), without the cached ones; neighbours without
    /// the proxy entries ([`Socket::proxies`]). The family does not matter for links, nexthops and qdiscs.
    pub fn dump(&self, kind: Kind, family: Family) -> Result<Vec<Row>> {
        self.dump_where(kind, family, |_| true)
    }

    /// The same, of those only that the closure accepts: a full routing table is never in memory for the sake of a few.
    pub(super) fn dump_where(
        &self,
        kind: Kind,
        family: Family,
        accepts: impl Fn(&Row) -> bool,
    ) -> Result<Vec<Row>> {
        let mut header = vec![0; kind.header()];
        if !matches!(kind, Kind::Link | Kind::Nexthop | Kind::Qdisc) {
            header[0] = family.number();
        }
        let rows = match self.list(kind, &header, |row| row.is_requested(family) && accepts(row)) {
            // Nexthop objects came with Linux 5.3, rules can be left out of a kernel.
            Err(Error::Netlink { errno: libc::EOPNOTSUPP, .. })
                if matches!(kind, Kind::Nexthop | Kind::Rule) =>
            {
                Vec::new()
            }
            // A kernel without IPv6 has no handler for it.
            Err(Error::Netlink { errno: libc::EAFNOSUPPORT, .. }) if family == Family::V6 => Vec::new(),
            outcome => outcome?,
        };
        Ok(rows)
    }

    /// All objects of a kind, of both families.
    pub fn dump_all(&self, kind: Kind) -> Result<Vec<Row>> {
        let mut rows = self.dump(kind, Family::V4)?;
        if !matches!(kind, Kind::Link | Kind::Nexthop | Kind::Qdisc) {
            rows.extend(self.dump(kind, Family::V6)?);
        }
        Ok(rows)
    }

    /// The proxy neighbour entries (`ip neigh show proxy`).
    pub fn proxies(&self, family: Family) -> Result<Vec<Row>> {
        let mut header = vec![0; Kind::Neighbour.header()];
        header[0] = family.number();
        header[neighbour::FLAGS] = neighbour::NTF_PROXY;
        match self.list(Kind::Neighbour, &header, |row| row.family() == Some(family)) {
            Err(Error::Netlink { errno: libc::EAFNOSUPPORT, .. }) if family == Family::V6 => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    fn list(&self, kind: Kind, header: &[u8], accepts: impl Fn(&Row) -> bool) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let what = format!("list the {}", kind.plural());
        self.socket.dump(&what, kind.number() + GET, header, |message| match message {
            None => rows.clear(),
            Some(message) if message.kind == kind.number() => {
                rows.extend(Row::read(kind, message.body).filter(|row| accepts(row)));
            }
            Some(_) => {}
        })?;
        Ok(rows)
    }

    /// Sends all in one `sendmsg`; the outcome of each, in order. An empty batch sends nothing. A batch is never split:
    /// one that does not fit is an error, and nothing of it is done.
    pub fn batch(&self, requests: &[Request]) -> Result<Vec<Option<Refused>>> {
        let first = self.socket.sequences(requests.len());
        let mut bytes = Vec::with_capacity(requests.len() * 96);
        for (request, sequence) in requests.iter().zip(first..) {
            request.push(&mut bytes, sequence);
        }
        let answers = self.socket.exchange("change the network", &bytes, first, requests.len())?;
        Ok(answers.into_iter().map(Refused::of).collect())
    }

    /// Sends one.
    pub fn apply(&self, request: &Request) -> Result<()> {
        match self.batch(std::slice::from_ref(request))?.into_iter().flatten().next() {
            None => Ok(()),
            Some(refused) => Err(request.refused(refused)),
        }
    }
}
