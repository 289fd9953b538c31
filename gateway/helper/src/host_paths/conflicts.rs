//! Settings that exclude each other, and sockets that a port range would cut off.

use std::collections::BTreeSet;
use std::net::IpAddr;

use demux::policy::{PortRange, Transport};
use host::ports::{PortSet, PortSpan};
use host::sockets::{self, Socket, State};

use super::inputs::{HostInputs, PodsPorts};
use super::state::span;

/// The fewest ports the host keeps to pick from, when everything is reserved and its range is widened.
const FEWEST_LOCAL_PORTS: u32 = 4096;

/// OVN's port range cannot be used as given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortRangeConflict {
    /// With the range NodePorts come from.
    #[error(
        "the SNAT port range {snat} overlaps the NodePort range {node_ports}: a reply to a pod could not be distinguished from a request to a Service; choose another (--snat-ports 40000-59999 does not overlap the default)"
    )]
    NodePortRange {
        /// OVN's range.
        snat: PortRange,
        /// The NodePort range.
        node_ports: PortRange,
    },
    /// With a NodePort outside of that range.
    #[error(
        "the SNAT port range {snat} holds NodePort {port}/{protocol} of service {service}: choose another range (--snat-ports), or give the Service another NodePort"
    )]
    NodePort {
        /// OVN's range.
        snat: PortRange,
        /// The Service.
        service: String,
        /// Its protocol.
        protocol: Transport,
        /// Its NodePort.
        port: u16,
    },
    /// With the node itself.
    #[error(
        "the SNAT port range {snat} and the NodePort range leave the host {left} ports to pick from, it needs {FEWEST_LOCAL_PORTS}: choose a smaller range (--snat-ports 40000-59999)"
    )]
    TooFewLeft {
        /// OVN's range.
        snat: PortRange,
        /// What would be left.
        left: u32,
    },
}

/// All conflicts of OVN's port range, those of the settings first, then of Services in order.
#[must_use]
pub(crate) fn conflicts(inputs: &HostInputs) -> Vec<PortRangeConflict> {
    let PodsPorts::Range(snat) = inputs.node.pods else { return Vec::new() };
    let mut found = Vec::new();
    let node_ports = inputs.node.node_port_range;
    if snat.overlaps(node_ports) {
        found.push(PortRangeConflict::NodePortRange { snat, node_ports });
    }
    let taken = PortSet::from_spans([snat, node_ports].into_iter().filter_map(span));
    let left = PortSpan::new(1024, u16::MAX).map_or(0, |all| PortSet::from(all).minus(&taken).len());
    if left < FEWEST_LOCAL_PORTS {
        found.push(PortRangeConflict::TooFewLeft { snat, left });
    }
    for (key, rows) in &inputs.services {
        let inside = rows
            .node_ports
            .iter()
            .filter(|taken| snat.contains(taken.port) && !node_ports.contains(taken.port));
        let unique: BTreeSet<_> = inside.collect();
        found.extend(unique.into_iter().map(|taken| PortRangeConflict::NodePort {
            snat,
            service: key.to_string(),
            protocol: taken.protocol,
            port: taken.port,
        }));
    }
    found
}

/// The host's sockets that would be cut off when this range becomes the pods': on a shared address (or on all of
/// them), and not closed yet. While there is one, the partitioned rule waits.
pub(crate) fn sockets_in_range(shared: &BTreeSet<IpAddr>, range: PortRange) -> host::Result<Vec<Socket>> {
    let Some(range) = span(range) else { return Ok(Vec::new()) };
    let mut found = sockets::on_ports(&range.into())?;
    found.retain(|socket| {
        let address = socket.local.ip().to_canonical();
        socket.state != State::TimeWait && (address.is_unspecified() || shared.contains(&address))
    });
    Ok(found)
}
