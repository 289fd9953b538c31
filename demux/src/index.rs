//! Services by the address and port they claim: what makes a look-up constant in the number of services.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::{Claim, ServiceAddress, ServiceKey, ServiceOwner, ServicePort, ServiceRules};
use crate::transport::{Family, Transport};

/// What a service port claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub address: ServiceAddress,
    pub protocol: Transport,
    pub port: u16,
}

/// Every claim of a policy's services.
#[derive(Clone, Default)]
pub(crate) struct Index {
    claims: HashMap<Slot, Holder, BuildHasherDefault<Mix>>,
    /// Those who claim a slot that an earlier key holds.
    losers: BTreeMap<Slot, BTreeMap<ServiceKey, Holder>>,
    /// NodePorts as bits: most frames ask for a port that is none.
    node_ports: [Bits; 6],
    /// External addresses, with the number of ports on them and of those that OVN serves.
    external: HashMap<IpAddr, External, BuildHasherDefault<Mix>>,
}

/// Who holds a slot, and which of its ports it is.
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
    pub fn claim(&self, slot: Slot) -> Option<Claim<'_>> {
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

    pub fn serves_external(&self, address: IpAddr) -> bool {
        self.external.get(&address).is_some_and(|external| external.north_south > 0)
    }

    pub fn add(&mut self, key: &ServiceKey, rules: &Arc<ServiceRules>) {
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

    pub fn remove(&mut self, key: &ServiceKey, rules: &ServiceRules) {
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

    /// Gives a slot to the next in line, or takes the key out of the line.
    fn release(&mut self, slot: Slot, key: &ServiceKey) {
        let line = self.losers.get_mut(&slot);
        if self.claims.get(&slot).is_some_and(|held| held.key == *key) {
            match line.and_then(|line| line.pop_first()) {
                Some((_, heir)) => self.claims.insert(slot, heir),
                None => self.claims.remove(&slot),
            };
        } else if let Some(line) = line {
            line.remove(key);
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

/// A fast fixed hash. Its keys are the policy's own, so strangers cannot choose them to collide.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's bits, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4).
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
