//! From the command line to the running helper: read the settings, detect, check, detach, assemble, run.

use std::ffi::OsString;
use std::process::ExitCode;

use kubernetes::ClientConfig;
use ovs::daemon::daemonize;
use ovs::paths::Paths;
use ovs::vlog::{Module, Vlog};
use tokio::runtime::{Builder, Runtime};

use crate::assemble::assemble;
use crate::flags::{HelperArgs, PROGRAM};
use crate::settings::Settings;
use crate::{cleanup, dry_run, object_source, preflight, restore_wait};

/// Names of log modules that operators know, and the parts of the code they stand for.
const MODULES: [Module; 5] = [
    Module { target: "helper", name: "ovn-gateway-helper" },
    Module { target: "helper::host_paths", name: "host-paths" },
    Module { target: "uplink", name: "uplink" },
    Module { target: "kubernetes", name: "kubernetes" },
    Module { target: "host", name: "host" },
];

/// Runs the program. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    host::memory::one_heap();
    let paths = Paths::from_env();
    match HelperArgs::load(args, &paths) {
        Ok(flags) => match run(&flags, &paths) {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => cli::fail(PROGRAM, &line),
        },
        Err(exit) => exit.report(PROGRAM),
    }
}

fn run(flags: &HelperArgs, paths: &Paths) -> Result<(), String> {
    let vlog = Vlog::init(PROGRAM, &flags.vlog, &MODULES, paths).map_err(|error| error.to_string())?;
    let settings = flags.settings(paths)?;
    // Each runtime before the fork is gone by then: threads do not survive one.
    let bridge = match single_threaded()?.block_on(preflight::detect(&settings)) {
        Ok(bridge) => bridge,
        Err(line) => {
            if !flags.cleanup && !flags.dry_run {
                preflight::restore_management(&settings);
            }
            return Err(line);
        }
    };
    if flags.cleanup {
        return single_threaded()?.block_on(cleanup::run(&settings));
    }
    let client = match preflight::check(&settings, &bridge, flags.dry_run) {
        Ok(client) => client,
        Err(line) => {
            if !flags.dry_run && restore_wait::is_ours(&bridge) {
                single_threaded()?.block_on(preflight::release_switch(&settings))?;
            }
            return Err(line);
        }
    };
    if flags.dry_run {
        return single_threaded()?.block_on(dry_run::run(&settings, client, flags.output.format));
    }
    detach_and_run(flags, settings, client, &vlog)
}

fn detach_and_run(
    flags: &HelperArgs,
    settings: Settings,
    client: Option<ClientConfig>,
    vlog: &Vlog,
) -> Result<(), String> {
    let starting = daemonize(&flags.daemon, PROGRAM, &settings.paths).map_err(|error| error.to_string())?;
    vlog.start_writer();
    let outcome = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?
        .block_on(async {
            // First: the objects are read by other threads while everything else starts.
            let objects = object_source::open(&settings, client)?;
            let bridge = settings.bridge.clone();
            let (daemon, server, stop) = assemble(flags, settings, objects, vlog).await?;
            let running = starting.complete().map_err(|error| error.to_string())?;
            tracing::info!("{PROGRAM} {} runs on {bridge}", env!("CARGO_PKG_VERSION"));
            let control = tokio::spawn(server.run());
            daemon.run(stop).await;
            control.abort();
            drop(running);
            Ok(())
        });
    vlog.flush();
    outcome
}

fn single_threaded() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))
}
