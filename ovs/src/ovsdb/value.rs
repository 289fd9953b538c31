//! Values as OVSDB knows them, in the JSON notation of RFC 7047, section 5.1.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(test)]
mod tests;

/// A row's name: 128 bits, written in the usual five groups.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

/// One element of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A 64 bit signed number.
    Integer(i64),
    /// A floating point number.
    Real(Real),
    /// True or false.
    Boolean(bool),
    /// Text.
    String(Arc<str>),
    /// A reference to a row, or a row's own name.
    Uuid(Uuid),
    /// A reference to a row that the same transaction inserts under this name; never in a cache.
    NamedUuid(Arc<str>),
}

/// A floating point number with a total order, so that it can stand in a set.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

/// The content of one column of one row, in one canonical form.
///
/// OVSDB does not distinguish an atom from a set of that one atom; neither does this. Sets and maps are sorted, so that
/// equal content compares equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Datum(Repr);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    One(Atom),
    /// No element, or two and more: sorted, without doubles.
    Set(Box<[Atom]>),
    /// Sorted by key, keys without doubles.
    Map(Box<[(Atom, Atom)]>),
}

impl Datum {
    /// A set without elements: what an unset optional column holds.
    pub fn empty_set() -> Self {
        Self(Repr::Set(Box::default()))
    }

    /// A map without pairs.
    pub fn empty_map() -> Self {
        Self(Repr::Map(Box::default()))
    }

    /// A set of these elements; order and doubles do not matter.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = elements.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        match <[Atom; 1]>::try_from(atoms) {
            Ok([one]) => Self(Repr::One(one)),
            Err(atoms) => Self(Repr::Set(atoms.into_boxed_slice())),
        }
    }

    /// A map of these pairs; of pairs with the same key the last one stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        pairs.reverse();
        pairs.sort_by(|left, right| left.0.cmp(&right.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        Self(Repr::Map(pairs.into_boxed_slice()))
    }

    /// The elements of an atom or a set; none for a map.
    pub fn atoms(&self) -> &[Atom] {
        match &self.0 {
            Repr::One(atom) => std::slice::from_ref(atom),
            Repr::Set(atoms) => atoms,
            Repr::Map(_) => &[],
        }
    }

    /// The pairs of a map; none for an atom or a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match &self.0 {
            Repr::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// Whether this is a map (an empty one too).
    pub fn is_map(&self) -> bool {
        matches!(self.0, Repr::Map(_))
    }

    /// How many elements or pairs there are.
    pub fn len(&self) -> usize {
        self.atoms().len() + self.pairs().len()
    }

    /// Whether there is neither element nor pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one atom of a scalar or of a set of exactly one.
    pub fn as_atom(&self) -> Option<&Atom> {
        match &self.0 {
            Repr::One(atom) => Some(atom),
            _ => None,
        }
    }

    /// The one string this holds.
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom()?.as_str()
    }

    /// The one integer this holds.
    pub fn as_integer(&self) -> Option<i64> {
        self.as_atom()?.as_integer()
    }

    /// The one boolean this holds.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_atom()?.as_bool()
    }

    /// The one row reference this holds.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_atom()?.as_uuid()
    }

    /// The value of a string key in a map of strings.
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let at = pairs.binary_search_by(|(candidate, _)| compare_to_str(candidate, key)).ok()?;
        pairs[at].1.as_str()
    }

    /// The content after a `modify` of update2 or update3 was applied to a column of more than one element:
    /// what is in both goes, what is new comes, and a key with another value takes that value
    /// (ovsdb-server(7), section 4.1.14).
    pub fn apply_difference(&self, difference: &Datum) -> Datum {
        match (&self.0, &difference.0) {
            (Repr::Map(old), Repr::Map(changes)) => Self(Repr::Map(patch_map(old, changes))),
            _ => {
                let (old, changes) = (self.atoms(), difference.atoms());
                let kept = old.iter().filter(|atom| changes.binary_search(atom).is_err());
                let added = changes.iter().filter(|atom| old.binary_search(atom).is_err());
                Datum::set(kept.chain(added).cloned())
            }
        }
    }
}

impl Atom {
    /// A reference to a row that the same transaction inserts under `name`.
    pub fn named(name: &str) -> Self {
        Atom::NamedUuid(name.into())
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Atom::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The row reference, if this is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }
}

/// Applies a map difference; both sides are sorted by key and so is the result.
fn patch_map(old: &[(Atom, Atom)], changes: &[(Atom, Atom)]) -> Box<[(Atom, Atom)]> {
    let mut result = Vec::with_capacity(old.len() + changes.len());
    let (mut old, mut changes) = (old.iter().peekable(), changes.iter().peekable());
    loop {
        let order = match (old.peek(), changes.peek()) {
            (None, None) => return result.into_boxed_slice(),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
        };
        match order {
            std::cmp::Ordering::Less => result.extend(old.next().cloned()),
            std::cmp::Ordering::Greater => result.extend(changes.next().cloned()),
            std::cmp::Ordering::Equal => {
                let (before, change) = (old.next(), changes.next());
                if before != change {
                    result.extend(change.cloned());
                }
            }
        }
    }
}

/// The order of atoms, with a bare string on the right side.
fn compare_to_str(atom: &Atom, text: &str) -> std::cmp::Ordering {
    match atom {
        Atom::String(own) => own.as_ref().cmp(text),
        Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) => std::cmp::Ordering::Less,
        Atom::Uuid(_) | Atom::NamedUuid(_) => std::cmp::Ordering::Greater,
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Self {
        Self(Repr::One(atom.into()))
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Atom::String(text.into())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Atom::String(text.into())
    }
}

impl From<&String> for Atom {
    fn from(text: &String) -> Self {
        Atom::String(text.as_str().into())
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Self {
        Atom::Integer(number)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Atom::Boolean(value)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Atom::Uuid(uuid)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c, d, e) =
            (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff, n >> 48 & 0xffff, n & 0xffff_ffff_ffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a UUID")]
pub struct NotAUuid(String);

impl FromStr for Uuid {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 36
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        let digits: String = text.chars().filter(|letter| *letter != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if shaped => Ok(Uuid(number)),
            _ => Err(NotAUuid(text.to_owned())),
        }
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Uuid;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UUID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Atom::Integer(number) => serializer.serialize_i64(*number),
            Atom::Real(number) => serializer.serialize_f64(number.0),
            Atom::Boolean(value) => serializer.serialize_bool(*value),
            Atom::String(text) => serializer.serialize_str(text),
            Atom::Uuid(uuid) => ("uuid", uuid).serialize(serializer),
            Atom::NamedUuid(name) => ("named-uuid", name.as_ref()).serialize(serializer),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::One(atom) => atom.serialize(serializer),
            Repr::Set(atoms) => ("set", atoms).serialize(serializer),
            Repr::Map(pairs) => ("map", pairs).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Datum::deserialize(deserializer)?.0 {
            Repr::One(atom) => Ok(atom),
            _ => Err(de::Error::custom("a set or map stands where one atom was expected")),
        }
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DatumVisitor)
    }
}

struct DatumVisitor;

impl<'de> Visitor<'de> for DatumVisitor {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Datum, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Datum, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Datum, E> {
        i64::try_from(number).map(Datum::from).map_err(|_| E::custom("an integer of more than 63 bits"))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Datum, E> {
        Ok(Datum(Repr::One(Atom::Real(Real(number)))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Datum, E> {
        Ok(text.into())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Datum, S::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum Tag {
            Uuid,
            NamedUuid,
            Set,
            Map,
        }
        let short = || de::Error::custom("an OVSDB value of a tag without content");
        let datum = match sequence.next_element()?.ok_or_else(short)? {
            Tag::Uuid => sequence.next_element::<Uuid>()?.ok_or_else(short)?.into(),
            Tag::NamedUuid => Atom::NamedUuid(sequence.next_element()?.ok_or_else(short)?).into(),
            Tag::Set => Datum::set(sequence.next_element::<Vec<Atom>>()?.ok_or_else(short)?),
            Tag::Map => Datum::map(sequence.next_element::<Vec<(Atom, Atom)>>()?.ok_or_else(short)?),
        };
        match sequence.next_element::<de::IgnoredAny>()? {
            None => Ok(datum),
            Some(_) => Err(de::Error::custom("an OVSDB value of more than tag and content")),
        }
    }
}
