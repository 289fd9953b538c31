//! What the bridge does with a frame, over the control socket of ovs-vswitchd. Requests change nothing.

use demux::decide::{Ingress, Owner};
use demux::frame::{Frame, Tuple, protocol};
use ovs::openflow::flow::{Field, Match};
use ovs::openflow::{Connection, Cookies};
use ovs::paths::Paths;
use ovs::unixctl::Client;

use super::args::ExplainArgs;
use super::conntrack::ConntrackZone;
use super::error::ExplainError;
use super::fields;
use super::source::BridgeInfo;
use super::trace::Trace;
use flows::cookie;

/// A bridge that can trace frames.
#[derive(Debug)]
pub(super) struct LiveBridge {
    /// Its ports and zone.
    pub bridge: BridgeInfo,
    vswitchd: Client,
    paths: Paths,
    zone: Option<ConntrackZone>,
    associations: Option<Vec<Tuple>>,
}

/// Who opened a connection, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectionOwner {
    /// The owner; `None` when no owner is recorded.
    pub owner: Option<Owner>,
    /// How it is known.
    pub by: String,
}

impl LiveBridge {
    /// Connects to the ovs-vswitchd of this machine, or of `OVS_RUNDIR`.
    pub(super) async fn open(
        args: &ExplainArgs,
        paths: &Paths,
        bridge: BridgeInfo,
    ) -> Result<LiveBridge, ExplainError> {
        let failed = |error| ExplainError::Vswitchd { what: "trace the frame", error };
        let socket = Client::find("ovs-vswitchd", paths).map_err(failed)?;
        let vswitchd = Client::connect(&socket).await.map_err(failed)?.with_timeout(args.helper.timeout());
        Ok(LiveBridge { bridge, vswitchd, paths: paths.clone(), zone: None, associations: None })
    }

    /// The owner of a frame's connection; `None` when the frame names no connection, as later fragments do.
    pub(super) async fn owner(&mut self, frame: &Frame) -> Result<Option<ConnectionOwner>, ExplainError> {
        let Some(tuple) = frame.tuple() else { return Ok(None) };
        let number = self.bridge.zone;
        let zone = self.zone().await?;
        let by = match zone.knows(&tuple) {
            true => format!("in conntrack zone {number}"),
            false => format!("not in conntrack zone {number}"),
        };
        let read = ConnectionOwner { owner: zone.owner(&tuple), by };
        if read.owner.is_none() && tuple.protocol == protocol::SCTP {
            return self.association(&tuple).await.map(Some);
        }
        Ok(Some(read))
    }

    /// The frame's path through the bridge, provided that `owner` opened its connection.
    pub(super) async fn trace(
        &mut self,
        ingress: Ingress,
        frame: &Frame,
        owner: Option<Owner>,
    ) -> Result<Trace, ExplainError> {
        let flow = fields::flow_of(frame, &self.bridge.in_port(ingress)?, owner);
        let words = [self.bridge.name.as_str(), &flow, "--ct-next", fields::state_of(owner)];
        let text = self.vswitchd.call("ofproto/trace", &words).await;
        let text = text.map_err(|error| ExplainError::Vswitchd { what: "trace the frame", error })?;
        Trace::read(&text)
            .ok_or_else(|| ExplainError::Trace { bridge: self.bridge.name.clone(), what: "it has no table" })
    }

    async fn zone(&mut self) -> Result<&ConntrackZone, ExplainError> {
        let zone = match self.zone.take() {
            Some(zone) => zone,
            None => {
                let zone = format!("zone={}", self.bridge.zone);
                let dump = self.vswitchd.call("dpctl/dump-conntrack", &["-m", &zone]).await;
                let failed = |error| ExplainError::Vswitchd { what: "list the connections", error };
                ConntrackZone::read(&dump.map_err(failed)?)
            }
        };
        Ok(self.zone.insert(zone))
    }

    /// SCTP associations are learned flows where conntrack does not know SCTP ports.
    async fn association(&mut self, tuple: &Tuple) -> Result<ConnectionOwner, ExplainError> {
        let associations = match self.associations.take() {
            Some(associations) => associations,
            None => self.read_associations().await?,
        };
        let is_pods = self.associations.insert(associations).contains(tuple);
        Ok(match is_pods {
            true => ConnectionOwner { owner: Some(Owner::Pods), by: "by a learned flow".to_owned() },
            false => ConnectionOwner { owner: None, by: "no learned flow".to_owned() },
        })
    }

    async fn read_associations(&self) -> Result<Vec<Tuple>, ExplainError> {
        let bridge = &self.bridge.name;
        let failed = |error| ExplainError::Associations { bridge: bridge.clone(), error };
        let address = format!("unix:{}", self.paths.bridge_mgmt(bridge).display());
        let connection = Connection::connect(&address).await.map_err(failed)?;
        let flows = connection.dump(Cookies::exactly(cookie::learned())).await.map_err(failed)?;
        Ok(flows.iter().filter_map(|flow| association_of(&flow.key()?.matches)).collect())
    }
}

/// The tuple of the replies that a learned flow matches.
fn association_of(matches: &Match) -> Option<Tuple> {
    let value = |field| matches.get(field).map(|masked| masked.value);
    let v4 = |field| Some(std::net::Ipv4Addr::from_bits(u32::try_from(value(field)?).ok()?).into());
    let v6 = |field| Some(std::net::Ipv6Addr::from_bits(value(field)?).into());
    let port = |field| u16::try_from(value(field)?).ok();
    Some(Tuple {
        protocol: protocol::SCTP,
        source: v4(Field::Ipv4Src).or_else(|| v6(Field::Ipv6Src))?,
        destination: v4(Field::Ipv4Dst).or_else(|| v6(Field::Ipv6Dst))?,
        source_port: port(Field::SctpSrc)?,
        destination_port: port(Field::SctpDst)?,
    })
}

#[cfg(test)]
mod tests {
    use demux::policy::Family;

    use super::*;

    #[test]
    fn a_learned_flow_names_its_association() {
        let matches = Match::any()
            .with(Field::EthType, 0x0800_u16)
            .with(Field::IpProto, protocol::SCTP)
            .with(Field::Ipv4Src, u32::from_be_bytes([203, 0, 113, 10]))
            .with(Field::Ipv4Dst, u32::from_be_bytes([172, 18, 0, 11]))
            .with(Field::SctpSrc, 80_u16)
            .with(Field::SctpDst, 4000_u16);
        let tuple = association_of(&matches).unwrap();
        assert_eq!((tuple.source_port, tuple.destination_port), (80, 4000));
        assert_eq!(Family::of(tuple.source), Family::V4);
        assert_eq!(association_of(&Match::any()), None);
    }
}
