//! What `ofproto/trace` prints, read back: which flows a frame met on one bridge, and by which ports it left it.
//!
//! The text is a tree by indentation. Behind a patch port the trace goes on in the next bridge, and after a `ct()`
//! with a table it starts again in a section of its own; only the first bridge's own part is read.

use ovs::openflow::flow::OfPort;

/// The way of a frame through the first bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The flows it met, in order.
    pub met: Vec<Met>,
    /// Where it was sent, in order.
    pub sent: Vec<Sent>,
}

/// A table and the flow that a frame met in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// The table.
    pub table: u8,
    /// The flow; `None` where no flow matched.
    pub flow: Option<MetFlow>,
}

/// A flow as the trace names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetFlow {
    /// What it matches, as the trace prints it.
    pub matches: String,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
}

/// Where a frame was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Out of a port.
    Port(OfPort),
    /// By another way, as the trace prints it.
    Other(String),
}

impl Trace {
    /// Reads a trace; `None` if it is not one.
    pub fn read(text: &str) -> Option<Trace> {
        let mut trace = Trace::default();
        let mut awaited = Vec::new();
        for (number, section) in sections(text).into_iter().enumerate() {
            if number > 0 && !resumes(&section, &mut awaited) {
                continue;
            }
            for line in own_lines(&section) {
                trace.take(line, &mut awaited);
            }
        }
        (!trace.met.is_empty()).then_some(trace)
    }

    fn take(&mut self, line: &str, awaited: &mut Vec<Awaited>) {
        if let Some(met) = Met::read(line) {
            self.met.push(met);
        } else if let Some(next) = Awaited::read(line) {
            awaited.push(next);
        } else if line.starts_with(">> skipping output") {
            // Never back out of the port it came by, say.
            self.sent.pop();
        } else if let Some(sent) = Sent::read(line) {
            self.sent.push(sent);
        }
    }
}

/// A table in which our bridge goes on when conntrack has looked at the frame.
struct Awaited {
    table: String,
    zone: String,
}

impl Awaited {
    fn read(line: &str) -> Option<Awaited> {
        let arguments = line.strip_prefix("ct(")?.strip_suffix(')')?;
        let word = |name: &str| {
            let words = arguments.split(',').filter_map(|word| word.split_once('='));
            words.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next()
        };
        Some(Awaited { table: word("table")?, zone: word("zone").unwrap_or_else(|| "0".to_owned()) })
    }
}

impl Met {
    fn read(line: &str) -> Option<Met> {
        let (table, rest) = line.split_once(". ")?;
        let table = table.parse().ok()?;
        if rest == "No match." {
            return Some(Met { table, flow: None });
        }
        let (matches, rest) = match rest.strip_prefix("priority ") {
            Some(rest) => ("", rest),
            None => rest.split_once(", priority ")?,
        };
        let (priority, cookie) = rest.split_once(", cookie 0x").unwrap_or((rest, "0"));
        let flow = MetFlow {
            matches: matches.to_owned(),
            priority: priority.parse().ok()?,
            cookie: u64::from_str_radix(cookie, 16).ok()?,
        };
        Some(Met { table, flow: Some(flow) })
    }
}

impl Sent {
    /// Ports that have names (ovs-actions(7)).
    const NAMED: [(&str, OfPort); 2] = [("LOCAL", OfPort::LOCAL), ("NORMAL", OfPort::NORMAL)];

    fn read(line: &str) -> Option<Sent> {
        if let Some((_, port)) = Self::NAMED.iter().find(|(name, _)| *name == line) {
            return Some(Sent::Port(*port));
        }
        if let Some(port) = line.strip_prefix("output:") {
            return Some(
                port.parse().map_or_else(|_| Sent::Other(line.to_owned()), |port| Sent::Port(OfPort(port))),
            );
        }
        let other = ["FLOOD", "ALL", "IN_PORT", "CONTROLLER", "controller(", "TABLE", "enqueue", "bundle"];
        other.iter().any(|word| line.starts_with(word)).then(|| Sent::Other(line.to_owned()))
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

/// Whether a section goes on where our bridge sent the frame through conntrack. The trace gives every section the
/// first bridge's name, whichever bridge's it is.
fn resumes(section: &[&str], awaited: &mut Vec<Awaited>) -> bool {
    let flow = section.iter().find(|line| line.starts_with("Flow: ")).unwrap_or(&"");
    let zone = flow.split([',', ' ']).find_map(|word| word.strip_prefix("ct_zone=")).unwrap_or("0");
    let table = section.iter().find_map(|line| line.trim().strip_prefix("Resuming from table "));
    let position = awaited.iter().position(|next| Some(next.table.as_str()) == table && next.zone == zone);
    position.map(|position| awaited.remove(position)).is_some()
}

/// The lines of the section's first bridge, without those of bridges it leads to, and without indentation.
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
        // What a bridge says stands further right than its name; at the end of a list its tables stand under it.
        // An own table never comes next: an action leads to it.
        if nested.is_some_and(|bridge| indent > bridge || Met::read(trimmed).is_some()) {
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
