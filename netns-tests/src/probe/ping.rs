//! Echo requests, by the machine's own `ping`.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::lab::{netns::Namespace, process::Program};

/// What `ping` saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Answers, each request counted once.
    pub received: u32,
    /// Answers beyond the first to a request.
    pub duplicates: u32,
}

/// Sends `count` echo requests, 10 ms apart, with so many bytes of payload.
pub fn ping(namespace: &Namespace, to: IpAddr, count: u32, bytes: usize) -> Result<Pinged> {
    let (_, printed, complaint) = Program::new("ping")
        .args([
            "-n",
            "-i",
            "0.01",
            "-W",
            "2",
            "-c",
            &count.to_string(),
            "-s",
            &bytes.to_string(),
            &to.to_string(),
        ])
        .inside(namespace)
        .outcome()?;
    let line = printed.lines().find(|line| line.contains("packets transmitted"));
    let line = line.with_context(|| format!("ping {to} from {}: {}", namespace.name(), complaint.trim()))?;
    let field = |what: &str| {
        let part = line.split(',').find(|part| part.contains(what));
        part.and_then(|part| {
            part.split_whitespace().find_map(|word| word.trim_start_matches('+').parse().ok())
        })
    };
    Ok(Pinged {
        sent: field("transmitted").unwrap_or(0),
        received: field("received").unwrap_or(0),
        duplicates: field("duplicates").unwrap_or(0),
    })
}
