//! Between our values and the messages of `netlink-packet-route`.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteScope, RouteType,
};

use super::{Address, Link, Route};

const TABLE_LOCAL: u32 = 255;

pub(super) fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer) = (None, None);
    let mut usable =
        !message.header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            // On a point-to-point device this is the other end.
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(flags) => {
                usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
            }
            _ => {}
        }
    }
    let net = IpNet::new(local.or(peer)?, message.header.prefix_len).ok()?;
    Some(Address { link: message.header.index, net, usable })
}

pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut destination = unspecified;
    let mut route = Route {
        destination: IpNet::new(unspecified, 0).ok()?,
        table: message.header.table.into(),
        metric: None,
        link: None,
        via: None,
        source: None,
        protocol: message.header.protocol.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip(to)?,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Gateway(via) => route.via = ip(via),
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::MultiPath(hops) => first_hop(hops, &mut route),
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    (route.table != TABLE_LOCAL).then_some(route)
}

pub(super) fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (route.destination, route.via) {
        // The kernel wants link scope for an IPv4 route without a next hop; IPv6 has universe only.
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    // Tables above 255 do not fit the header: RT_TABLE_COMPAT is left at unspec, and the attribute says it.
    message.header.table = u8::try_from(route.table).unwrap_or(0);
    message.attributes.push(RouteAttribute::Destination(route_address(route.destination.network())));
    message.attributes.push(RouteAttribute::Table(route.table));
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    message.attributes.extend(route.link.map(RouteAttribute::Oif));
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(route_address(via))));
    message.attributes.extend(route.source.map(|ip| RouteAttribute::PrefSource(route_address(ip))));
    message
}

fn first_hop(hops: &[RouteNextHop], route: &mut Route) {
    let Some(hop) = hops.first() else { return };
    route.link = Some(hop.interface_index);
    for attribute in &hop.attributes {
        if let RouteAttribute::Gateway(via) = attribute {
            route.via = ip(via);
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
