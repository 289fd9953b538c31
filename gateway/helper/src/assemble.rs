//! Puts the running helper together: control socket, metrics server, failover, sources, the daemon itself.

use std::sync::Arc;

use kubernetes::Source;
use ovs::ovsdb::Remote;
use ovs::unixctl::{ExitRequest, Server};
use ovs::vlog::Vlog;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use uplink::failover::{Failover, FailoverConfig};
use uplink::journal::Folder;

use crate::cache::PolicyCache;
use crate::control;
use crate::daemon::{Daemon, Outputs, Requests};
use crate::flags::{HelperArgs, PROGRAM};
use crate::http;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::status::Status;

/// The daemon, the server of its control socket, and what resolves when it has to stop. Must be called inside a
/// runtime. The error is a line for a person.
pub(crate) async fn assemble(
    flags: &HelperArgs,
    settings: Settings,
    objects: Source,
    vlog: &Vlog,
) -> Result<(Daemon, Server, impl Future<Output = ()>), String> {
    let (status, latest) = watch::channel(Arc::new(Status::default()));
    let (sender, commands) = mpsc::channel(16);
    let metrics = Arc::new(Metrics::new());
    let paths = &settings.paths;
    let path = flags.daemon.unixctl_path(PROGRAM, paths);
    let path = path.unwrap_or_else(|| paths.ctl(PROGRAM, std::process::id()));
    let mut server = Server::bind(&path, PROGRAM, env!("CARGO_PKG_VERSION"), vlog).map_err(text)?;
    control::register(&mut server, &sender, &latest);
    if let Some(address) = settings.metrics_address {
        let listener = http::bind(address).await.map_err(|error| {
            format!("--metrics-address {address} cannot be opened: {error}; choose another port")
        })?;
        tokio::spawn(http::serve(listener, http::Pages { metrics: metrics.clone(), status: latest }));
    }
    let stop = stop_signal(server.exit_request())?;
    let (failover, failover_changed) = failover(&settings, metrics.clone(), status.clone())?;
    let sources = Sources::open(&settings, objects)?;
    let cache = PolicyCache::new(&settings.state_dir, &settings.bridge);
    let requests = Requests { commands, failover: failover_changed };
    let daemon = Daemon::new(settings, sources, requests, failover, Outputs { status, metrics, cache });
    Ok((daemon, server, stop))
}

fn failover(
    settings: &Settings,
    metrics: Arc<Metrics>,
    status: watch::Sender<Arc<Status>>,
) -> Result<(Failover, watch::Receiver<()>), String> {
    let (changes, changed) = watch::channel(());
    let db = settings.connections.local.first().cloned();
    let failover = Failover::start(
        FailoverConfig {
            bridge: settings.bridge.clone(),
            nic: settings.interface.clone(),
            pidfile: settings.paths.pidfile("ovs-vswitchd", ""),
            db: db.unwrap_or_else(|| Remote::unix(settings.paths.db_sock())),
            folder: Folder::below(&settings.state_dir),
            may_leave: settings.failover,
        },
        move |management| {
            metrics.record_management(management);
            // Published at once: the daemon itself may be waiting for a switch that is hung.
            status.send_modify(|status| Arc::make_mut(status).management = management.clone());
            changes.send_replace(());
        },
    )
    .map_err(text)?;
    Ok((failover, changed))
}

/// Resolves on SIGTERM, SIGINT, or the command `exit`.
fn stop_signal(mut exit: ExitRequest) -> Result<impl Future<Output = ()>, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(text)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(text)?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = exit.requested() => {}
        }
        tracing::info!("ending; flows and host paths stay in force");
    }))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
