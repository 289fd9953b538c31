//! Findings, and the report that people and programs read.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Healthy.
    Ok,
    /// Worth knowing.
    Note,
    /// Works now; something else does not, or will not.
    Warning,
    /// Does not work, or will not work after the next restart.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// Stable name: the same in every version.
    pub name: &'static str,
    /// The device, daemon or setting that it is about.
    pub about: String,
    /// What was found.
    pub what: String,
    /// Why it matters; empty when healthy.
    pub why: String,
    /// What to do; empty when nothing is to be done.
    pub remedy: String,
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst severity.
    pub worst: Severity,
    /// The uplinks that were checked.
    pub uplinks: Vec<String>,
    /// The findings, worst first.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// A healthy part.
    pub(super) fn ok(name: &'static str, about: &str, what: impl Into<String>) -> Self {
        Self::new(Severity::Ok, name, about, what, "", "")
    }

    pub(super) fn note(
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Note, name, about, what, why, remedy)
    }

    pub(super) fn warning(
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, name, about, what, why, remedy)
    }

    pub(super) fn error(
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, name, about, what, why, remedy)
    }

    fn new(
        severity: Severity,
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let about = about.to_owned();
        Self { severity, name, about, what: what.into(), why: why.into(), remedy: remedy.into() }
    }
}

impl Report {
    /// A report of these findings.
    pub(super) fn of(uplinks: Vec<String>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let worst = findings.first().map_or(Severity::Ok, |finding| finding.severity);
        Self { worst, uplinks, findings }
    }

    /// Exit status: 0, 1 for warnings, 2 for errors.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.worst {
            Severity::Ok | Severity::Note => 0,
            Severity::Warning => 1,
            Severity::Error => 2,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.uplinks.is_empty() {
            writeln!(f, "Checked {}\n", self.uplinks.join(", "))?;
        }
        for finding in &self.findings {
            let Finding { severity, name, about, what, why, remedy } = finding;
            writeln!(f, "{severity:<8} {about}: {what} [{name}]")?;
            for (label, text) in [("why", why), ("do", remedy)] {
                if !text.is_empty() {
                    writeln!(f, "{:>12} {text}", format!("{label}:"))?;
                }
            }
        }
        Ok(())
    }
}
