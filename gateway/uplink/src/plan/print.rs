//! A plan as a table for people.

use std::fmt;

use super::Plan;
use crate::options::Direction;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for uplink in &self.uplinks {
            let (from, to) = match uplink.direction {
                Direction::Attach => (&uplink.nic, &uplink.bridge),
                Direction::Detach => (&uplink.bridge, &uplink.nic),
            };
            let half = if uplink.half_way { ", half way there already" } else { "" };
            writeln!(f, "{from} -> {to}   datapath {}{half}", uplink.datapath)?;
        }
        let steps = self.steps.iter().enumerate().map(|(n, step)| format!("{:>3}  {step}", n + 1));
        section(f, "Steps", steps)?;
        let warnings = self.warnings.iter();
        section(f, "Warnings", warnings.map(|it| item(it.name, &it.about, &it.what, &it.remedy, false)))?;
        let refusals = self.refusals.iter();
        section(f, "Refused", refusals.map(|it| item(it.name, &it.about, &it.what, &it.remedy, it.forceable)))
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = String>) -> fmt::Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "\n{title}")?;
    }
    lines.try_for_each(|line| writeln!(f, "{line}"))
}

fn item(name: &str, about: &str, what: &str, remedy: &str, forceable: bool) -> String {
    let force = if forceable { "; or --force" } else { "" };
    format!("  {name}: {about}: {what}\n      -> {remedy}{force}")
}
