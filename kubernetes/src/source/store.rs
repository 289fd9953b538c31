//! The stored objects, and the comparison that finds the Services that changed.
//!
//! Every event is applied to what is there, and only a difference is reported; so a whole list that comes again after
//! a gap reports what changed in the gap, what vanished in it, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::health::HealthLog;
use super::kind::Kind;
use super::{Batch, Health, Problem, ServiceView};
use crate::object::{EndpointSlice, Node, ObjectKey, Service};

/// What a task reports to the store.
#[derive(Debug)]
pub(super) enum Event {
    /// A whole list of a kind begins.
    ListBegins(Kind),
    /// The list is complete: what was not in it does not exist.
    ListEnds(Kind),
    /// An object as it is now.
    Put(Object),
    /// There is no such object any more.
    Gone(Kind, ObjectKey),
    /// An object that cannot be used; the version before stays in force.
    Refused(Kind, ObjectKey, Problem),
    /// All of a folder at once.
    Folder(Box<Contents>),
    /// Changes of this kind arrive.
    Connected(Kind),
    /// Changes of this kind do not arrive.
    Failed(Kind, String),
}

/// An object of any kind.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Service(Arc<Service>),
    Slice(Arc<EndpointSlice>),
    Cidr(ObjectKey, Box<[IpNet]>),
    Node(ObjectKey, Arc<Node>),
}

/// All that a folder of manifests holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub objects: Vec<Object>,
    pub problems: Vec<Problem>,
}

/// The stored objects.
#[derive(Debug)]
pub(super) struct Store {
    services: BTreeMap<ObjectKey, Entry>,
    /// Which Service a slice was for, by the slice's name.
    slice_owner: HashMap<ObjectKey, Option<ObjectKey>>,
    cidrs: BTreeMap<ObjectKey, Box<[IpNet]>>,
    nodes: BTreeMap<ObjectKey, Arc<Node>>,
    /// What was refused, by kind and object; a folder's problems have no key.
    refused: BTreeMap<(Kind, ObjectKey), Problem>,
    folder_problems: Vec<Problem>,
    /// Names not met yet in a list that is under way.
    unseen: HashMap<Kind, HashSet<ObjectKey>>,
    /// Kinds whose whole list has not come yet. Optional ones are awaited only until it is known whether
    /// they are available: rows that follow from them must not go and come again at every start.
    awaited: BTreeSet<Kind>,
    health: HealthLog,
}

/// A Service by name: itself, when it exists, and the slices that name it.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Store {
    pub(super) fn new(origin: String, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            services: BTreeMap::new(),
            slice_owner: HashMap::new(),
            cidrs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            refused: BTreeMap::new(),
            folder_problems: Vec::new(),
            unseen: HashMap::new(),
            awaited: kinds.into_iter().collect(),
            health: HealthLog::new(origin, SystemTime::now()),
        }
    }

    pub(super) fn apply(&mut self, event: Event, batch: &mut Batch) {
        match event {
            Event::ListBegins(kind) => {
                self.unseen.insert(kind, self.names(kind));
            }
            Event::ListEnds(kind) => {
                for name in self.unseen.remove(&kind).unwrap_or_default() {
                    self.gone(kind, &name, batch);
                }
                self.has_come(kind, batch);
            }
            Event::Put(object) => self.put(object, batch),
            Event::Gone(kind, name) => self.gone(kind, &name, batch),
            Event::Refused(kind, name, problem) => {
                self.seen(kind, &name);
                if self.refused.get(&(kind, name.clone())) != Some(&problem) {
                    tracing::warn!("{problem}");
                    batch.problems_changed = true;
                    self.refused.insert((kind, name), problem);
                }
            }
            Event::Folder(contents) => self.replace(*contents, batch),
            Event::Connected(kind) => self.health.connected(kind, batch),
            Event::Failed(kind, error) => {
                if !kind.is_required() {
                    self.has_come(kind, batch);
                }
                self.health.failed(kind, error, batch);
            }
        }
    }

    /// The tasks have ended: nothing will arrive any more.
    pub(super) fn end(&mut self, batch: &mut Batch) {
        self.health.failed(Kind::Service, "the watching tasks have ended; restart the process".into(), batch);
    }

    pub(super) fn synced(&self) -> bool {
        self.awaited.is_empty()
    }

    pub(super) fn view(&self, key: &ObjectKey) -> Option<ServiceView> {
        let entry = self.services.get(key)?;
        Some(ServiceView { service: entry.service.clone()?, slices: entry.slices.clone() })
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().filter_map(|entry| entry.service.as_ref())
    }

    pub(super) fn slices(&self, key: &ObjectKey) -> &[Arc<EndpointSlice>] {
        self.services.get(key).map_or(&[], |entry| &entry.slices)
    }

    pub(super) fn service_cidrs(&self) -> Vec<IpNet> {
        let all: BTreeSet<IpNet> = self.cidrs.values().flatten().copied().collect();
        all.into_iter().collect()
    }

    pub(super) fn node(&self) -> Option<&Arc<Node>> {
        self.nodes.values().next()
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut all: Vec<_> = self.refused.values().chain(&self.folder_problems).cloned().collect();
        all.extend(self.health.optional_problems());
        all.sort();
        all
    }

    pub(super) fn health(&self) -> &Health {
        self.health.get()
    }

    fn has_come(&mut self, kind: Kind, batch: &mut Batch) {
        batch.health_changed |= self.awaited.remove(&kind) && self.synced();
    }

    /// A whole folder, as a list of every kind.
    fn replace(&mut self, contents: Contents, batch: &mut Batch) {
        for kind in Kind::ALL {
            self.apply(Event::ListBegins(kind), batch);
        }
        for object in contents.objects {
            self.put(object, batch);
        }
        for kind in Kind::ALL {
            self.apply(Event::ListEnds(kind), batch);
        }
        let known: BTreeSet<&Problem> = self.folder_problems.iter().collect();
        for new in contents.problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!("manifests: {new}");
        }
        batch.problems_changed |= self.folder_problems != contents.problems;
        self.folder_problems = contents.problems;
    }

    fn put(&mut self, object: Object, batch: &mut Batch) {
        let (kind, name) = object.name();
        self.seen(kind, name);
        if !self.refused.is_empty() {
            batch.problems_changed |= self.refused.remove(&(kind, name.clone())).is_some();
        }
        match object {
            Object::Service(service) => self.put_service(service, batch),
            Object::Slice(slice) => self.put_slice(slice, batch),
            Object::Cidr(name, nets) => {
                if self.cidrs.get(&name) != Some(&nets) {
                    self.cidrs.insert(name, nets);
                    batch.cidrs_changed = true;
                }
            }
            Object::Node(name, node) => {
                if self.nodes.get(&name) != Some(&node) {
                    self.nodes.insert(name, node);
                    batch.node_changed = true;
                }
            }
        }
    }

    fn put_service(&mut self, service: Arc<Service>, batch: &mut Batch) {
        let entry = self.services.entry(service.key.clone()).or_default();
        if entry.service.as_ref() != Some(&service) {
            batch.changed.insert(service.key.clone());
            entry.service = Some(service);
        }
    }

    fn put_slice(&mut self, slice: Arc<EndpointSlice>, batch: &mut Batch) {
        let owner = slice.service.clone();
        let before = self.slice_owner.insert(slice.key.clone(), owner.clone());
        if let Some(Some(before)) = before
            && Some(&before) != owner.as_ref()
        {
            self.take_slice(&before, &slice.key, batch);
        }
        let Some(owner) = owner else { return };
        let entry = self.services.entry(owner.clone()).or_default();
        match entry.slices.binary_search_by(|other| other.key.cmp(&slice.key)) {
            Ok(at) if entry.slices[at] == slice => return,
            Ok(at) => entry.slices[at] = slice,
            Err(at) => {
                entry.slices.reserve_exact(1);
                entry.slices.insert(at, slice);
            }
        }
        batch.changed.insert(owner);
    }

    fn gone(&mut self, kind: Kind, name: &ObjectKey, batch: &mut Batch) {
        batch.problems_changed |= self.refused.remove(&(kind, name.clone())).is_some();
        match kind {
            Kind::Service => {
                if let Some(entry) = self.services.get_mut(name)
                    && entry.service.take().is_some()
                {
                    batch.changed.insert(name.clone());
                    self.forget_if_empty(name);
                }
            }
            Kind::Slice => {
                if let Some(Some(owner)) = self.slice_owner.remove(name) {
                    self.take_slice(&owner, name, batch);
                }
            }
            Kind::ServiceCidr => batch.cidrs_changed |= self.cidrs.remove(name).is_some(),
            Kind::Node => batch.node_changed |= self.nodes.remove(name).is_some(),
        }
    }

    fn take_slice(&mut self, owner: &ObjectKey, slice: &ObjectKey, batch: &mut Batch) {
        if let Some(entry) = self.services.get_mut(owner) {
            entry.slices.retain(|other| other.key != *slice);
            batch.changed.insert(owner.clone());
            self.forget_if_empty(owner);
        }
    }

    fn forget_if_empty(&mut self, name: &ObjectKey) {
        if self.services.get(name).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.services.remove(name);
        }
    }

    fn seen(&mut self, kind: Kind, name: &ObjectKey) {
        if let Some(unseen) = self.unseen.get_mut(&kind) {
            unseen.remove(name);
        }
    }

    fn names(&self, kind: Kind) -> HashSet<ObjectKey> {
        let refused = self.refused.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name);
        match kind {
            Kind::Service => self
                .services
                .iter()
                .filter(|(_, entry)| entry.service.is_some())
                .map(|(name, _)| name)
                .chain(refused)
                .cloned()
                .collect(),
            Kind::Slice => self.slice_owner.keys().chain(refused).cloned().collect(),
            Kind::ServiceCidr => self.cidrs.keys().chain(refused).cloned().collect(),
            Kind::Node => self.nodes.keys().chain(refused).cloned().collect(),
        }
    }
}

impl Object {
    pub(super) fn name(&self) -> (Kind, &ObjectKey) {
        match self {
            Self::Service(service) => (Kind::Service, &service.key),
            Self::Slice(slice) => (Kind::Slice, &slice.key),
            Self::Cidr(name, _) => (Kind::ServiceCidr, name),
            Self::Node(name, _) => (Kind::Node, name),
        }
    }
}
