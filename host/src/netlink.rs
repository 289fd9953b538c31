//! Links, addresses and routes of the node, by rtnetlink. Every call into the `rtnetlink` crate is in this module.
//!
//! A snapshot is a value ([`Links`], [`Address`], [`Route`]); a change is one route, made or taken away with our own
//! protocol number ([`PROTOCOL`]) only. [`Netlink::watch`] says that something changed, not what: look again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Error, Result};

mod wire;

/// The protocol number on our routes, the mark by which they are ours (`ip route show proto 158`; free in
/// `/etc/iproute2/rt_protos`). What has another number is never changed.
pub const PROTOCOL: u8 = 158;

/// A name for [`PROTOCOL`], for files in `/etc/iproute2/rt_protos.d`.
pub const PROTOCOL_NAME: &str = "ovn-k8s";

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel index: changes when the device is made again.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC, for devices that have one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// MTU.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// Carries.
    pub carrier: bool,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The device's kernel index.
    pub link: u32,
    /// Address and prefix length.
    pub net: IpNet,
    /// It may be used as a source (false while IPv6 duplicate address detection runs or has failed).
    pub usable: bool,
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpNet,
    /// Routing table.
    pub table: u32,
    /// Metric; `None` leaves it to the kernel (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// Kernel index of the outgoing device.
    pub link: Option<u32>,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Who made it (`RTPROT_*`; 158 is ours).
    pub protocol: u8,
}

impl Route {
    /// Is it ours, that is: has it our protocol number?
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// Do both say the same about packets, whoever made them?
    #[must_use]
    pub fn leads_like(&self, other: &Self) -> bool {
        let plain = |route: &Self| Self { protocol: 0, metric: Some(route.kernel_metric()), ..route.clone() };
        plain(self) == plain(other)
    }

    /// The metric as the kernel keeps it.
    #[must_use]
    pub fn kernel_metric(&self) -> u32 {
        match self.destination {
            IpNet::V4(_) => self.metric.unwrap_or(0),
            // The kernel takes IPv6 metric 0 for "none given": IP6_RT_PRIO_USER.
            IpNet::V6(_) => self.metric.filter(|&metric| metric != 0).unwrap_or(1024),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev #{link}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {} proto {}", self.kernel_metric(), self.protocol)?;
        if self.table != TABLE_MAIN { write!(f, " table {}", self.table) } else { Ok(()) }
    }
}

/// The devices at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(pub Vec<Link>);

impl Links {
    /// By name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.0.iter().find(|link| link.name == name)
    }

    /// By kernel index.
    #[must_use]
    pub fn indexed(&self, index: u32) -> Option<&Link> {
        self.0.iter().find(|link| link.index == index)
    }
}

/// A netlink socket, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens it. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| Error::NetlinkSocket { source })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All devices.
    pub async fn links(&self) -> Result<Links> {
        let mut dump = self.handle.link().get().execute();
        let mut links = Vec::new();
        while let Some(message) = dump.try_next().await.map_err(|e| refused("list links", e))? {
            links.push(wire::link(&message));
        }
        Ok(Links(links))
    }

    /// All addresses of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let mut dump = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = dump.try_next().await.map_err(|e| refused("list addresses", e))? {
            addresses.extend(wire::address(&message));
        }
        Ok(addresses)
    }

    /// All unicast routes of both families in all tables but the kernel's own (`local`). Routes with more than one
    /// next hop are listed with the first.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        self.routes_where(|_| true).await
    }

    /// The same, of those only that are asked for: a full routing table is never in memory for the sake of a few.
    pub async fn routes_where(&self, mut wanted: impl FnMut(&Route) -> bool) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        let queries =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for query in queries {
            let mut dump = Box::pin(self.handle.route().get(query).execute());
            while let Some(message) = dump.try_next().await.map_err(|e| refused("list routes", e))? {
                routes.extend(wire::route(&message).filter(&mut wanted));
            }
        }
        Ok(routes)
    }

    /// Makes a route with our protocol number, whatever number the value has. An equal key made by somebody else is
    /// an error ([`Error::is_there`]), not overwritten.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        let route = Route { protocol: PROTOCOL, ..route.clone() };
        let outcome = self.handle.route().add(wire::route_message(&route)).execute().await;
        outcome.map_err(|e| refused(&format!("add route {route}"), e))
    }

    /// Takes a route of ours away. That it is gone already is success. A route of somebody else is never taken away:
    /// the kernel compares the protocol number.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let route = Route { protocol: PROTOCOL, ..route.clone() };
        let outcome = self.handle.route().del(wire::route_message(&route)).execute().await;
        match outcome.map_err(|e| refused(&format!("delete route {route}"), e)) {
            Err(gone) if gone.is_missing() => Ok(()),
            outcome => outcome,
        }
    }

    /// Watches links, addresses and routes. Must be called inside a tokio runtime.
    ///
    /// The number grows with every notice, and once at the start so that the first look is not forgotten; notices
    /// that come while nobody looks are one. When the kernel's buffer overflowed, that is a notice as well. The
    /// channel closes when the socket does.
    pub fn watch() -> Result<watch::Receiver<u64>> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv6Ifaddr, Ipv6Route, Link};
        let groups = [Link, Ipv4Ifaddr, Ipv6Ifaddr, Ipv4Route, Ipv6Route];
        let (connection, handle, mut notices) =
            rtnetlink::new_multicast_connection(&groups).map_err(|source| Error::NetlinkSocket { source })?;
        let (tell, told) = watch::channel(1);
        tokio::spawn(async move {
            // The connection ends when its handle does: both live as long as somebody listens.
            let _handle = handle;
            let connection = tokio::spawn(connection);
            loop {
                tokio::select! {
                    notice = notices.next() => match notice {
                        Some(_) => tell.send_modify(|count| *count += 1),
                        None => break,
                    },
                    () = tell.closed() => break,
                }
            }
            connection.abort();
        });
        Ok(told)
    }
}

fn refused(attempted: &str, error: rtnetlink::Error) -> Error {
    let (message, errno) = match &error {
        rtnetlink::Error::NetlinkError(refusal) => {
            let errno = refusal.raw_code().saturating_abs();
            (std::io::Error::from_raw_os_error(errno).to_string(), errno)
        }
        other => (other.to_string(), 0),
    };
    Error::Netlink { attempted: attempted.to_owned(), message, errno }
}

#[cfg(test)]
mod tests;
