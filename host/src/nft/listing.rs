//! The JSON of `nft -j list table` (`libnftables-json(5)`), typed as far as it is used: everything else
//! is skipped while reading, so that a table of many thousand elements is never in memory as a tree.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Chain, Element, Hook, Rule, Set, Table};

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

/// Each item is an object with one of these keys.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Metainfo(IgnoredAny),
    Table(IgnoredAny),
    Set(SetItem),
    Map(SetItem),
    Chain(ChainItem),
    Rule(RuleItem),
    Flowtable(IgnoredAny),
    Counter(IgnoredAny),
    Quota(IgnoredAny),
    Limit(IgnoredAny),
    Secmark(IgnoredAny),
    Synproxy(IgnoredAny),
    #[serde(rename = "ct helper")]
    Helper(IgnoredAny),
    #[serde(rename = "ct timeout")]
    Timeout(IgnoredAny),
    #[serde(rename = "ct expectation")]
    Expectation(IgnoredAny),
}

#[derive(Deserialize)]
struct SetItem {
    name: String,
    #[serde(rename = "type")]
    key: Types,
    /// nft 1.0 prints a concatenation as one string, later ones as a list.
    map: Option<Types>,
    #[serde(default)]
    elem: Vec<ElementItem>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Types {
    One(String),
    Many(Vec<String>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ElementItem {
    Pair(Parts, Parts),
    Single(Parts),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Parts {
    Concat { concat: Vec<Atom> },
    Plain(Atom),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Atom {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct ChainItem {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    hook: Option<String>,
    prio: Option<i64>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct RuleItem {
    chain: String,
    comment: Option<String>,
}

pub(crate) fn parse(json: &[u8]) -> Result<Table, String> {
    let listing: Listing = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let mut table = Table::default();
    for item in listing.nftables {
        match item {
            Item::Metainfo(_) | Item::Table(_) => {}
            Item::Set(set) | Item::Map(set) => {
                table.sets.insert(set.name.clone(), set.into());
            }
            Item::Chain(chain) => {
                let (name, hook) = hook(chain);
                table.chains.entry(name).or_default().hook = hook;
            }
            Item::Rule(rule) => {
                let chain: &mut Chain = table.chains.entry(rule.chain).or_default();
                chain.rules.push(Rule { comment: rule.comment });
            }
            Item::Flowtable(_) => table.others.push("flowtable".to_owned()),
            _ => table.others.push("object".to_owned()),
        }
    }
    Ok(table)
}

fn hook(chain: ChainItem) -> (String, Option<Hook>) {
    let hook = match (chain.kind, chain.hook) {
        (Some(kind), Some(hook)) => Some(Hook {
            kind,
            hook,
            priority: chain.prio.unwrap_or(0),
            policy: chain.policy.unwrap_or_else(|| "accept".to_owned()),
        }),
        _ => None,
    };
    (chain.name, hook)
}

impl From<SetItem> for Set {
    fn from(item: SetItem) -> Self {
        let elements = item.elem.into_iter().map(|element| match element {
            ElementItem::Pair(key, data) => Element { key: key.texts(), data: data.texts() },
            ElementItem::Single(key) => Element { key: key.texts(), data: Vec::new() },
            // With a timeout, a comment, a range...: nothing of ours has one. Kept as an element that equals no other.
            ElementItem::Other(_) => Element::default(),
        });
        Self {
            elements: elements.collect(),
            key: item.key.names(),
            data: item.map.map(Types::names).unwrap_or_default(),
        }
    }
}

impl Types {
    fn names(self) -> Vec<String> {
        match self {
            Self::One(text) => text.split(" . ").map(str::to_owned).collect(),
            Self::Many(names) => names,
            Self::Other(_) => vec!["unknown".to_owned()],
        }
    }
}

impl Parts {
    fn texts(self) -> Vec<String> {
        let text = |atom| match atom {
            Atom::Number(number) => number.to_string(),
            Atom::Text(text) => text,
        };
        match self {
            Self::Concat { concat } => concat.into_iter().map(text).collect(),
            Self::Plain(atom) => vec![text(atom)],
        }
    }
}
