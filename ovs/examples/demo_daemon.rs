//! The smallest daemon of the OVS family: flags, log, detach, pidfile, control socket, an orderly end.
//!
//! It shows the order every daemon of ours keeps, and the tests drive it:
//! `demo_daemon --pidfile --detach --log-file`, then `ovs-appctl -t demo_daemon version`.

use std::process::ExitCode;

use clap::Parser;
use ovs::daemon::{DaemonArgs, Running, Starting, daemonize};
use ovs::paths::Paths;
use ovs::unixctl::Server;
use ovs::vlog::{Module, Vlog, VlogArgs};

const PROGRAM: &str = "demo_daemon";

/// A daemon that does nothing.
#[derive(Parser)]
struct Args {
    /// End with this code at the checks, before detaching.
    #[arg(long)]
    fail_before: bool,
    /// End with this code after the fork, before being ready.
    #[arg(long)]
    fail_starting: Option<u8>,
    /// Die by SIGABRT after the fork, before being ready.
    #[arg(long)]
    abort_starting: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    vlog: VlogArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let paths = Paths::from_env();
    match start(&args, &paths) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            ExitCode::from(1)
        }
    }
}

fn start(args: &Args, paths: &Paths) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let modules = [Module { target: "demo_daemon", name: "demo" }];
    let vlog = Vlog::init(PROGRAM, &args.vlog, &modules, paths)?;
    if args.fail_before {
        return Err("told to fail before detaching".into());
    }

    // No thread exists up to here; from here on this is the process that does the work.
    let starting = daemonize(&args.daemon, PROGRAM, paths)?;
    if let Some(code) = args.fail_starting {
        eprintln!("{PROGRAM}: told to fail with {code}");
        return Ok(ExitCode::from(code));
    }
    if args.abort_starting {
        std::process::abort();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(run(args, paths, &vlog, starting));
    vlog.flush();
    code
}

async fn run(
    args: &Args,
    paths: &Paths,
    vlog: &Vlog,
    starting: Starting,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut exit = None;
    if let Some(path) = args.daemon.unixctl_path(PROGRAM, paths) {
        let mut server = Server::bind(&path, PROGRAM, "0.1", vlog)?;
        server.register("abort", "", 0, 0, |_| async { std::process::abort() });
        server.register("end", "CODE", 1, 1, |args| async move {
            std::process::exit(args[0].parse().map_err(|_| format!("{} is no exit code", args[0]))?)
        });
        server.register("cwd", "", 0, 0, |_| async {
            std::env::current_dir().map(|dir| dir.display().to_string()).map_err(|error| error.to_string())
        });
        exit = Some(server.exit_request());
        tokio::spawn(server.run());
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let _running: Running = starting.complete()?;
    vlog.start_writer();
    tracing::info!("running");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("terminated"),
        () = async {
            match &mut exit {
                Some(exit) => exit.requested().await,
                None => std::future::pending().await,
            }
        } => tracing::info!("asked to exit"),
    }
    Ok(ExitCode::SUCCESS)
}
