//! Which service gets a key that several services claim: the oldest one, and of equally old ones the first by name.
//! The others keep the keys that they alone claim.

use std::collections::{BTreeMap, BTreeSet};

use demux::policy::{ServiceAddress, ServiceKey, Transport};

/// Where a service is reached from outside.
pub type ServiceEndpointKey = (ServiceAddress, Transport, u16);

/// The order of services that claim one key; the smallest one gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// Creation time in seconds since the epoch; a manifest without one counts as the youngest.
    pub created: i64,
    /// The service.
    pub service: ServiceKey,
}

/// Every claim of every service to keys of one kind.
#[derive(Debug)]
pub struct Claims<K> {
    holders: BTreeMap<K, Precedence>,
    // Apart from the holders: contested keys are rare, and a set for each key would take most of the memory.
    losers: BTreeMap<K, BTreeSet<Precedence>>,
}

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self { holders: BTreeMap::new(), losers: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Claims<K> {
    /// The service that has `key`, if any claims it.
    pub fn holder(&self, key: K) -> Option<&ServiceKey> {
        self.holders.get(&key).map(|precedence| &precedence.service)
    }

    /// Every key that is claimed.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.holders.keys().copied()
    }

    /// The services that claim a key that another service has, each once for every such key.
    pub fn losers(&self) -> impl Iterator<Item = &ServiceKey> {
        self.losers.values().flatten().map(|precedence| &precedence.service)
    }

    /// Replaces the claims of one service. Returns the keys whose holder changes, with the holder before.
    pub fn replace(
        &mut self,
        old: Option<(&Precedence, BTreeSet<K>)>,
        new: Option<(&Precedence, BTreeSet<K>)>,
    ) -> BTreeMap<K, Option<ServiceKey>> {
        let mut before = BTreeMap::new();
        for key in old.iter().chain(&new).flat_map(|(_, keys)| keys.iter()) {
            before.entry(*key).or_insert_with(|| self.holder(*key).cloned());
        }
        if let Some((precedence, keys)) = &old {
            keys.iter().for_each(|key| self.release(*key, precedence));
        }
        if let Some((precedence, keys)) = &new {
            keys.iter().for_each(|key| self.claim(*key, precedence));
        }
        before.retain(|key, holder| self.holder(*key) != holder.as_ref());
        before
    }

    fn claim(&mut self, key: K, precedence: &Precedence) {
        let mut loser = precedence.clone();
        match self.holders.get_mut(&key) {
            None => {
                self.holders.insert(key, loser);
                return;
            }
            Some(holder) if *holder == loser => return,
            Some(holder) if *holder > loser => std::mem::swap(holder, &mut loser),
            Some(_) => {}
        }
        self.losers.entry(key).or_default().insert(loser);
    }

    fn release(&mut self, key: K, precedence: &Precedence) {
        if self.holders.get(&key) == Some(precedence) {
            match self.losers.get_mut(&key).and_then(BTreeSet::pop_first) {
                Some(next) => self.holders.insert(key, next),
                None => self.holders.remove(&key),
            };
        } else if let Some(losers) = self.losers.get_mut(&key) {
            losers.remove(precedence);
        }
        if self.losers.get(&key).is_some_and(BTreeSet::is_empty) {
            self.losers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use demux::policy::Family;

    fn precedence(created: i64, name: &str) -> Precedence {
        Precedence { created, service: ServiceKey(name.into()) }
    }

    fn key(port: u16) -> ServiceEndpointKey {
        (ServiceAddress::Node(Family::V4), Transport::Tcp, port)
    }

    #[test]
    fn the_oldest_service_gets_a_key_and_a_younger_one_inherits_it() {
        let mut claims = Claims::default();
        let (young, old) = (precedence(20, "a/young"), precedence(10, "b/old"));
        let both = BTreeSet::from([key(30080)]);
        assert_eq!(claims.replace(None, Some((&young, both.clone()))), BTreeMap::from([(key(30080), None)]));
        assert_eq!(claims.holder(key(30080)), Some(&young.service));
        let lost = BTreeMap::from([(key(30080), Some(young.service.clone()))]);
        assert_eq!(claims.replace(None, Some((&old, both.clone()))), lost);
        assert_eq!(claims.holder(key(30080)), Some(&old.service));
        assert_eq!(claims.losers().collect::<Vec<_>>(), [&young.service]);
        let inherited = BTreeMap::from([(key(30080), Some(old.service.clone()))]);
        assert_eq!(claims.replace(Some((&old, both.clone())), None), inherited);
        assert_eq!(claims.losers().count(), 0);
        assert_eq!(claims.holder(key(30080)), Some(&young.service));
    }

    #[test]
    fn equally_old_services_are_ordered_by_name_and_an_unchanged_claim_changes_no_holder() {
        let mut claims = Claims::default();
        let (a, b) = (precedence(5, "a/x"), precedence(5, "b/x"));
        let keys = BTreeSet::from([key(1), key(2)]);
        claims.replace(None, Some((&b, keys.clone())));
        claims.replace(None, Some((&a, keys.clone())));
        assert_eq!(claims.holder(key(1)), Some(&a.service));
        assert!(claims.replace(Some((&b, keys.clone())), Some((&b, keys.clone()))).is_empty());
        assert!(claims.replace(Some((&a, keys.clone())), Some((&a, keys.clone()))).is_empty());
        assert_eq!(claims.holder(key(2)), Some(&a.service));
    }
}
