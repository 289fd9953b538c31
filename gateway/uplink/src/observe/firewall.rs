//! Rules of the host's firewall that name a device: from `nft`, from iptables' own tables, from firewalld's zones.
//!
//! The text of a rule is approximate, enough to find the rule; decisions use only its devices and whether it accepts
//! packets.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::FirewallRule;
use crate::command::{self, NoAnswer};

/// How long a list of rules may take: a node with ten thousand Services has a hundred thousand of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys of nft's `meta` that name a device.
const DEVICE_KEYS: [&str; 4] = ["iif", "iifname", "oif", "oifname"];

/// Statements of nft that are shown by their name only.
const VERDICTS: [&str; 12] = [
    "accept",
    "drop",
    "reject",
    "jump",
    "goto",
    "return",
    "masquerade",
    "snat",
    "dnat",
    "redirect",
    "queue",
    "notrack",
];

/// All rules that name a device, and what could not be read.
pub(super) fn observe(root: &Path) -> (Vec<FirewallRule>, Vec<String>) {
    let (mut rules, mut unknown) = (Vec::new(), Vec::new());
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match command::run(&words("nft -j list ruleset"), PATIENCE) {
        Ok(answer) if answer.success => match of_nft(&answer.output) {
            Ok(found) => rules.extend(found),
            Err(error) => unknown.push(format!("the rules of nft: its JSON is not understood ({error})")),
        },
        Ok(answer) => unknown.push(format!("the rules of nft: {}", first_line(&answer.stderr))),
        // Without nft there may still be rules of other programs; iptables lists its own.
        Err(error @ NoAnswer::Missing(_)) => match command::run(&words("iptables-save"), PATIENCE) {
            Ok(answer) if answer.success => rules.extend(of_iptables(&answer.output)),
            _ => unknown.push(format!("the rules of the host's firewall: {error}")),
        },
        Err(error) => unknown.push(format!("the rules of nft: {error}")),
    }
    for (tables, program) in
        [("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")]
    {
        let names = host::regular_file::read_text(&root.join("proc/net").join(tables)).unwrap_or_default();
        if names.trim().is_empty() {
            continue;
        }
        match command::run(&words(program), PATIENCE) {
            Ok(answer) if answer.success => rules.extend(of_iptables(&answer.output)),
            Ok(answer) => unknown.push(format!("the rules of {program}: {}", first_line(&answer.stderr))),
            Err(error) => unknown.push(format!("the rules of iptables: {error}")),
        }
    }
    if rules.iter().any(|rule| rule.place.contains("firewalld")) {
        rules.extend(zones(root));
    }
    (rules, unknown)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("no reason given")
}

/// firewalld's permanent zones that name a device.
fn zones(root: &Path) -> Vec<FirewallRule> {
    let mut rules = Vec::new();
    for file in std::fs::read_dir(root.join("etc/firewalld/zones")).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(zone) = name.strip_suffix(".xml") else { continue };
        let text = host::regular_file::read_text(&file.path()).unwrap_or_default();
        for part in text.split("<interface").skip(1) {
            let Some(device) = part.split(['"', '\'']).nth(1) else { continue };
            rules.push(FirewallRule {
                source: "firewalld".to_owned(),
                place: format!("zone {zone}"),
                text: format!("interface {device}"),
                devices: vec![device.to_owned()],
                lets_in: true,
            });
        }
    }
    rules
}

/// Rules of nft's JSON (libnftables-json(5)) that name a device; those in tables of this product are left out.
pub(super) fn of_nft(json: &str) -> serde_json::Result<Vec<FirewallRule>> {
    let whole: Value = serde_json::from_str(json)?;
    let items = whole["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut sets: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut dropping = std::collections::BTreeSet::new();
    for item in items {
        for kind in ["set", "map"] {
            if let Some(set) = item.get(kind) {
                let name = set["name"].as_str().unwrap_or_default().to_owned();
                sets.insert((table(set), name), strings(&set["elem"]));
            }
        }
        let drops_by_policy =
            item.get("chain").filter(|chain| chain["hook"] == "input" && chain["policy"] == "drop");
        let refuses = item
            .get("rule")
            .filter(|rule| has_key(&rule["expr"], &["reject"]) || has_key(&rule["expr"], &["drop"]));
        dropping.extend(drops_by_policy.or(refuses).map(table));
    }
    let mut rules = Vec::new();
    for item in items {
        if let Some(chain) = item.get("chain").filter(|chain| !is_ours(chain)) {
            let devices = strings(&chain["dev"]);
            if !devices.is_empty() {
                rules.push(FirewallRule {
                    source: "nft".to_owned(),
                    place: table(chain),
                    text: format!(
                        "chain {} on device {}",
                        chain["name"].as_str().unwrap_or_default(),
                        devices.join(", ")
                    ),
                    devices,
                    lets_in: false,
                });
            }
        }
        let Some(rule) = item.get("rule").filter(|rule| !is_ours(rule)) else { continue };
        let devices = devices(&rule["expr"], &table(rule), &sets);
        if devices.is_empty() {
            continue;
        }
        let accepts = has_key(&rule["expr"], &["accept", "jump", "goto", "vmap"])
            && names_incoming(&rule["expr"])
            && dropping.contains(&table(rule));
        rules.push(FirewallRule {
            source: "nft".to_owned(),
            place: format!("{} {}", table(rule), rule["chain"].as_str().unwrap_or_default()),
            text: rule_text(&rule["expr"]),
            devices,
            lets_in: accepts,
        });
    }
    Ok(rules)
}

fn table(item: &Value) -> String {
    let name = item.get("table").or_else(|| item.get("name"));
    format!(
        "{} {}",
        item["family"].as_str().unwrap_or_default(),
        name.and_then(Value::as_str).unwrap_or_default()
    )
}

/// Tables of this product: they follow the devices.
fn is_ours(item: &Value) -> bool {
    item["table"].as_str().is_some_and(|name| name.starts_with("ovn_k8s_"))
}

/// The names in a rule's matches of devices, sets resolved.
fn devices(expression: &Value, table: &str, sets: &BTreeMap<(String, String), Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    match expression {
        Value::Array(parts) => found.extend(parts.iter().flat_map(|part| devices(part, table, sets))),
        Value::Object(parts) => {
            for (key, value) in parts {
                let sides = match key.as_str() {
                    "match" => Some((&value["left"], &value["right"])),
                    "vmap" => Some((&value["key"], &value["data"])),
                    _ => None,
                };
                if let Some((_, right)) = sides.filter(|(left, _)| names_device(left)) {
                    for name in strings(right) {
                        let set = name
                            .strip_prefix('@')
                            .and_then(|set| sets.get(&(table.to_owned(), set.to_owned())));
                        match set {
                            Some(elements) => found.extend(elements.iter().cloned()),
                            None => found.push(name),
                        }
                    }
                } else {
                    found.extend(devices(value, table, sets));
                }
            }
        }
        _ => {}
    }
    found.sort();
    found.dedup();
    found
}

fn names_device(left: &Value) -> bool {
    is_meta(left, &DEVICE_KEYS)
        || left["concat"].as_array().is_some_and(|parts| parts.iter().any(names_device))
}

fn names_incoming(expression: &Value) -> bool {
    match expression {
        Value::Array(parts) => parts.iter().any(names_incoming),
        Value::Object(parts) => is_meta(expression, &DEVICE_KEYS[..2]) || parts.values().any(names_incoming),
        _ => false,
    }
}

fn is_meta(value: &Value, keys: &[&str]) -> bool {
    value["meta"]["key"].as_str().is_some_and(|key| keys.contains(&key))
}

/// All strings in a value: of a set, of a map, or a single one.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(parts) => parts.iter().flat_map(strings).collect(),
        Value::Object(parts) => parts.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

fn has_key(expression: &Value, keys: &[&str]) -> bool {
    match expression {
        Value::Array(parts) => parts.iter().any(|part| has_key(part, keys)),
        Value::Object(parts) => {
            parts.iter().any(|(key, value)| keys.contains(&key.as_str()) || has_key(value, keys))
        }
        _ => false,
    }
}

/// An approximation of a rule in nft's syntax.
fn rule_text(expression: &Value) -> String {
    let parts = expression.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<_> = parts.iter().filter_map(statement).collect();
    words.join(" ")
}

fn statement(part: &Value) -> Option<String> {
    let (key, value) = part.as_object()?.iter().next()?;
    match key.as_str() {
        "match" => {
            let operator = value["op"].as_str().filter(|op| !["==", "in"].contains(op));
            let operator = operator.map(|op| format!("{op} ")).unwrap_or_default();
            Some(format!("{} {operator}{}", operand(&value["left"]), operand(&value["right"])))
        }
        "counter" | "comment" => None,
        "vmap" => {
            Some(format!("{} vmap {{ {} }}", operand(&value["key"]), strings(&value["data"]).join(", ")))
        }
        "jump" | "goto" => Some(format!("{key} {}", value["target"].as_str().unwrap_or_default())),
        "xt" => None,
        verdict if VERDICTS.contains(&verdict) => Some(verdict.to_owned()),
        other => Some(format!("{other} ...")),
    }
}

fn operand(value: &Value) -> String {
    if let Some(key) = value["meta"]["key"].as_str() {
        return key.to_owned();
    }
    let payload = &value["payload"];
    if let (Some(protocol), Some(field)) = (payload["protocol"].as_str(), payload["field"].as_str()) {
        return format!("{protocol} {field}");
    }
    match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Object(parts) if parts.contains_key("ct") => {
            format!("ct {}", value["ct"]["key"].as_str().unwrap_or_default())
        }
        Value::Object(parts) if parts.contains_key("set") => format!("{{ {} }}", list(&value["set"])),
        Value::Array(_) => list(value),
        other => strings(other).join(" . "),
    }
}

fn list(value: &Value) -> String {
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().map(operand).collect::<Vec<_>>().join(", ")
}

/// Rules as iptables-save(8) prints them that name a device.
pub(super) fn of_iptables(text: &str) -> Vec<FirewallRule> {
    let mut rules = Vec::new();
    let mut name = String::new();
    let mut dropping = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table.trim().to_owned();
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let refuses =
            [("-j", "DROP"), ("-j", "REJECT")].iter().any(|pair| after(&words, pair.0) == Some(pair.1));
        if (line.starts_with(":INPUT DROP") || refuses) && !dropping.contains(&name) {
            dropping.insert(name.clone());
        }
        if words.first() != Some(&"-A") {
            continue;
        }
        let (incoming, outgoing) = (after(&words, "-i"), after(&words, "-o"));
        // A negated match counts as naming the device, too.
        let devices: Vec<_> = [incoming, outgoing].into_iter().flatten().map(str::to_owned).collect();
        if devices.is_empty() {
            continue;
        }
        let target = after(&words, "-j").or_else(|| after(&words, "-g")).unwrap_or_default();
        let not_accepting = [
            "DROP",
            "REJECT",
            "LOG",
            "RETURN",
            "MARK",
            "CONNMARK",
            "MASQUERADE",
            "SNAT",
            "DNAT",
            "TCPMSS",
            "",
        ];
        rules.push(FirewallRule {
            source: "iptables".to_owned(),
            place: format!("{name} {}", words.get(1).unwrap_or(&"")),
            text: line.to_owned(),
            devices,
            lets_in: incoming.is_some() && !not_accepting.contains(&target),
        });
    }
    for rule in &mut rules {
        let table = rule.place.split(' ').next().unwrap_or_default();
        rule.lets_in &= dropping.contains(table);
    }
    rules
}

fn after<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == flag)?;
    words.get(at + 1).copied()
}

#[cfg(test)]
mod tests;
