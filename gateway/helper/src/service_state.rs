//! The Services in force: what each of them got, and where they are known from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use demux::policy::{Policy, ServiceKey, Split};
use kubernetes::Source;
use kubernetes::object::ObjectKey;
use services::{Catalogue, Changes, HealthChecks, NodeView, ServiceHostRows};

use crate::cache::PolicyCache;
use crate::pass::ServicesOrigin;

/// All Services.
#[derive(Debug, Default)]
pub(crate) struct ServiceState {
    catalogue: Catalogue,
    origin: ServicesOrigin,
    /// The policy of the state folder, while objects are not known.
    cached: Option<Policy>,
}

impl ServiceState {
    /// Where the Services are known from.
    pub(crate) fn origin(&self) -> ServicesOrigin {
        self.origin
    }

    /// Plans all Services again, for this node.
    pub(crate) fn rebuild(&mut self, node: NodeView, objects: &Source) {
        self.catalogue = Catalogue::new(node);
        for service in objects.services() {
            self.catalogue.update(&service.key, objects.view(&service.key).as_ref());
        }
        self.origin = ServicesOrigin::Objects;
        self.cached = None;
    }

    /// Plans the Services with these keys again. The cost is that of the grants that change.
    pub(crate) fn update(&mut self, changed: &BTreeSet<ObjectKey>, objects: &Source) -> Changes {
        let mut changes = Changes::default();
        for key in changed {
            changes.extend(self.catalogue.update(key, objects.view(key).as_ref()));
        }
        changes
    }

    /// The policy with this split and the Services that are known: those of the objects, else those of the state
    /// folder, if it has any.
    pub(crate) fn policy(&mut self, split: Split, cache: &PolicyCache) -> Policy {
        let mut policy = Policy::new(split);
        if self.origin == ServicesOrigin::Objects {
            for (key, granted) in self.catalogue.grants() {
                if let Some(rules) = granted.rules {
                    policy.set_service(key.clone(), rules);
                }
            }
            return policy;
        }
        self.cached = self.cached.take().or_else(|| cache.load());
        if let Some(cached) = &self.cached {
            self.origin = ServicesOrigin::Cache;
            for (key, rules) in cached.services() {
                policy.set_service(key.clone(), rules.clone());
            }
        }
        policy
    }

    /// The host's part of all Services.
    pub(crate) fn host_rows(&self) -> BTreeMap<ServiceKey, Arc<ServiceHostRows>> {
        self.catalogue.grants().filter_map(|(key, granted)| Some((key.clone(), granted.host?))).collect()
    }

    /// Every health check to serve.
    pub(crate) fn health_checks(&self) -> HealthChecks {
        self.catalogue.health_checks()
    }

    /// What was refused, each a sentence.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.catalogue.refused().into_iter().map(|(key, reason)| format!("{key}: {reason}")).collect()
    }

    /// How many Services are known.
    pub(crate) fn len(&self) -> usize {
        self.catalogue.len()
    }
}

#[cfg(test)]
mod tests {
    use demux::policy::ServiceRules;

    use super::*;

    #[test]
    fn the_policy_of_the_state_folder_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PolicyCache::new(folder.path(), "breth0");
        let mut state = ServiceState::default();
        assert_eq!(state.policy(Split::default(), &cache), Policy::default());
        assert_eq!(state.origin(), ServicesOrigin::None);
        let mut stored = Policy::default();
        stored.set_service(ServiceKey::new("default/web"), Arc::new(ServiceRules::default()));
        cache.store(&stored, None).unwrap();
        assert_eq!(state.policy(Split::default(), &cache), stored);
        cache.remove().unwrap();
        assert_eq!(state.policy(Split::default(), &cache), stored);
        assert_eq!(state.origin(), ServicesOrigin::Cache);
    }
}
