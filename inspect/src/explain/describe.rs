//! A frame in one line.

use std::fmt;
use std::net::IpAddr;

use demux::frame::{Fragment, Frame, Ip, Network, TransportHeader, protocol};

use super::packet::TCP_FLAGS;

/// Prints the headers that the policy matches on.
pub(super) struct Description<'a>(pub &'a Frame);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        match &frame.network {
            Network::Ip(ip) => write_ip(f, ip)?,
            Network::Arp(arp) => match arp.operation {
                1 => write!(f, "arp {} requests {}", arp.sender, arp.target)?,
                2 => write!(f, "arp {} replies to {}", arp.sender, arp.target)?,
                other => write!(f, "arp operation {other} {} > {}", arp.sender, arp.target)?,
            },
            Network::Other => {
                write!(f, "ethertype {:#06x} {} > {}", frame.ethertype, frame.source, frame.destination)?;
            }
        }
        match frame.vlan {
            Some(tci) => write!(f, " vlan {}", tci & 0x0fff),
            None => Ok(()),
        }
    }
}

fn write_ip(f: &mut fmt::Formatter<'_>, ip: &Ip) -> fmt::Result {
    match ip.protocol {
        protocol::TCP => f.write_str("tcp")?,
        protocol::UDP => f.write_str("udp")?,
        protocol::SCTP => f.write_str("sctp")?,
        protocol::ICMP => f.write_str("icmp")?,
        protocol::ICMPV6 => f.write_str("icmp6")?,
        protocol::FRAGMENT => f.write_str("ipv6")?,
        other => write!(f, "ip protocol {other}")?,
    }
    let endpoint = |address: IpAddr, port: u16| match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    };
    match ip.transport {
        TransportHeader::Tcp { source, destination, .. } | TransportHeader::Ports { source, destination } => {
            write!(f, " {} > {}", endpoint(ip.source, source), endpoint(ip.destination, destination))?;
        }
        _ => write!(f, " {} > {}", ip.source, ip.destination)?,
    }
    match ip.transport {
        TransportHeader::Tcp { flags, .. } => {
            let names: Vec<&str> = TCP_FLAGS
                .iter()
                .enumerate()
                .filter(|(bit, _)| flags >> bit & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            write!(f, " {}", if names.is_empty() { "no flags".to_owned() } else { names.join(",") })?;
        }
        TransportHeader::Icmp { kind, code, identifier, target } => {
            write!(f, " type {kind} code {code}")?;
            if matches!(kind, 0 | 8 | 128 | 129) {
                write!(f, " id {identifier}")?;
            }
            if let Some(target) = target {
                write!(f, " target {target}")?;
            }
        }
        _ => {}
    }
    f.write_str(match ip.fragment {
        Fragment::No => "",
        Fragment::First => " (first fragment)",
        Fragment::Later => " (later fragment)",
    })
}

#[cfg(test)]
mod tests {
    use demux::generate::Generator;

    use super::*;

    #[test]
    fn any_frame_is_one_line() {
        let mut generator = Generator::new(9);
        let policy = generator.policy();
        for _ in 0..300 {
            let case = generator.case(&policy);
            let text = Description(&Frame::parse(&case.bytes)).to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
    }
}
