//! What changed between two policies: what renderers take, so that one changed service costs one service's rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Policy, ServiceKey, ServiceRules, Split};

/// The difference of two policies. Applied in any order of its steps, it leads from one to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The split, if anything of it changed.
    pub split: Option<Split>,
    /// The services that changed: their new ports, or `None` for those that are gone.
    pub services: BTreeMap<ServiceKey, Option<Arc<ServiceRules>>>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.split.is_none() && self.services.is_empty()
    }

    /// The same change in the smallest steps, the split first.
    pub fn steps(self) -> impl Iterator<Item = Delta> {
        let split = self.split.map(|split| Delta { split: Some(split), ..Delta::default() });
        let services =
            self.services.into_iter().map(|service| Delta { split: None, services: [service].into() });
        split.into_iter().chain(services)
    }
}

impl Policy {
    /// The change that leads from `old` to `new`. Services that share one allocation are equal without a comparison.
    pub fn diff(old: &Policy, new: &Policy) -> Delta {
        let mut services = BTreeMap::new();
        let (mut before, mut after) = (old.services().peekable(), new.services().peekable());
        loop {
            match (before.peek().copied(), after.peek().copied()) {
                (None, None) => break,
                (Some((gone, _)), next) if next.is_none_or(|(key, _)| gone < key) => {
                    services.insert(gone.clone(), None);
                    before.next();
                }
                (Some((key, was)), Some((same, is))) if key == same => {
                    if !Arc::ptr_eq(was, is) && was != is {
                        services.insert(key.clone(), Some(Arc::clone(is)));
                    }
                    before.next();
                    after.next();
                }
                (_, Some((key, is))) => {
                    services.insert(key.clone(), Some(Arc::clone(is)));
                    after.next();
                }
                // Covered above: without a next key, what is left of the old is gone.
                (Some(_), None) => break,
            }
        }
        Delta { split: (old.split != new.split).then(|| new.split.clone()), services }
    }

    /// Applies a change.
    pub fn apply(&mut self, delta: Delta) {
        if let Some(split) = delta.split {
            self.split = split;
        }
        for (key, rules) in delta.services {
            match rules {
                Some(rules) => drop(self.set_service(key, rules)),
                None => drop(self.remove_service(&key)),
            }
        }
    }
}
