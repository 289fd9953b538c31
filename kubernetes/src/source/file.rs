//! One file of manifests: from its text to objects, each document and each object checked by itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Problem;
use super::kind::Kind;
use super::store::Object;
use super::wire::{self, Names};
use crate::object::{ObjectKey, ServiceType};
use crate::validate;

/// How deep lists may hold lists.
const MAX_DEPTH: usize = 4;
/// How much YAML a document may be; above the parser's own default, since a `List` may hold a whole cluster.
const MAX_NODES: usize = 5_000_000;

/// Where in its file an object stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The document, and the item of each list that the object is in; all counted from 1.
    At(u32, Box<[u32]>),
    /// In an earlier version of the file.
    Before,
}

/// What a file gave.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The objects, with the place of each.
    pub objects: Vec<(Place, Object)>,
    /// What was left out.
    pub problems: Vec<Problem>,
    /// A part of it did not parse, so there may have been more objects in it.
    pub broken: bool,
}

/// Reads a file's text. What the file gave before stays in force where the new text is refused: an object that is
/// refused now keeps its version before, and while a document does not parse, no object of the file counts as deleted.
pub(super) fn parse(file: &str, text: &str, before: &[(Place, Object)], names: &mut Names) -> Parsed {
    let mut reader = Reader { file, before: BTreeMap::new(), parsed: Parsed::default(), names };
    reader.before = before.iter().map(|(_, object)| (owned_name(object), object)).collect();
    for (index, (line, document)) in documents(text).into_iter().enumerate() {
        let place = Place::At(u32::try_from(index + 1).unwrap_or(u32::MAX), Box::default());
        match yaml(document, line) {
            Ok(Value::Null) => {}
            Ok(value) => reader.object(&place, value, 0),
            Err(reason) => {
                reader.parsed.broken = true;
                let reason = format!("{reason}; until it parses, no object of this file is taken away");
                reader.refuse(&place, None, &reason);
            }
        }
    }
    reader.keep_while_broken();
    reader.parsed.objects.shrink_to_fit();
    reader.parsed
}

struct Reader<'a> {
    file: &'a str,
    before: BTreeMap<(Kind, ObjectKey), &'a Object>,
    parsed: Parsed,
    names: &'a mut Names,
}

impl Reader<'_> {
    fn object(&mut self, place: &Place, mut value: Value, depth: usize) {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        if let Some(of) = kind.strip_suffix("List") {
            let items = value.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else {
                return self.refuse(place, None, "items: there is no list of objects");
            };
            if depth >= MAX_DEPTH {
                return self.refuse(place, None, "a list in a list in a list");
            }
            for (at, mut item) in items.into_iter().enumerate() {
                // The items of a ServiceList do not state their kind.
                if !of.is_empty() && item.get("kind").is_none() && item.is_object() {
                    item["kind"] = of.into();
                    item["apiVersion"] = version.as_str().into();
                }
                self.object(&place.item(at), item, depth + 1);
            }
            return;
        }
        let known = match kind.as_str() {
            "Service" | "Endpoints" | "Node" => &["v1"][..],
            "EndpointSlice" => &["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"],
            "ServiceCIDR" => &["networking.k8s.io/v1", "networking.k8s.io/v1beta1"],
            "" => return self.refuse(place, None, "kind is missing: this is no Kubernetes object"),
            _ => {
                let reason = format!(
                    "kind {kind:?} is not used here: Service, EndpointSlice, Endpoints, ServiceCIDR and Node are"
                );
                return self.refuse(place, Some(shown(&kind, &value)), &reason);
            }
        };
        if !known.contains(&version.as_str()) {
            let reason = format!("apiVersion {version:?}: a {kind} is {}", known.join(" or "));
            return self.refuse(place, Some(shown(&kind, &value)), &reason);
        }
        if kind != "Node" && kind != "ServiceCIDR" {
            let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
            if let Some(metadata) = metadata.filter(|metadata| !metadata.contains_key("namespace")) {
                metadata.insert("namespace".into(), "default".into());
            }
        }
        self.checked(place, &kind, &value);
    }

    fn checked(&mut self, place: &Place, kind: &str, value: &Value) {
        let read = match kind {
            "Service" => wire::read(Kind::Service, value, self.names).map(|object| vec![object]),
            "EndpointSlice" => wire::read(Kind::Slice, value, self.names).map(|object| vec![object]),
            "ServiceCIDR" => wire::read(Kind::ServiceCidr, value, self.names).map(|object| vec![object]),
            "Node" => wire::read(Kind::Node, value, self.names).map(|object| vec![object]),
            _ => wire::read_endpoints(value, self.names),
        };
        let valid = read.and_then(|objects| {
            for object in &objects {
                match object {
                    Object::Service(service) => validate::service(service)?,
                    Object::Slice(slice) => validate::slice(slice)?,
                    Object::Cidr(..) | Object::Node(..) => {}
                }
            }
            Ok(objects)
        });
        match valid {
            Ok(objects) => {
                for remark in objects.iter().filter_map(remark) {
                    self.refuse(place, Some(shown(kind, value)), remark);
                }
                self.parsed.objects.extend(objects.into_iter().map(|object| (place.clone(), object)));
            }
            Err(reason) => {
                let kept = key(value).is_some_and(|key| self.keep(place, kind, &key));
                let reason =
                    if kept { format!("{reason}; the version before stays in force") } else { reason };
                self.refuse(place, Some(shown(kind, value)), &reason);
            }
        }
    }

    /// Keeps the version before of an object that is refused now, if there is one.
    fn keep(&mut self, place: &Place, kind: &str, key: &ObjectKey) -> bool {
        let is_it = |of: Kind, name: &ObjectKey| match kind {
            "Endpoints" => {
                let subset =
                    name.name.strip_prefix(&*key.name).is_some_and(|rest| rest.starts_with(":subset"));
                of == Kind::Slice && name.namespace == key.namespace && subset
            }
            _ => of.name() == kind && name == key,
        };
        let found: Vec<Object> = self
            .before
            .iter()
            .filter(|((of, name), _)| is_it(*of, name))
            .map(|(_, object)| (*object).clone())
            .collect();
        let any = !found.is_empty();
        self.parsed.objects.extend(found.into_iter().map(|object| (place.clone(), object)));
        any
    }

    fn keep_while_broken(&mut self) {
        if !self.parsed.broken {
            return;
        }
        let new: std::collections::BTreeSet<_> =
            self.parsed.objects.iter().map(|(_, object)| owned_name(object)).collect();
        let old = self.before.iter().filter(|(name, _)| !new.contains(*name));
        self.parsed.objects.extend(old.map(|(_, object)| (Place::Before, (*object).clone())));
    }

    fn refuse(&mut self, place: &Place, object: Option<String>, reason: &str) {
        let place = place.shown(self.file);
        self.parsed.problems.push(Problem { place, object, reason: reason.into() });
    }
}

impl Place {
    /// The place for a person who reads the file.
    pub(super) fn shown(&self, file: &str) -> String {
        match self {
            Place::At(document, items) => {
                let items = items.iter().map(|item| format!(", item {item}"));
                format!("{file}, document {document}{}", items.collect::<String>())
            }
            Place::Before => format!("{file}, as it was before"),
        }
    }

    /// The place of a list's item, counted from 0.
    fn item(&self, at: usize) -> Place {
        match self {
            Place::At(document, items) => {
                let item = u32::try_from(at + 1).unwrap_or(u32::MAX);
                Place::At(*document, items.iter().copied().chain([item]).collect())
            }
            Place::Before => Place::Before,
        }
    }
}

/// The documents of a text, each with the number of lines in front of it. A line that begins with three dashes always
/// begins a document, whatever it stands in (YAML 1.2.2, 9.1.2), so a broken one does not swallow the next.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 0, 0);
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let rest = content.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            all.push((begin_line, &text[begin..at]));
            // What follows the dashes on their line belongs to the document.
            (begin, begin_line) = (at + 3, line);
        }
        at += content.len();
    }
    all.push((begin_line, &text[begin..]));
    // Comments, directives and end marks are no document of their own.
    all.retain(|(_, document)| {
        let mut lines = document.lines().map(str::trim_start);
        lines.any(|line| !line.is_empty() && !line.starts_with(['#', '%']) && line.trim_end() != "...")
    });
    all
}

fn yaml(document: &str, lines_before: usize) -> Result<Value, String> {
    let budget = serde_saphyr::budget! {
        max_nodes: MAX_NODES,
        max_events: 2 * MAX_NODES,
        max_total_scalar_bytes: 64 << 20,
    };
    let options = serde_saphyr::options! { budget: budget };
    serde_saphyr::from_str_with_options(document, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let text = error.without_snippet().to_string();
        // The parser counts from the beginning of the document, the message from the beginning of the file.
        let text =
            text.lines().next().unwrap_or_default().split(" at line ").next().unwrap_or_default().to_owned();
        format!("line {}: {text}", lines_before as u64 + line)
    })
}

/// What is incomplete about an object that is used all the same: something that a cluster would have filled in.
fn remark(object: &Object) -> Option<&'static str> {
    match object {
        Object::Service(service) if service.kind == ServiceType::NodePort => {
            let unnamed = service.ports.iter().any(|port| port.node_port.is_none());
            unnamed
                .then_some("a port has no nodePort, and none is allocated here: it is open on no node port")
        }
        Object::Slice(slice) if slice.service.is_none() => {
            Some("without the label kubernetes.io/service-name it belongs to no Service")
        }
        _ => None,
    }
}

/// The key of an object whose other fields may be wrong.
fn key(value: &Value) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?.as_object()?;
    let text = |name: &str| match metadata.get(name) {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    };
    Some(ObjectKey::new(text("namespace")?, text("name")?))
}

fn shown(kind: &str, value: &Value) -> String {
    let text = |name: &str| value["metadata"][name].as_str();
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => format!("{kind} without a name"),
    }
}

fn owned_name(object: &Object) -> (Kind, ObjectKey) {
    let (kind, name) = object.name();
    (kind, name.clone())
}

#[cfg(test)]
mod tests;
