//! Who may have an (address, protocol, port) when several services ask for it: the oldest service, and among equals
//! the one whose name comes first. The others keep what is theirs alone.

use std::collections::{BTreeMap, BTreeSet};

use demux::policy::{ServiceAddress, ServiceKey, Transport};

/// One place at which a service can be reached.
pub type Place = (ServiceAddress, Transport, u16);

/// A service's rank: seconds since the epoch at which it was created, then its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Creation time in seconds since the epoch; manifests without one count as the youngest.
    pub created: i64,
    /// The service.
    pub service: ServiceKey,
}

/// All places that services ask for, and by whom.
#[derive(Debug, Default)]
pub struct Claims {
    // Hardly ever more than one asks for a place: sorted lists, where a set takes a node for each.
    places: BTreeMap<Place, Vec<Rank>>,
    /// How many claims there are beside the ones that hold.
    losing: usize,
}

impl Claims {
    /// The service that has `place`, if any asks for it.
    pub fn holder(&self, place: &Place) -> Option<&ServiceKey> {
        self.places.get(place)?.first().map(|rank| &rank.service)
    }

    /// Whether any service asks for what another has.
    pub fn are_contested(&self) -> bool {
        self.losing > 0
    }

    /// Replaces what one service asks for. Returns the other services whose holdings change by it.
    pub fn replace(
        &mut self,
        old: Option<(&Rank, &BTreeSet<Place>)>,
        new: Option<(&Rank, &BTreeSet<Place>)>,
    ) -> BTreeSet<ServiceKey> {
        let mut touched: BTreeMap<Place, Option<ServiceKey>> = BTreeMap::new();
        let places = old.iter().chain(new.iter()).flat_map(|(_, places)| places.iter());
        for place in places {
            touched.entry(*place).or_insert_with(|| self.holder(place).cloned());
        }
        if let Some((rank, places)) = old {
            for place in places {
                self.release(place, rank);
            }
        }
        if let Some((rank, places)) = new {
            for place in places {
                self.claim(*place, rank);
            }
        }
        let own = old.or(new).map(|(rank, _)| rank.service.clone());
        let mut affected = BTreeSet::new();
        for (place, before) in touched {
            let after = self.holder(&place).cloned();
            if before != after {
                affected
                    .extend(before.into_iter().chain(after).filter(|service| Some(service) != own.as_ref()));
            }
        }
        affected
    }

    fn claim(&mut self, place: Place, rank: &Rank) {
        let ranks = self.places.entry(place).or_default();
        if let Err(at) = ranks.binary_search(rank) {
            self.losing += usize::from(!ranks.is_empty());
            ranks.reserve_exact(1);
            ranks.insert(at, rank.clone());
        }
    }

    fn release(&mut self, place: &Place, rank: &Rank) {
        if let Some(ranks) = self.places.get_mut(place) {
            let before = ranks.len();
            ranks.retain(|other| other != rank);
            if ranks.is_empty() {
                self.places.remove(place);
            } else {
                self.losing -= before - ranks.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use demux::policy::Family;

    fn rank(created: i64, name: &str) -> Rank {
        Rank { created, service: ServiceKey(name.into()) }
    }

    fn place(port: u16) -> Place {
        (ServiceAddress::Node(Family::V4), Transport::Tcp, port)
    }

    #[test]
    fn the_oldest_service_holds_a_place_and_a_younger_one_inherits_it() {
        let mut claims = Claims::default();
        let (young, old) = (rank(20, "a/young"), rank(10, "b/old"));
        let both = BTreeSet::from([place(30080)]);
        assert!(claims.replace(None, Some((&young, &both))).is_empty());
        assert_eq!(claims.holder(&place(30080)), Some(&young.service));
        assert_eq!(claims.replace(None, Some((&old, &both))), BTreeSet::from([young.service.clone()]));
        assert_eq!(claims.holder(&place(30080)), Some(&old.service));
        assert!(claims.are_contested());
        assert_eq!(claims.replace(Some((&old, &both)), None), BTreeSet::from([young.service.clone()]));
        assert!(!claims.are_contested());
        assert_eq!(claims.holder(&place(30080)), Some(&young.service));
    }

    #[test]
    fn equals_are_decided_by_name_and_an_unchanged_claim_affects_nobody() {
        let mut claims = Claims::default();
        let (a, b) = (rank(5, "a/x"), rank(5, "b/x"));
        let wanted = BTreeSet::from([place(1), place(2)]);
        claims.replace(None, Some((&b, &wanted)));
        claims.replace(None, Some((&a, &wanted)));
        assert_eq!(claims.holder(&place(1)), Some(&a.service));
        assert!(claims.replace(Some((&b, &wanted)), Some((&b, &wanted))).is_empty());
        assert!(claims.replace(Some((&a, &wanted)), Some((&a, &wanted))).is_empty());
        assert_eq!(claims.holder(&place(2)), Some(&a.service));
    }
}
