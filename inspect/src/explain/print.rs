//! The answer as a table.

use std::fmt::{self, Write as _};

use super::answer::{Answer, BranchAnswer, FrameAnswer, LiveAnswer};

/// Prints an answer for people. A capture has one row for each frame, and a summary.
pub(super) struct Table<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// The frames are those of a capture.
    pub capture: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.capture {
            return self.write_capture(f);
        }
        for frame in &self.answer.frames {
            write_frame(f, frame)?;
        }
        writeln!(f, "policy   {}", self.answer.policy)?;
        self.write_agreement(f)
    }
}

impl Table<'_> {
    fn write_capture(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["#", "FRAME", "VERDICT", "RULE", "SERVICE"].map(str::to_owned)];
        let mut differences = Vec::new();
        for (number, frame) in (1..).zip(&self.answer.frames) {
            rows.push([
                number.to_string(),
                frame.frame.clone(),
                joined(frame, |branch| branch.verdict.clone()),
                joined(frame, |branch| branch.rule.to_owned()),
                frame.branches.iter().find_map(|branch| branch.service.clone()).unwrap_or_default(),
            ]);
            let found = traced(frame).filter_map(|live| live.difference.as_deref());
            differences.extend(found.map(|text| format!("DIFFERS  frame {number}: {text}")));
        }
        write_columns(f, &rows)?;
        let mut rows = vec![["FRAMES", "RULE"].map(str::to_owned)];
        rows.extend(self.answer.summary.iter().map(|(rule, frames)| [frames.to_string(), rule.clone()]));
        writeln!(f)?;
        write_columns(f, &rows)?;
        writeln!(f)?;
        let mut notes: Vec<&str> = self.answer.frames.iter().flat_map(|frame| frame.notes.clone()).collect();
        notes.sort_unstable();
        for same in notes.chunk_by(|one, other| one == other) {
            writeln!(f, "note     {} frames: {}", same.len(), same[0])?;
        }
        writeln!(f, "policy   {}", self.answer.policy)?;
        for line in &differences {
            writeln!(f, "{line}")?;
        }
        self.write_agreement(f)
    }

    fn write_agreement(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bridge) = &self.answer.bridge else { return Ok(()) };
        match (self.answer.differences, self.answer.frames.len()) {
            (0, 1) => writeln!(f, "bridge   {bridge} does what the policy says"),
            (0, all) => writeln!(f, "bridge   {bridge} does what the policy says with all {all} frames"),
            (some, all) => writeln!(
                f,
                "bridge   {bridge} does NOT do what the policy says with {some} of {all} frames \
                 (`ovn-k8s status` shows foreign flows and drift)"
            ),
        }
    }
}

fn write_frame(f: &mut fmt::Formatter<'_>, frame: &FrameAnswer) -> fmt::Result {
    writeln!(f, "frame    {}, from {}", frame.frame, frame.from)?;
    for note in &frame.notes {
        writeln!(f, "note     {note}")?;
    }
    if let Some(owner) = &frame.owner {
        writeln!(f, "owner    {} ({})", owner.owner, owner.by)?;
    }
    match frame.branches.as_slice() {
        [branch] => write_branch(f, branch)?,
        branches => {
            writeln!(
                f,
                "verdict  depends on who opened the connection (--owner sets it, --live reads it from conntrack):\n"
            )?;
            let mut rows = vec![["OWNER", "VERDICT", "RULE", "ABOUT"].map(str::to_owned)];
            rows.extend(branches.iter().map(|branch| {
                let owner = branch.owner.unwrap_or_default();
                [owner, &branch.verdict, branch.rule, branch.about].map(str::to_owned)
            }));
            write_columns(f, &rows)?;
            writeln!(f)?;
        }
    }
    let mut differences = traced(frame).filter_map(|live| live.difference.as_deref());
    differences.try_for_each(|text| writeln!(f, "DIFFERS  {text}"))
}

fn write_branch(f: &mut fmt::Formatter<'_>, branch: &BranchAnswer) -> fmt::Result {
    writeln!(f, "verdict  {}", branch.verdict)?;
    writeln!(f, "rule     {} ({}): {}", branch.rule, branch.number, branch.about)?;
    if let Some(service) = &branch.service {
        writeln!(f, "service  {service}")?;
    }
    let Some(live) = &branch.live else { return Ok(()) };
    write!(f, "live     {}", live.verdict)?;
    if let Some(rule) = live.rule {
        write!(f, " by {rule}")?;
    }
    match &live.flow {
        Some(flow) => writeln!(f, " ({flow})"),
        None => writeln!(f),
    }
}

fn traced(frame: &FrameAnswer) -> impl Iterator<Item = &LiveAnswer> {
    frame.branches.iter().filter_map(|branch| branch.live.as_ref())
}

/// The values of all branches in one cell: a single value when all are equal.
fn joined(frame: &FrameAnswer, value: impl Fn(&BranchAnswer) -> String) -> String {
    let values: Vec<String> = frame.branches.iter().map(&value).collect();
    match values.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => first.clone(),
        _ => values.join(" | "),
    }
}

/// Columns as wide as their widest cell, two spaces apart, without trailing blanks.
fn write_columns<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let widths: Vec<usize> =
        (0..N).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ")?;
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
