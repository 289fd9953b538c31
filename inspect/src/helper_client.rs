//! The running helper, asked over its control socket: what `status` and `explain` share.

use std::time::Duration;

use clap::Args;
use ovs::paths::Paths;
use ovs::unixctl::{Client, UnixctlError};

use helper::PROGRAM;

/// Which helper to ask, and for how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct HelperArgs {
    /// Helper to ask: a program name (found by its pidfile in OVS_RUNDIR) or a control socket
    #[arg(long, short, value_name = "TARGET", default_value = PROGRAM)]
    pub target: String,
    /// Timeout of each request, in seconds
    #[arg(long, short = 'T', value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl HelperArgs {
    /// Timeout of each request.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Runs one command of the helper and returns what it prints. Fails when no helper runs, or when it does not answer
    /// within the timeout.
    pub(crate) async fn call(
        &self,
        paths: &Paths,
        command: &str,
        words: &[&str],
    ) -> Result<String, UnixctlError> {
        let socket = Client::find(&self.target, paths)?;
        Client::connect(&socket).await?.with_timeout(self.timeout()).call(command, words).await
    }
}
