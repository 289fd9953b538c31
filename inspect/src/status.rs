//! `ovn-k8s status`: asks the running helper, over its control socket, from the command line.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ovs::paths::Paths;
use ovs::unixctl::{Client, UnixctlError};

use cli::OutputFormat;
use helper::flags::PROGRAM;

/// The name in errors.
const NAME: &str = "ovn-k8s status";

/// Shows who owns what, the rules and their counters, and what is not as it should be, as the running helper sees it.
#[derive(Debug, Parser)]
#[command(name = "ovn-k8s status", bin_name = "ovn-k8s status", version)]
struct StatusArgs {
    /// Form of the answer
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    output: OutputFormat,
    /// Whom to ask: a program (by its pidfile in OVS_RUNDIR) or a control socket
    #[arg(long, short, value_name = "TARGET", default_value = PROGRAM)]
    target: String,
    /// How many seconds to wait for the answer
    #[arg(long, short = 'T', value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Runs `ovn-k8s status`. `args` begin with its name. Exits 0 when the helper answered, 1 when it did not.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: StatusArgs = match cli::parse(NAME, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match answer(&args) {
        Ok(text) => {
            cli::print(&text);
            ExitCode::SUCCESS
        }
        Err(line) => cli::fail(NAME, &line),
    }
}

fn answer(args: &StatusArgs) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(ask(args)).map_err(|error| error.to_string())
}

async fn ask(args: &StatusArgs) -> Result<String, UnixctlError> {
    let socket = Client::find(&args.target, &Paths::from_env())?;
    let client = Client::connect(&socket).await?;
    client.with_patience(Duration::from_secs(args.timeout)).call("status", &[args.output.name()]).await
}
