//! Why `explain` has no answer; every error names a remedy.

use std::path::PathBuf;

use ovs::unixctl::UnixctlError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExplainError {
    /// The arguments are wrong, or the answer cannot be written.
    #[error(transparent)]
    Refused(#[from] cli::Refusal),
    /// A file, or standard input, cannot be read.
    #[error("cannot read {path}: {error} ({remedy})")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A policy that does not parse.
    #[error(
        "the policy {origin} is not valid: {error} (`ovs-appctl -t ovn-k8s-gateway-helper policy` prints a valid one)"
    )]
    Policy {
        /// Its origin, as the answer prints it.
        origin: String,
        /// The error.
        error: serde_json::Error,
    },
    /// A value or a capture file that does not parse.
    #[error(transparent)]
    Value(#[from] demux::error::Error),
    /// The helper does not answer.
    #[error("the helper does not answer the request for its {what}: {error} ({remedy})")]
    Helper {
        /// What was requested.
        what: &'static str,
        /// The error.
        error: UnixctlError,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The helper has just started.
    #[error(
        "the helper has no policy yet (`ovn-k8s status` says what it waits for; or give one with --policy FILE)"
    )]
    NoPolicy,
    /// The helper's answer is of another version.
    #[error(
        "the helper's status does not parse: {0} (use the ovn-k8s binary that the helper was started from)"
    )]
    Status(serde_json::Error),
    /// The bridge has no port for the frame to enter.
    #[error(
        "{bridge} has no {what}, so no frame can enter there (`ovn-k8s status` says why; or leave out --live)"
    )]
    NoPort {
        /// The bridge.
        bridge: String,
        /// Which of its ports.
        what: &'static str,
    },
    /// vswitchd does not answer.
    #[error(
        "ovs-vswitchd does not {what}: {error} (`systemctl status openvswitch-switch`; or leave out --live)"
    )]
    Vswitchd {
        /// The request.
        what: &'static str,
        /// The error.
        error: UnixctlError,
    },
    /// The bridge does not list its learned flows.
    #[error(
        "cannot read the SCTP associations of {bridge}: {error} (`ovs-ofctl dump-flows {bridge}` makes the same request; or leave out --live)"
    )]
    Associations {
        /// The bridge.
        bridge: String,
        /// The error.
        error: ovs::openflow::Error,
    },
    /// A trace that does not parse.
    #[error("the trace of {bridge} does not parse: {what} (it needs Open vSwitch 2.13 or later)")]
    Trace {
        /// The bridge.
        bridge: String,
        /// What is missing.
        what: &'static str,
    },
    /// The program cannot start.
    #[error("cannot start: {0} (check file descriptors and memory: `ulimit -n`, `free -m`)")]
    Start(std::io::Error),
}

impl ExplainError {
    /// The arguments are wrong: what is wrong with them, and what to write instead.
    pub(super) fn refused(what: impl Into<String>, remedy: &'static str) -> Self {
        cli::Refusal::new(what, remedy).into()
    }
}
