//! Services by the address and port they claim: what makes a look-up constant in the number of services.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::service::{Claim, ServiceAddress, ServiceKey, ServiceOwner, ServicePort, ServiceRules, Slot};
use crate::transport::{Family, Transport};

/// Every claim of a policy's services.
///
/// The hash has no seed, so keys that collide can be computed. That is no way in: frames only look up, and keys are
/// added by Services alone. An author of Services can make a look-up slow, but the same right lets it direct any
/// external address to its pods, and a NodePort is one of 65,535.
#[derive(Clone, Default)]
pub(crate) struct Index {
    claims: FxHashMap<Slot, Holder>,
    /// The services that claim a slot that an earlier key holds.
    losers: BTreeMap<Slot, BTreeMap<ServiceKey, Holder>>,
    /// NodePorts as bits: the port of most frames is none.
    node_ports: [Bits; 6],
    /// External addresses, with the number of ports on them and of those that OVN serves.
    external: FxHashMap<IpAddr, External>,
}

/// The service that holds a slot, and the position of its port.
#[derive(Clone)]
struct Holder {
    key: ServiceKey,
    rules: Arc<ServiceRules>,
    position: usize,
}

#[derive(Clone, Copy, Default)]
struct External {
    ports: usize,
    north_south: usize,
}

impl Index {
    pub(crate) fn claim(&self, slot: Slot) -> Option<Claim<'_>> {
        match slot.address {
            ServiceAddress::Node(family)
                if !self.node_ports[bits_of(family, slot.protocol)].has(slot.port) =>
            {
                return None;
            }
            ServiceAddress::External(address) if !self.external.contains_key(&address) => return None,
            _ => {}
        }
        let holder = self.claims.get(&slot)?;
        Some(Claim { service: &holder.key, port: holder.rules.ports.get(holder.position)? })
    }

    pub(crate) fn serves_external(&self, address: IpAddr) -> bool {
        self.external.get(&address).is_some_and(|external| external.north_south > 0)
    }

    pub(crate) fn add(&mut self, key: &ServiceKey, rules: &Arc<ServiceRules>) {
        for (position, port) in distinct(rules) {
            let slot = port.slot();
            let holder = Holder { key: key.clone(), rules: Arc::clone(rules), position };
            match self.claims.get_mut(&slot) {
                None => {
                    self.claims.insert(slot, holder);
                }
                Some(held) if held.key > *key => {
                    let loser = std::mem::replace(held, holder);
                    self.losers.entry(slot).or_default().insert(loser.key.clone(), loser);
                }
                Some(_) => {
                    self.losers.entry(slot).or_default().insert(key.clone(), holder);
                }
            }
            match slot.address {
                ServiceAddress::Node(family) => {
                    self.node_ports[bits_of(family, slot.protocol)].set(slot.port)
                }
                ServiceAddress::External(address) => {
                    let external = self.external.entry(address).or_default();
                    external.ports += 1;
                    external.north_south += usize::from(port.owner == ServiceOwner::NorthSouth);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &ServiceKey, rules: &ServiceRules) {
        for (_, port) in distinct(rules) {
            let slot = port.slot();
            self.release(slot, key);
            match slot.address {
                ServiceAddress::Node(family) => {
                    if !self.claims.contains_key(&slot) {
                        self.node_ports[bits_of(family, slot.protocol)].clear(slot.port);
                    }
                }
                ServiceAddress::External(address) => {
                    let Some(external) = self.external.get_mut(&address) else { continue };
                    external.ports = external.ports.saturating_sub(1);
                    let served = usize::from(port.owner == ServiceOwner::NorthSouth);
                    external.north_south = external.north_south.saturating_sub(served);
                    if external.ports == 0 {
                        self.external.remove(&address);
                    }
                }
            }
        }
    }

    /// Withdraws a claim; a slot that the key holds passes to the next key.
    fn release(&mut self, slot: Slot, key: &ServiceKey) {
        let losers = self.losers.get_mut(&slot);
        if self.claims.get(&slot).is_some_and(|held| held.key == *key) {
            match losers.and_then(BTreeMap::pop_first) {
                Some((_, next)) => self.claims.insert(slot, next),
                None => self.claims.remove(&slot),
            };
        } else if let Some(losers) = losers {
            losers.remove(key);
        }
        if self.losers.get(&slot).is_some_and(BTreeMap::is_empty) {
            self.losers.remove(&slot);
        }
    }
}

/// A service's ports with their positions; of those that claim one slot, the first.
fn distinct(rules: &ServiceRules) -> impl Iterator<Item = (usize, &ServicePort)> {
    let repeats = |position: usize, port: &ServicePort| {
        rules
            .ports
            .get(..position)
            .is_some_and(|before| before.iter().any(|other| other.slot() == port.slot()))
    };
    // As `ServiceRules::new` leaves them; only a list made otherwise has to be compared pair by pair.
    let sorted = rules.ports.is_sorted_by(|one, next| one.slot() < next.slot());
    rules.ports.iter().enumerate().filter(move |(position, port)| sorted || !repeats(*position, port))
}

const fn bits_of(family: Family, protocol: Transport) -> usize {
    family as usize * 3 + protocol as usize
}

/// One bit for each port; nothing is held until one is set.
#[derive(Clone, Default)]
struct Bits(Option<Box<[u64; 1024]>>);

impl Bits {
    fn has(&self, port: u16) -> bool {
        self.0.as_ref().is_some_and(|words| words[usize::from(port >> 6)] >> (port & 63) & 1 == 1)
    }

    fn set(&mut self, port: u16) {
        self.0.get_or_insert_with(|| Box::new([0; 1024]))[usize::from(port >> 6)] |= 1 << (port & 63);
    }

    fn clear(&mut self, port: u16) {
        if let Some(words) = &mut self.0 {
            words[usize::from(port >> 6)] &= !(1 << (port & 63));
        }
    }
}
