//! The two turns: which device is listened to (the ears), and which one the routes name (the mouth).
//!
//! [`Migration`] carries what one device carries over to another, in parts that the takeover, its undo and the way back put
//! between their own steps; [`to_bridge`] and [`to_nic`] are the whole of it, for a failover. Each part looks at the
//! world right before it writes, so that what somebody else added meanwhile is carried, too, and a part that was done
//! (or died half done) can be done again. Nothing is kept between parts but what the caller wants besides.

use std::time::Duration;

use host::ingress_filter::{Accepting, IngressFilter};
use host::rtnl::route::Route;
use host::rtnl::{Device, DeviceMapping, Kind, Refused, Request, Socket, Verb};

use nix::errno::Errno;

use super::device_config::{DeviceRows, Network};
use super::error::Result;
use super::migration;

/// How long both devices are listened to on the way back: frames that the NIC's guard refused are still inside the
/// switch then.
pub const OVERLAP: Duration = Duration::from_millis(3);

/// How the kernel says that it does not see a gateway.
const UNREACHABLE: [Errno; 3] = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EINVAL];

/// One uplink, for a turn outside of a takeover.
#[derive(Debug)]
pub struct Context<'a> {
    /// The kernel.
    pub socket: &'a Socket,
    /// The NIC.
    pub nic: Device,
    /// The bridge.
    pub bridge: Device,
    /// The guard; none on the kernel datapath, where the port's addition turned the ears.
    pub ears: Option<&'a IngressFilter>,
}

/// What the kernel refused on the way, in words; everything else is done.
pub type Refusals = Vec<String>;

/// Management onto the bridge: ears, then mouth. The way through the bridge has been proved before.
pub fn to_bridge(context: &Context<'_>) -> Result<Refusals> {
    let way = Migration::new(context.socket, &context.nic, &context.bridge);
    let mut refused = way.prepare()?;
    listen(context.ears, Accepting::Bridge)?;
    refused.extend(way.mouth()?);
    refused.extend(way.old_off()?);
    Ok(refused)
}

/// Management onto the NIC; works while the switch is dead.
pub fn to_nic(context: &Context<'_>) -> Result<Refusals> {
    let way = Migration::new(context.socket, &context.bridge, &context.nic);
    let mut refused = way.prepare()?;
    refused.extend(way.mouth()?);
    overlap(context.ears)?;
    refused.extend(way.old_off()?);
    Ok(refused)
}

/// Listens to the NIC, and for a moment to both.
pub fn overlap(ears: Option<&IngressFilter>) -> Result<()> {
    if ears.is_some() {
        listen(ears, Accepting::Both)?;
        std::thread::sleep(OVERLAP);
        listen(ears, Accepting::Nic)?;
    }
    Ok(())
}

fn listen(ears: Option<&IngressFilter>, to: Accepting) -> Result<()> {
    match ears {
        Some(ears) => Ok(ears.set(to)?),
        None => Ok(()),
    }
}

/// From one device onto another.
#[derive(Debug)]
pub struct Migration<'a> {
    socket: &'a Socket,
    way: DeviceMapping,
    /// What the target should carry besides, as its own rows.
    wanted: DeviceRows,
    /// What of the other device's is its own and stays.
    own: DeviceRows,
}

impl<'a> Migration<'a> {
    /// Everything that `from` carries goes onto `to`.
    #[must_use]
    pub fn new(socket: &'a Socket, from: &Device, to: &Device) -> Self {
        let way = DeviceMapping { from: from.clone(), to: to.clone() };
        Self { socket, way, wanted: DeviceRows::none(to), own: DeviceRows::none(from) }
    }

    /// The target should carry this besides.
    #[must_use]
    pub fn wanting(mut self, rows: DeviceRows) -> Self {
        self.wanted = rows;
        self
    }

    /// This is `from`'s own, and stays.
    #[must_use]
    pub fn leaving(mut self, rows: DeviceRows) -> Self {
        self.own = rows;
        self
    }

    /// Addresses, neighbours, connected routes and twins of rules on the target. Interrupts nothing.
    pub fn prepare(&self) -> Result<Refusals> {
        let mut refused = self.addresses()?;
        refused.extend(self.neighbours()?);
        Ok(refused)
    }

    /// Addresses and the routes to their networks on the target.
    pub fn addresses(&self) -> Result<Refusals> {
        let look = || -> Result<Network> {
            let mut network = Network::routing(self.socket)?;
            network.routes.retain(Route::is_connected);
            Ok(network)
        };
        let network = look()?;
        let (target, on) = (self.target(&network), network.of(&self.way.to));
        let requests = migration::addresses(&target, &on, &self.here());
        let mut refused = self.send(&requests)?;
        // What the kernel made with the addresses is there now.
        let on = if requests.is_empty() { on } else { look()?.of(&self.way.to) };
        refused.extend(self.send(&migration::connected(&target, &on, &self.here()))?);
        Ok(refused)
    }

    /// Neighbours and twins of rules on the target.
    pub fn neighbours(&self) -> Result<Refusals> {
        let network = Network::local(self.socket)?;
        let (target, on) = (self.target(&network), network.of(&self.way.to));
        let mut requests = migration::neighbours(&target, &on, &self.here());
        requests.extend(migration::rules(&target, &on, &self.here()));
        // A neighbour that the kernel does not take is asked for when it is needed.
        let refused = self.send(&requests)?;
        Ok(refused.into_iter().filter(|line| !line.contains("neighbour")).collect())
    }

    /// The turn of the mouth, in one `sendmsg`.
    pub fn mouth(&self) -> Result<Refusals> {
        self.turn_mouth().map(|(refused, _)| refused)
    }

    /// The same; also tells what the target has to carry now.
    pub fn turn_mouth(&self) -> Result<(Refusals, DeviceRows)> {
        let network = Network::routing(self.socket)?;
        let source = self.source(&network);
        let mut refused = self.send(&migration::mouth(&source, &network, &self.way))?;
        refused.extend(self.mend(&self.wanted)?);
        Ok((refused, migration::moved(&source, &self.way)))
    }

    /// The other device's addresses away, and what stood there meanwhile; then the target is looked at once more:
    /// routes may have gone with the address they named.
    pub fn old_off(&self) -> Result<Refusals> {
        self.take_old_off().map(|(refused, _)| refused)
    }

    /// The same; also tells what was still on the other device.
    pub fn take_old_off(&self) -> Result<(Refusals, DeviceRows)> {
        let network = Network::routing(self.socket)?;
        let source = self.source(&network);
        let (late, on) = (migration::moved(&source, &self.way), network.of(&self.way.to));
        let target = migration::union(&on, &migration::union(&late, &self.wanted));
        let mut requests = migration::addresses(&source, &on, &self.way);
        requests.extend(migration::mouth(&source, &network, &self.way));
        requests.extend(migration::strip(&source));
        let mut refused = self.send(&requests)?;
        refused.extend(self.mend(&target)?);
        Ok((refused, late))
    }

    /// Rules that were made as twins away from the other device.
    pub fn untwin(&self) -> Result<Refusals> {
        let network = Network::local(self.socket)?;
        let requests = migration::untwin(&self.source(&network), &network.of(&self.way.to), &self.way);
        self.send(&requests)
    }

    /// What the target lacks of these.
    pub fn mend(&self, wanted: &DeviceRows) -> Result<Refusals> {
        if *wanted == DeviceRows::none(&self.way.to) {
            return Ok(Vec::new());
        }
        self.send(&migration::missing(wanted, &Network::routing(self.socket)?))
    }

    /// What the target should carry.
    fn target(&self, network: &Network) -> DeviceRows {
        migration::union(&migration::moved(&self.source(network), &self.way), &self.wanted)
    }

    fn source(&self, network: &Network) -> DeviceRows {
        migration::beyond(&network.of(&self.way.from), &self.own)
    }

    fn here(&self) -> DeviceMapping {
        DeviceMapping { from: self.way.to.clone(), to: self.way.to.clone() }
    }

    /// Sends all at once. What is refused for the want of a way to its gateway is tried once more with the gateway
    /// taken to be on the link.
    fn send(&self, requests: &[Request]) -> Result<Refusals> {
        let refused = self.sent(requests)?;
        let (mut lines, mut again) = (Vec::new(), Vec::new());
        for (request, refused) in refused {
            let unreachable = UNREACHABLE.iter().any(|errno| *errno as i32 == refused.errno);
            match migration::onlink(request).filter(|_| unreachable && request.verb != Verb::Delete) {
                Some(changed) => again.push(changed),
                None => lines.push(request.clone().refused(refused).to_string()),
            }
        }
        let refused = self.sent(&again)?;
        lines.extend(refused.into_iter().map(|(request, refused)| request.refused(refused).to_string()));
        Ok(lines)
    }

    fn sent<'r>(&self, requests: &'r [Request]) -> Result<Vec<(&'r Request, Refused)>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.socket.batch(requests)?;
        let refused = requests.iter().zip(answers).filter_map(|(request, answer)| Some((request, answer?)));
        Ok(refused.filter(|(request, refused)| !is_as_good(request, refused)).collect())
    }
}

/// What was to be made is there, what was to go is gone.
fn is_as_good(request: &Request, refused: &Refused) -> bool {
    match request.verb {
        Verb::Delete => refused.is_missing(),
        Verb::Replace => refused.already_exists() && request.row.kind != Kind::Nexthop,
        _ => refused.already_exists(),
    }
}
