//! nft: one script applied atomically, one table listed and parsed.
//!
//! Scripts are nft's own language (`nft -f -`: one transaction, all or nothing), lists are its JSON (`nft -j list`).
//! Scripts are not JSON because nft 1.0.6 (Debian 12) cannot declare a map with concatenated data in it: it drops the
//! data type and creates a set.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Error, Result};

mod listing;

pub(crate) use listing::parse as parse_listing;

/// The nft tool of this machine.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
}

impl Default for Nft {
    fn default() -> Self {
        Self::at("nft")
    }
}

/// A table as the kernel holds it, as far as it can be compared: rules are known by their comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Sets and maps, by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains, by name.
    pub chains: BTreeMap<String, Chain>,
    /// Kinds of other objects in the table (`flowtable`, `counter`...).
    pub others: Vec<String>,
}

/// A set, or a map when `data` is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Types of the key's parts (`ipv4_addr`, `inet_proto`...).
    pub key: Vec<String>,
    /// Types of the data's parts, empty for a set.
    pub data: Vec<String>,
    /// The elements, in the kernel's order.
    pub elements: Vec<Element>,
}

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The key's parts as text (`10.0.0.1`, `tcp`, `80`).
    pub key: Vec<String>,
    /// The data's parts, empty for a set.
    pub data: Vec<String>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The hook of a base chain.
    pub hook: Option<Hook>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

/// The hook of a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `input`, `output`...
    pub hook: String,
    /// Lower is earlier.
    pub priority: i64,
    /// `accept` or `drop`.
    pub policy: String,
}

/// A rule, as far as it is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its comment.
    pub comment: Option<String>,
}

impl Nft {
    /// The tool at another place than PATH.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Applies a script: all of it or nothing. `attempted` says what it is for (`update the nft table ...`).
    pub async fn apply(&self, attempted: &str, script: &str) -> Result<()> {
        self.feed(attempted, &["-f", "-"], script).await
    }

    /// Checks whether the kernel accepts the script. Nothing is changed.
    pub async fn check(&self, attempted: &str, script: &str) -> Result<()> {
        self.feed(attempted, &["-c", "-f", "-"], script).await
    }

    /// One table of the family `inet`, `None` when there is no such table.
    pub async fn table(&self, name: &str) -> Result<Option<Table>> {
        let attempted = format!("list the nft table inet {name}");
        let output = self.run(&attempted, &["-j", "list", "table", "inet", name], "").await?;
        if output.status.success() {
            return listing::parse(&output.stdout)
                .map(Some)
                .map_err(|detail| Error::NftOutput { attempted, detail });
        }
        let message = message(&output);
        // ENOENT in the C locale; every version has this text for a missing table.
        if message.contains("No such file or directory") {
            Ok(None)
        } else {
            Err(Error::NftRefused { attempted, message })
        }
    }

    async fn feed(&self, attempted: &str, arguments: &[&str], script: &str) -> Result<()> {
        let output = self.run(attempted, arguments, script).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::NftRefused { attempted: attempted.to_owned(), message: message(&output) })
    }

    async fn run(&self, attempted: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NftMissing { attempted: attempted.to_owned() },
            _ => Error::NftRun { attempted: attempted.to_owned(), source },
        };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take();
        let write = async {
            if let Some(pipe) = stdin.as_mut() {
                // A broken pipe means that nft stopped reading: its message says why.
                let _ = pipe.write_all(input.as_bytes()).await;
            }
            drop(stdin);
        };
        let (_, output) = tokio::join!(write, child.wait_with_output());
        output.map_err(failed)
    }
}

/// nft's message, cut to what a log line can hold (nft repeats the offending line, which can be very long).
fn message(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.chars().all(|c| "^~ ".contains(c)));
    let mut message: String =
        lines.by_ref().take(2).collect::<Vec<_>>().join(" | ").chars().take(400).collect();
    if message.is_empty() {
        message = output.status.to_string();
    }
    message
}

#[cfg(test)]
mod tests;
