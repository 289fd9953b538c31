//! What can keep `explain` from an answer; each says what to do now.

use std::path::PathBuf;

use ovs::unixctl::UnixctlError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The arguments are wrong, or the answer cannot be written.
    #[error(transparent)]
    Refused(#[from] cli::Refusal),
    /// A file, or standard input, cannot be read.
    #[error("cannot read {path}: {error} ({remedy})")]
    Read {
        /// The file.
        path: PathBuf,
        /// What came back.
        error: std::io::Error,
        /// Another way to say it.
        remedy: &'static str,
    },
    /// A policy that is none.
    #[error("{origin} holds no policy: {error} (write JSON as the helper's command \"policy\" prints it)")]
    Policy {
        /// Where it is from.
        origin: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A word or a capture file that is none.
    #[error(transparent)]
    Value(#[from] demux::error::Error),
    /// The helper does not answer.
    #[error("cannot ask the helper for its {what}: {error} ({remedy})")]
    Helper {
        /// What it was asked for.
        what: &'static str,
        /// What came back.
        error: UnixctlError,
        /// Another way.
        remedy: &'static str,
    },
    /// The helper has only just started.
    #[error(
        "the helper has no policy yet (`ovn-k8s status` says what it waits for; --policy FILE does without it)"
    )]
    NoPolicy,
    /// The helper's answer is of another version.
    #[error("the helper's status is not understood: {0} (use the ovn-k8s that the helper was started from)")]
    Status(serde_json::Error),
    /// The bridge has no port a frame could come in by.
    #[error(
        "{bridge} has no {what} now, so no frame comes in by it (`ovn-k8s status` says why; leave out --live)"
    )]
    NoPort {
        /// The bridge.
        bridge: String,
        /// Which of its ports.
        what: &'static str,
    },
    /// vswitchd does not answer.
    #[error("cannot ask ovs-vswitchd to {what}: {error} (leave out --live for the policy's own answer)")]
    Vswitchd {
        /// What it was asked to do.
        what: &'static str,
        /// What came back.
        error: UnixctlError,
    },
    /// The bridge does not tell its learned flows.
    #[error(
        "cannot read the SCTP associations of {bridge}: {error} (leave out --live for the policy's own answer)"
    )]
    Associations {
        /// The bridge.
        bridge: String,
        /// What came back.
        error: ovs::openflow::Error,
    },
    /// A trace that cannot be read.
    #[error("the trace of {bridge} is not understood: {what} (is this Open vSwitch older than 2.13?)")]
    Trace {
        /// The bridge.
        bridge: String,
        /// What is missing in it.
        what: &'static str,
    },
    /// The program cannot run at all.
    #[error("cannot start: {0} (is the machine out of descriptors or memory?)")]
    Start(std::io::Error),
}

impl ExplainError {
    /// The arguments are wrong: what is wrong with them, and what to write instead.
    pub fn refused(what: impl Into<String>, remedy: &'static str) -> Self {
        cli::Refusal::new(what, remedy).into()
    }
}
