//! Rules of the host's firewall that name the device by which packets will no longer come in.

use super::carried::ends;
use super::{Plan, UplinkPlan};
use crate::observe::{FirewallRule, Observed};

/// How many rules are shown of each kind; a firewall may name a device a thousand times.
const SHOWN: usize = 4;

/// Refuses where new connections would stop, warns of the other rules. A rule that matches both devices is none.
pub(super) fn names(plan: &mut Plan, observed: &Observed, uplink: &UplinkPlan) {
    let (from, to) = ends(uplink);
    let stops =
        |rule: &&FirewallRule| rule.names(from) && !rule.names(to) && !has_twin(observed, rule, from, to);
    let (opens, others): (Vec<_>, Vec<_>) =
        observed.firewall.iter().filter(stops).partition(|rule| rule.lets_in);
    if let Some(first) = opens.first() {
        plan.refuse_unless_forced(
            "firewall-names-nic",
            from,
            format!(
                "the host's firewall accepts packets by the device's name: established sessions would pass, new ones (SSH) would not come in: {}",
                shown(&opens)
            ),
            format!("add the same for {to} now ({}), and keep both", how(first, to)),
        );
    }
    if let Some(first) = others.first() {
        plan.warn(
            "firewall-names-nic",
            from,
            format!("rules of the host's firewall that name the device stop matching: {}", shown(&others)),
            format!("add the same for {to} ({})", how(first, to)),
        );
    }
}

/// The same rule is there for the other device.
fn has_twin(observed: &Observed, rule: &FirewallRule, from: &str, to: &str) -> bool {
    let text = rule.text.replace(from, to);
    let same = |other: &FirewallRule| {
        text != rule.text && other.source == rule.source && other.place == rule.place && other.text == text
    };
    observed.firewall.iter().any(same)
}

fn shown(rules: &[&FirewallRule]) -> String {
    let said = |rule: &&&FirewallRule| format!("{} \"{}\"", rule.place, rule.text);
    let mut lines: Vec<_> = rules.iter().take(SHOWN).map(|rule| said(&rule)).collect();
    if rules.len() > SHOWN {
        lines.push(format!("and {} more", rules.len() - SHOWN));
    }
    lines.join("; ")
}

fn how(rule: &FirewallRule, to: &str) -> String {
    if rule.source == "firewalld" || rule.place.contains("firewalld") {
        format!("`firewall-cmd --zone=ZONE --add-interface={to}`, and again with --permanent")
    } else if rule.source == "iptables" {
        "`iptables -I`, and in the file it is restored from".to_owned()
    } else {
        "`nft add rule`, and in the file it is loaded from".to_owned()
    }
}
