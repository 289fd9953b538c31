//! Rules of the host's firewall that name the source device.

use super::carried::ends;
use super::{Plan, UplinkPlan};
use crate::observe::{FirewallRule, Observed};

/// How many rules are shown; a firewall may name a device a thousand times.
const SHOWN: usize = 4;

/// Refuses rules without which new connections would fail, and warns of the others. Rules that match both devices are no problem.
pub(super) fn names(plan: &mut Plan, observed: &Observed, uplink: &UplinkPlan) {
    let (from, to) = ends(uplink);
    let stops =
        |rule: &&FirewallRule| rule.names(from) && !rule.names(to) && !has_twin(observed, rule, from, to);
    let (accepting, others): (Vec<_>, Vec<_>) =
        observed.firewall.iter().filter(stops).partition(|rule| rule.lets_in);
    if let Some(first) = accepting.first() {
        plan.refuse_unless_forced(
            "firewall-names-nic",
            from,
            format!(
                "the host's firewall accepts packets by the device's name: established sessions would pass, new ones (SSH) would be dropped: {}",
                shown(&accepting)
            ),
            format!("add the same for {to} now ({}), and keep both", how_to_add(first, to)),
        );
    }
    if let Some(first) = others.first() {
        plan.warn(
            "firewall-names-nic",
            from,
            format!("rules of the host's firewall that name the device stop matching: {}", shown(&others)),
            format!("add the same for {to} ({})", how_to_add(first, to)),
        );
    }
}

/// Whether the same rule exists for the target device.
fn has_twin(observed: &Observed, rule: &FirewallRule, from: &str, to: &str) -> bool {
    let text = rule.text.replace(from, to);
    let same = |other: &FirewallRule| {
        text != rule.text && other.source == rule.source && other.place == rule.place && other.text == text
    };
    observed.firewall.iter().any(same)
}

fn shown(rules: &[&FirewallRule]) -> String {
    let text = |rule: &&&FirewallRule| format!("{} \"{}\"", rule.place, rule.text);
    let mut lines: Vec<_> = rules.iter().take(SHOWN).map(|rule| text(&rule)).collect();
    if rules.len() > SHOWN {
        lines.push(format!("and {} more", rules.len() - SHOWN));
    }
    lines.join("; ")
}

fn how_to_add(rule: &FirewallRule, to: &str) -> String {
    if rule.source == "firewalld" || rule.place.contains("firewalld") {
        format!("`firewall-cmd --zone=ZONE --add-interface={to}`, and again with --permanent")
    } else if rule.source == "iptables" {
        "`iptables -I`, and in the file it is restored from".to_owned()
    } else {
        "`nft add rule`, and in the file it is loaded from".to_owned()
    }
}
