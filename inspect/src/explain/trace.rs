//! Parses the output of `ofproto/trace`: which flows a frame matched on one bridge, and through which ports it left.
//!
//! The text is a tree by indentation. Behind a patch port the trace continues in the next bridge, and after a `ct()` with
//! a table it continues in a new section. Only the parts of the first bridge are read.

use ovs::openflow::flow::OfPort;

/// The path of a frame through the first bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// Its table lookups, in order.
    pub lookups: Vec<Lookup>,
    /// Its outputs, in order.
    pub outputs: Vec<Output>,
}

/// A table and the flow that the frame matched in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    /// The table.
    pub table: u8,
    /// The flow; `None` where no flow matched.
    pub flow: Option<MatchedFlow>,
}

/// A flow as the trace names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MatchedFlow {
    /// What it matches, as the trace prints it.
    pub matches: String,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
}

/// An output action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Out of a port.
    Port(OfPort),
    /// Another action, as the trace prints it.
    Other(String),
}

impl Trace {
    /// Parses a trace; `None` if it is not one.
    pub(super) fn read(text: &str) -> Option<Trace> {
        let mut trace = Trace::default();
        let mut recirculations = Vec::new();
        for (number, section) in sections(text).into_iter().enumerate() {
            if number > 0 && !resumes(&section, &mut recirculations) {
                continue;
            }
            for line in own_lines(&section) {
                trace.take(line, &mut recirculations);
            }
        }
        (!trace.lookups.is_empty()).then_some(trace)
    }

    fn take(&mut self, line: &str, recirculations: &mut Vec<Recirculation>) {
        if let Some(lookup) = Lookup::read(line) {
            self.lookups.push(lookup);
        } else if let Some(next) = Recirculation::read(line) {
            recirculations.push(next);
        } else if line.starts_with(">> skipping output") {
            // Not back through its ingress port, for example.
            self.outputs.pop();
        } else if let Some(output) = Output::read(line) {
            self.outputs.push(output);
        }
    }
}

/// A table in which the first bridge continues after conntrack.
struct Recirculation {
    table: String,
    zone: String,
}

impl Recirculation {
    fn read(line: &str) -> Option<Recirculation> {
        let arguments = line.strip_prefix("ct(")?.strip_suffix(')')?;
        let word = |name: &str| {
            let words = arguments.split(',').filter_map(|word| word.split_once('='));
            words.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next()
        };
        Some(Recirculation { table: word("table")?, zone: word("zone").unwrap_or_else(|| "0".to_owned()) })
    }
}

impl Lookup {
    fn read(line: &str) -> Option<Lookup> {
        let (table, rest) = line.split_once(". ")?;
        let table = table.parse().ok()?;
        if rest == "No match." {
            return Some(Lookup { table, flow: None });
        }
        let (matches, rest) = match rest.strip_prefix("priority ") {
            Some(rest) => ("", rest),
            None => rest.split_once(", priority ")?,
        };
        let (priority, cookie) = rest.split_once(", cookie 0x").unwrap_or((rest, "0"));
        let flow = MatchedFlow {
            matches: matches.to_owned(),
            priority: priority.parse().ok()?,
            cookie: u64::from_str_radix(cookie, 16).ok()?,
        };
        Some(Lookup { table, flow: Some(flow) })
    }
}

impl Output {
    /// Ports that have names (ovs-actions(7)).
    const NAMED: [(&str, OfPort); 2] = [("LOCAL", OfPort::LOCAL), ("NORMAL", OfPort::NORMAL)];

    fn read(line: &str) -> Option<Output> {
        if let Some((_, port)) = Self::NAMED.iter().find(|(name, _)| *name == line) {
            return Some(Output::Port(*port));
        }
        if let Some(port) = line.strip_prefix("output:") {
            return Some(
                port.parse()
                    .map_or_else(|_| Output::Other(line.to_owned()), |port| Output::Port(OfPort(port))),
            );
        }
        let other = ["FLOOD", "ALL", "IN_PORT", "CONTROLLER", "controller(", "TABLE", "enqueue", "bundle"];
        other.iter().any(|word| line.starts_with(word)).then(|| Output::Other(line.to_owned()))
    }
}

/// The passes through the datapath: each ends with its "Final flow".
fn sections(text: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("recirc(") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
}

/// Whether a section continues where the first bridge sent the frame through conntrack. The trace gives every section
/// the first bridge's name, whichever bridge it is about.
fn resumes(section: &[&str], recirculations: &mut Vec<Recirculation>) -> bool {
    let flow = section.iter().find(|line| line.starts_with("Flow: ")).unwrap_or(&"");
    let zone = flow.split([',', ' ']).find_map(|word| word.strip_prefix("ct_zone=")).unwrap_or("0");
    let table = section.iter().find_map(|line| line.trim().strip_prefix("Resuming from table "));
    let position =
        recirculations.iter().position(|next| Some(next.table.as_str()) == table && next.zone == zone);
    position.map(|position| recirculations.remove(position)).is_some()
}

/// The lines of the section's first bridge, without those of the next bridges, and without indentation.
fn own_lines<'a>(section: &[&'a str]) -> Vec<&'a str> {
    let mut own = Vec::new();
    let mut entered = false;
    let mut nested: Option<usize> = None;
    for line in section {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with("----") {
            continue;
        }
        if line.starts_with("Final flow:") {
            break;
        }
        // A bridge's lines are indented more than its name, except that at the end of a list its tables are at the name's
        // level. A table of the first bridge never follows directly: an action precedes it.
        if nested.is_some_and(|bridge| indent > bridge || Lookup::read(trimmed).is_some()) {
            continue;
        }
        nested = None;
        if trimmed.starts_with("bridge(\"") {
            if entered {
                nested = Some(indent);
            }
            entered = true;
        } else if entered {
            own.push(trimmed.trim_end());
        }
    }
    own
}

#[cfg(test)]
mod tests;
