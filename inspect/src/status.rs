//! `ovn-k8s status`: prints what the running helper reports of itself.
//!
//! The helper renders its own status, as a table or JSON; this command only asks for it over the control socket.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use cli::OutputArgs;
use ovs::paths::Paths;

use crate::helper_client::HelperArgs;

/// The name in errors.
const NAME: &str = "ovn-k8s status";

/// Shows the running helper's owners, rules with their counters, sources, and what is not as it should be.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = NAME, version)]
struct StatusArgs {
    /// Format.
    #[command(flatten)]
    output: OutputArgs,
    /// The helper.
    #[command(flatten)]
    helper: HelperArgs,
}

/// Runs `ovn-k8s status`. `args` begin with its name. Exits 0 when the helper answered, 1 when it did not.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: StatusArgs = match cli::parse(NAME, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match status(&args) {
        Ok(text) => {
            cli::print(&text);
            ExitCode::SUCCESS
        }
        Err(line) => cli::fail(NAME, &line),
    }
}

fn status(args: &StatusArgs) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let (paths, format) = (Paths::from_env(), args.output.format.name());
    runtime.block_on(args.helper.call(&paths, "status", &[format])).map_err(|error| error.to_string())
}
