//! A switchover: the ingress filter (from which device the host accepts frames) and the routes (which device they name)
//! change, from the NIC to the bridge or back.
//!
//! [`Migration`] moves what one device carries to another, in parts that the takeover, its undo and the way back put
//! between their own steps; [`Context::run`] is the whole of it, for a failover. Each part observes right before it
//! writes, so that what another program added meanwhile moves, too, and a part that was done (or was interrupted) can be
//! done again. Nothing is kept between parts but what the caller wants besides.

use std::time::Duration;

use host::ingress_filter::{Accepting, IngressFilter};
use host::rtnl::route::Route;
use host::rtnl::{Device, Kind, Refused, Request, Socket, Verb};

use nix::errno::Errno;

use super::device_config::{DeviceRows, Network};
use super::error::Result;
use super::migration::{self, Transfer};

/// How long the host accepts frames from both devices on the way to the NIC: what the filter dropped at the NIC is still
/// inside the switch then.
const OVERLAP: Duration = Duration::from_millis(3);

/// How the kernel says that it does not see a gateway.
const UNREACHABLE: [Errno; 3] = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EINVAL];

/// Where management goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Onto the bridge. The path through it has been proven before.
    Bridge,
    /// Onto the NIC; works while the switch is dead.
    Nic,
}

/// A part of a switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Addresses, neighbours and connected routes are on the target.
    Prepare,
    /// The host accepts frames from the target.
    IngressFilter,
    /// The routes name the target.
    Routes,
    /// The other device has no addresses any more.
    OldOff,
}

impl Target {
    /// The order of the parts; the takeover and its undo ([`super::steps`]) have the same with their own steps between.
    ///
    /// A new ingress filter holds at once, but the kernel returns only when no processor uses the old one any more, some
    /// ten milliseconds later. On the way to the NIC each of them counts, so the routes come first. On the way to the
    /// bridge both paths carry, and the host must accept the replies before it sends through the bridge.
    pub(crate) fn order(self) -> [Part; 4] {
        match self {
            Self::Bridge => [Part::Prepare, Part::IngressFilter, Part::Routes, Part::OldOff],
            Self::Nic => [Part::Prepare, Part::Routes, Part::IngressFilter, Part::OldOff],
        }
    }
}

impl Part {
    /// Its name in fault points.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::IngressFilter => "ingress-filter",
            Self::Routes => "routes",
            Self::OldOff => "old-off",
        }
    }
}

/// What happens to frames that are still inside the switch on the way to the NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlight {
    /// They are accepted from the bridge for a moment longer.
    Accept,
    /// There are none: the switch is dead, or forwards nothing.
    None,
}

/// One uplink, for a switchover outside of a takeover's steps.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The kernel.
    pub socket: &'a Socket,
    /// The NIC.
    pub nic: Device,
    /// The bridge.
    pub bridge: Device,
    /// The ingress filter; none on the kernel datapath, where the port decides.
    pub filter: Option<&'a IngressFilter>,
    /// Frames inside the switch.
    pub in_flight: InFlight,
}

/// What the kernel refused on the way, in words; everything else is done.
pub(crate) type Refusals = Vec<String>;

impl Context<'_> {
    /// Moves management, in the target's order. `after` is called after each part; its error ends the switchover there.
    pub(crate) fn run(&self, target: Target, mut after: impl FnMut(Part) -> Result<()>) -> Result<Refusals> {
        let (from, to) = match target {
            Target::Bridge => (&self.nic, &self.bridge),
            Target::Nic => (&self.bridge, &self.nic),
        };
        let migration = Migration::new(self.socket, from, to);
        let mut refused = Vec::new();
        for part in target.order() {
            match part {
                Part::Prepare => refused.extend(migration.prepare()?),
                Part::IngressFilter => self.accept(target)?,
                Part::Routes => refused.extend(migration.move_routes()?),
                Part::OldOff => refused.extend(migration.remove_old()?),
            }
            after(part)?;
        }
        Ok(refused)
    }

    fn accept(&self, target: Target) -> Result<()> {
        let Some(filter) = self.filter else { return Ok(()) };
        match (target, self.in_flight) {
            (Target::Bridge, _) => Ok(filter.set(Accepting::Bridge)?),
            (Target::Nic, InFlight::Accept) => accept_from_nic(filter),
            (Target::Nic, InFlight::None) => Ok(filter.set(Accepting::Nic)?),
        }
    }
}

/// The host accepts frames from the NIC, and for a moment from both.
pub(crate) fn accept_from_nic(filter: &IngressFilter) -> Result<()> {
    filter.set(Accepting::Both)?;
    std::thread::sleep(OVERLAP);
    Ok(filter.set(Accepting::Nic)?)
}

/// From one device onto another: each part observes what it needs, computes its requests and sends them.
#[derive(Debug)]
pub(crate) struct Migration<'a> {
    socket: &'a Socket,
    transfer: Transfer,
}

impl<'a> Migration<'a> {
    /// Everything that `from` carries goes onto `to`.
    #[must_use]
    pub(crate) fn new(socket: &'a Socket, from: &Device, to: &Device) -> Self {
        Self { socket, transfer: Transfer::new(from, to) }
    }

    /// A transfer.
    pub(crate) fn of(socket: &'a Socket, transfer: Transfer) -> Self {
        Self { socket, transfer }
    }

    /// Addresses, neighbours, connected routes and twins of rules on the target. Interrupts nothing.
    pub(crate) fn prepare(&self) -> Result<Refusals> {
        let mut refused = self.addresses()?;
        refused.extend(self.neighbours()?);
        Ok(refused)
    }

    /// Addresses and the routes to their networks on the target.
    pub(crate) fn addresses(&self) -> Result<Refusals> {
        let observe = || -> Result<Network> {
            let mut network = Network::routing(self.socket)?;
            network.routes.retain(Route::is_connected);
            Ok(network)
        };
        let network = observe()?;
        let target = self.transfer.target(&network);
        let requests = self.transfer.addresses(&network);
        let mut refused = self.send(&requests)?;
        // The kernel has made connected routes with the addresses.
        let network = if requests.is_empty() { network } else { observe()? };
        let on = network.of(&self.transfer.ends.to);
        refused.extend(self.send(&self.transfer.connected(&target, &on))?);
        Ok(refused)
    }

    /// Neighbours and twins of rules on the target.
    pub(crate) fn neighbours(&self) -> Result<Refusals> {
        let refused = self.send(&self.transfer.neighbours(&Network::local(self.socket)?))?;
        // A neighbour that the kernel does not take is resolved when it is needed.
        Ok(refused.into_iter().filter(|line| !line.contains("neighbour")).collect())
    }

    /// The routes onto the target, in one `sendmsg`.
    pub(crate) fn move_routes(&self) -> Result<Refusals> {
        self.move_routes_of().map(|(refused, _)| refused)
    }

    /// The same; also gives what the target has to carry now.
    pub(crate) fn move_routes_of(&self) -> Result<(Refusals, DeviceRows)> {
        let network = Network::routing(self.socket)?;
        let mut refused = self.send(&self.transfer.routes(&network))?;
        refused.extend(self.mend(&self.transfer.wanted)?);
        Ok((refused, migration::moved(&self.transfer.source(&network), &self.transfer.ends)))
    }

    /// Removes the source's addresses, and what was added there meanwhile; then makes on the target what it lacks:
    /// routes may have gone with the address they named.
    pub(crate) fn remove_old(&self) -> Result<Refusals> {
        self.remove_old_of().map(|(refused, _)| refused)
    }

    /// The same; also gives what was still on the source.
    pub(crate) fn remove_old_of(&self) -> Result<(Refusals, DeviceRows)> {
        let network = Network::routing(self.socket)?;
        let (source, ends) = (self.transfer.source(&network), &self.transfer.ends);
        let (late, on) = (migration::moved(&source, ends), network.of(&ends.to));
        let target = migration::union(&on, &migration::union(&late, &self.transfer.wanted));
        let mut requests = migration::addresses(&source, &on, ends);
        requests.extend(self.transfer.routes(&network));
        requests.extend(self.transfer.removal(&network));
        let mut refused = self.send(&requests)?;
        refused.extend(self.mend(&target)?);
        Ok((refused, late))
    }

    /// Removes the twins of rules that were made on the source.
    pub(crate) fn remove_rule_twins(&self) -> Result<Refusals> {
        self.send(&self.transfer.rule_twins(&Network::local(self.socket)?))
    }

    /// Makes what the target lacks of these.
    fn mend(&self, wanted: &DeviceRows) -> Result<Refusals> {
        if *wanted == DeviceRows::none(&self.transfer.ends.to) {
            return Ok(Vec::new());
        }
        self.send(&migration::missing(wanted, &Network::routing(self.socket)?))
    }

    /// Sends all at once. What is refused for the want of a way to its gateway is tried once more with the gateway
    /// taken to be on the link.
    fn send(&self, requests: &[Request]) -> Result<Refusals> {
        let refused = self.sent(requests)?;
        let (mut lines, mut retried) = (Vec::new(), Vec::new());
        for (request, refused) in refused {
            let unreachable = UNREACHABLE.iter().any(|errno| *errno as i32 == refused.errno);
            match migration::onlink(request).filter(|_| unreachable && request.verb != Verb::Delete) {
                Some(changed) => retried.push(changed),
                None => lines.push(request.clone().refused(refused).to_string()),
            }
        }
        let refused = self.sent(&retried)?;
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

#[cfg(test)]
mod tests {
    use super::{Part, Target};
    use crate::options::Datapath;
    use crate::steps::{self, DetachStep, Step};

    #[test]
    fn attach_and_detach_have_the_order_of_a_switchover() {
        let attach = steps::attach(Datapath::Netdev).iter().filter_map(|step| match step {
            Step::Addresses => Some(Part::Prepare),
            Step::IngressFilter => Some(Part::IngressFilter),
            Step::Routes => Some(Part::Routes),
            Step::OldOff => Some(Part::OldOff),
            _ => None,
        });
        assert_eq!(attach.collect::<Vec<_>>(), Target::Bridge.order());
        let detach = steps::to_nic(Datapath::Netdev).iter().filter_map(|step| match step {
            DetachStep::Addresses => Some(Part::Prepare),
            DetachStep::IngressFilter => Some(Part::IngressFilter),
            DetachStep::Routes => Some(Part::Routes),
            DetachStep::OldOff => Some(Part::OldOff),
            _ => None,
        });
        assert_eq!(detach.collect::<Vec<_>>(), Target::Nic.order());
    }
}
