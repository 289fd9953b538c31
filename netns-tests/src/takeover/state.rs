//! What a node's network looks like, as a set of facts that can be compared before and after.
//!
//! Lifetimes run, so a finite one is only said to be finite. Neighbours come and go, so only permanent ones count.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Site;
use crate::lab::process::wait_until;

/// A subject of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Devices: MTU, MAC, flags.
    Link,
    /// Addresses.
    Address,
    /// Routes of all tables but `local`, which follows from the addresses.
    Route,
    /// Policy rules.
    Rule,
    /// Nexthop objects.
    Nexthop,
    /// Permanent and proxy neighbours.
    Neighbour,
    /// Queueing disciplines.
    Qdisc,
    /// Sysctls of devices.
    Sysctl,
    /// Offloads.
    Offload,
    /// nft tables by name.
    Table,
}

/// One fact: a subject, the device it is about (where there is one), and the text.
type Fact = (Subject, String, String);

/// A set of facts about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    facts: BTreeSet<Fact>,
}

impl State {
    /// Looks at a site's node.
    pub fn of(site: &Site) -> Result<Self> {
        let json = |words: &str| -> Result<Vec<Value>> {
            let printed = site.program("ip").arg("-j").line(words).run()?;
            list(&printed).with_context(|| format!("reading what ip {words} printed"))
        };
        let mut facts = BTreeSet::new();
        for mut link in json("addr show")? {
            let device = text(&link, "ifname");
            // OVS's own devices: they come and go with the first and the last bridge.
            if device.starts_with("ovs-") || device == "lo" {
                continue;
            }
            facts.extend(addresses(&device, &link));
            facts.insert((Subject::Link, device, link_text(&mut link)));
        }
        for family in ["-4", "-6"] {
            for route in json(&format!("{family} route show table all"))? {
                if text(&route, "table") != "local" && text(&route, "type") != "multicast" {
                    facts.insert(route_fact(family, route));
                }
            }
            for rule in json(&format!("{family} rule show"))? {
                facts.insert((Subject::Rule, String::new(), format!("{family} {rule}")));
            }
            for kind in ["nud permanent", "proxy"] {
                for row in json(&format!("{family} neigh show {kind}"))? {
                    // Multicast entries are the kernel's, made as they are needed.
                    let to = text(&row, "dst");
                    if !to.starts_with("ff") && !to.starts_with("22") && text(&row, "dev") != "lo" {
                        facts.insert((Subject::Neighbour, text(&row, "dev"), format!("{kind} {row}")));
                    }
                }
            }
        }
        for row in json("nexthop show")? {
            facts.insert((Subject::Nexthop, text(&row, "dev"), row.to_string()));
        }
        let qdiscs = site.program("tc").line("-j qdisc show").run()?;
        for mut row in list(&qdiscs)? {
            let device = text(&row, "dev");
            // The handle of one that the kernel made itself is different each time.
            forget(&mut row, &["refcnt", "handle"]);
            if !device.starts_with("ovs-") && device != "lo" {
                facts.insert((Subject::Qdisc, device, row.to_string()));
            }
        }
        let devices: BTreeSet<String> = facts
            .iter()
            .filter(|(subject, ..)| *subject == Subject::Link)
            .map(|(_, device, _)| device.clone())
            .collect();
        for device in devices {
            facts.extend(site.node().enter(|| sysctls(&device))?);
            let printed = site.program("ethtool").args(["-k", &device]).run()?;
            let wanted = ["generic-receive-offload", "large-receive-offload", "tx-checksumming"];
            let lines = printed.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
            facts.extend(lines.map(|line| (Subject::Offload, device.clone(), line.to_owned())));
        }
        let tables = site.program("nft").line("list tables").run()?;
        facts.extend(tables.lines().map(|line| (Subject::Table, String::new(), line.to_owned())));
        Ok(Self { facts })
    }

    /// The facts of some subjects about one device, told without its name.
    pub fn about(&self, device: &str, subjects: &[Subject]) -> Self {
        let quoted = format!("\"{device}\"");
        let facts = self.facts.iter().filter(|(subject, about, text)| {
            subjects.contains(subject) && (about == device || text.contains(&quoted))
        });
        // A label begins with the device's name.
        let label = format!("\"{device}:");
        let facts = facts.map(|(subject, _, text)| {
            (*subject, String::new(), text.replace(&quoted, "\"*\"").replace(&label, "\"*:"))
        });
        Self { facts: facts.collect() }
    }

    /// Without what is about one device.
    pub fn without(&self, device: &str) -> Self {
        Self { facts: self.facts.iter().filter(|(_, about, _)| about != device).cloned().collect() }
    }

    /// Without the facts that hold a word.
    pub fn without_lines(&self, word: &str) -> Self {
        Self { facts: self.facts.iter().filter(|(.., text)| !text.contains(word)).cloned().collect() }
    }

    /// Whether there is a fact of a subject that holds all of these words.
    pub fn says(&self, subject: Subject, words: &[&str]) -> bool {
        self.facts.iter().any(|(about, device, text)| {
            *about == subject && words.iter().all(|word| text.contains(word) || device == word)
        })
    }

    /// The facts that hold a word, as text.
    pub fn lines(&self, word: &str) -> Vec<String> {
        let found = self.facts.iter().filter(|(_, _, text)| text.contains(word));
        found.map(|(subject, device, text)| format!("{subject:?} {device} {text}")).collect()
    }

    /// An error that lists every fact that is only on one side.
    pub fn expect(&self, wanted: &Self) -> Result<()> {
        let missing = wanted.facts.difference(&self.facts).map(|fact| format!("gone: {fact:?}"));
        let extra = self.facts.difference(&wanted.facts).map(|fact| format!("new:  {fact:?}"));
        let mut different: Vec<String> = missing.chain(extra).collect();
        if different.is_empty() {
            return Ok(());
        }
        // A device too many is a hundred facts.
        let count = different.len();
        different.truncate(16);
        bail!("the state is another in {count} facts:\n  {}", different.join("\n  "))
    }
}

/// What stays the same when a NIC's configuration moves to a bridge: these subjects.
pub const MOVED: &[Subject] = &[Subject::Address, Subject::Route, Subject::Nexthop, Subject::Neighbour];

impl Site {
    /// Waits until the node's state is this one.
    pub fn wait_for_state(&self, wanted: &State) -> Result<()> {
        wait_until("the state of before", || State::of(self)?.expect(wanted).map(|()| true))
    }
}

fn list(printed: &str) -> Result<Vec<Value>> {
    if printed.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_str(printed)?)
}

fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn forget(value: &mut Value, fields: &[&str]) {
    if let Value::Object(map) = value {
        for field in fields {
            map.remove(*field);
        }
    }
}

/// A finite lifetime is only said to be one.
fn blur(value: &mut Value, fields: &[&str]) {
    for field in fields {
        if let Some(number) = value.get_mut(field)
            && number.as_u64().is_some_and(|seconds| seconds != u64::from(u32::MAX))
        {
            *number = Value::from("finite");
        }
    }
}

/// Addresses, with the order of the IPv4 ones: the first is the primary.
fn addresses(device: &str, link: &Value) -> Vec<Fact> {
    let rows = link.get("addr_info").and_then(Value::as_array).into_iter().flatten();
    let mut order = 0;
    rows.cloned()
        .map(|mut row| {
            blur(&mut row, &["valid_life_time", "preferred_life_time"]);
            // What passes by itself.
            forget(&mut row, &["tentative"]);
            let place = if text(&row, "family") == "inet" {
                order += 1;
                order.to_string()
            } else {
                String::new()
            };
            (Subject::Address, device.to_owned(), format!("{place} {row}"))
        })
        .collect()
}

fn link_text(link: &mut Value) -> String {
    let mut flags: Vec<String> = link
        .get("flags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|flag| flag.as_str().map(str::to_owned))
        // A killed switch leaves its ports promiscuous. That a carrier is gone is said up to a second later, but
        // LOWER_UP is gone at once.
        .filter(|flag| !["PROMISC", "NO-CARRIER"].contains(&flag.as_str()))
        .collect();
    flags.sort();
    format!(
        "mtu {} mac {} master {} {}",
        text(link, "mtu"),
        text(link, "address"),
        text(link, "master"),
        flags.join(",")
    )
}

fn route_fact(family: &str, mut route: Value) -> Fact {
    blur(&mut route, &["expires"]);
    if let Some(Value::Array(hops)) = route.get_mut("nexthops") {
        hops.sort_by_key(Value::to_string);
    }
    let device = text(&route, "dev");
    (Subject::Route, device, format!("{family} {route}"))
}

/// Everything under a device's four folders below `/proc/sys/net`.
fn sysctls(device: &str) -> Vec<Fact> {
    let folders = ["ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh"];
    let mut facts = Vec::new();
    for folder in folders {
        let path = Path::new("/proc/sys/net").join(folder).join(device);
        for file in fs::read_dir(path).into_iter().flatten().flatten() {
            // stable_secret is unreadable until it is set.
            if let Ok(value) = fs::read_to_string(file.path()) {
                let name = file.file_name().to_string_lossy().into_owned();
                facts.push((
                    Subject::Sysctl,
                    device.to_owned(),
                    format!("{folder} {name} = {}", value.trim()),
                ));
            }
        }
    }
    facts
}
