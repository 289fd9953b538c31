//! From the command line to the loop: everything that can be found wrong is found before detaching, in one line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use host::rtnl::asynchronous::AsyncSocket;
use kubernetes::{ClientConfig, NodeSettings, Source, Watch};
use ovs::daemon::daemonize;
use ovs::ovsdb::{Remote, TlsFiles};
use ovs::paths::Paths;
use ovs::unixctl::Server;
use ovs::vlog::{Module, Vlog};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::bridge::BridgeView;
use super::daemon::{Helper, HelperParts};
use super::database::{FollowedDatabase, LOCAL_TIMEOUT, local_snapshot};
use super::flags::{HelperArgs, PROGRAM};
use super::host_task::HostTask;
use super::metrics::Metrics;
use super::status::Status;
use super::{cleanup, control, dry_run, http, restore_wait};
use uplink::failover::{Failover, FailoverConfig};
use uplink::journal::Folder;
use uplink::recover;

/// Names that operators know from the original, and the parts they stand for.
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
    let vlog = Vlog::init(PROGRAM, &flags.vlog, &MODULES, paths).map_err(text)?;
    let told = StartupArgs::read(flags, paths)?;
    // A runtime of its own, gone before the fork: threads do not survive one.
    let found = match single_threaded()?.block_on(look(&told, flags)) {
        Ok(found) => found,
        Err(line) => {
            keep_reachable(flags);
            return Err(line);
        }
    };
    if flags.cleanup {
        return single_threaded()?.block_on(cleanup::run(flags, &told, paths));
    }
    let client = match found.check(flags) {
        Ok(client) => client,
        Err(line) => {
            // vswitchd may be waiting for flows that nobody will write now: the node would stay cut off.
            if !flags.dry_run && restore_wait::is_ours(&found.bridge) {
                single_threaded()?.block_on(release_switch(&told))?;
            }
            return Err(line);
        }
    };
    if flags.dry_run {
        return single_threaded()?.block_on(dry_run::run(flags, &told, paths, client));
    }
    let starting = daemonize(&flags.daemon, PROGRAM, paths).map_err(text)?;
    vlog.start_writer();
    let outcome = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?
        .block_on(async {
            let (helper, server, stop) = assemble(flags, &told, paths, client, &vlog).await?;
            let running = starting.complete().map_err(text)?;
            tracing::info!("{PROGRAM} {} is at work on {}", env!("CARGO_PKG_VERSION"), told.bridge);
            let control = tokio::spawn(server.run());
            helper.run(stop).await;
            control.abort();
            drop(running);
            Ok(())
        });
    vlog.flush();
    outcome
}

/// Nobody keeps management alive while we cannot begin: it may be on a bridge that carries nothing.
fn keep_reachable(flags: &HelperArgs) {
    let settings = flags.settings();
    if flags.cleanup || flags.dry_run || !settings.failover {
        return;
    }
    match recover::cut_off(&Folder::below(&settings.state_dir), &settings.bridge) {
        Ok(lines) => lines.iter().for_each(|line| cli::note(format!("{PROGRAM}: {line}"))),
        Err(error) => cli::note(format!("{PROGRAM}: management may be cut off: {error}")),
    }
}

/// What was told and is not for the loop.
#[derive(Debug)]
pub(crate) struct StartupArgs {
    /// The bridge.
    pub(crate) bridge: String,
    /// The local database.
    pub(crate) local: Vec<Remote>,
    /// The northbound database, where told.
    pub(crate) nb: Vec<Remote>,
    /// Key and certificates for it.
    pub(crate) tls: Option<TlsFiles>,
}

impl StartupArgs {
    fn read(flags: &HelperArgs, paths: &Paths) -> Result<Self, String> {
        let local = match &flags.db {
            Some(text_) => Remote::parse_list(text_).map_err(|error| format!("--db: {error}"))?,
            None => vec![Remote::unix(paths.db_sock())],
        };
        let nb = match &flags.nb_db {
            Some(text_) => Remote::parse_list(text_).map_err(|error| format!("--nb-db: {error}"))?,
            None => Vec::new(),
        };
        let file = |told: &Option<PathBuf>, default: &str| told.clone().unwrap_or_else(|| default.into());
        let tls = TlsFiles {
            private_key: file(&flags.nb_privkey, "/etc/openvswitch/ovncontroller-privkey.pem"),
            certificate: file(&flags.nb_cert, "/etc/openvswitch/ovncontroller-cert.pem"),
            ca: file(&flags.nb_cacert, "/etc/openvswitch/ovnnb-ca.cert"),
        };
        let bridge = flags.physical_bridge.clone().unwrap_or_default();
        Ok(StartupArgs { bridge, local, nb, tls: Some(tls) })
    }
}

/// What the local database said at the start.
struct Found {
    bridge: BridgeView,
    external_ids: BTreeMap<String, String>,
}

impl Found {
    /// Everything that can be known to be wrong before detaching; the API server's client, if there is to be one.
    fn check(&self, flags: &HelperArgs) -> Result<Option<ClientConfig>, String> {
        if !flags.dry_run {
            self.bridge_is_usable(flags)?;
        }
        match &flags.manifests {
            Some(folder) => readable(folder).map(|()| None),
            None => {
                ClientConfig::from_settings(&node_settings(flags, &self.external_ids)).map(Some).map_err(text)
            }
        }
    }

    fn bridge_is_usable(&self, flags: &HelperArgs) -> Result<(), String> {
        let (bridge, view) = (&self.bridge.name, &self.bridge);
        let interface = flags.physical_interface.as_deref().unwrap_or_default();
        if !view.present {
            return Err(format!(
                "physical bridge {bridge} does not exist; make it and put {interface} and its addresses on it, or name another with --physical-bridge"
            ));
        }
        if !view.uplink_listed {
            return Err(format!(
                "physical-interface {interface} is invalid: it is no port of {bridge}; name the NIC that is (ovs-vsctl list-ports {bridge}), or add it with ovs-vsctl add-port {bridge} {interface}"
            ));
        }
        Ok(())
    }
}

/// Takes an armed `flow-restore-wait` of ours away.
async fn release_switch(told: &StartupArgs) -> Result<(), String> {
    let followed = FollowedDatabase::local(told.local.clone());
    let released = async {
        followed.db.wait_synced().await;
        followed.db.transact(restore_wait::operations(false)).await.map(drop).map_err(text)
    };
    timeout(LOCAL_TIMEOUT, released).await.unwrap_or_else(|_| Err("the database does not answer".to_owned()))
}

async fn look(told: &StartupArgs, flags: &HelperArgs) -> Result<Found, String> {
    let snapshot = local_snapshot(&told.local).await?;
    let interface = flags.physical_interface.as_deref().unwrap_or_default();
    let bridge = BridgeView::of(&snapshot, &told.bridge, interface);
    Ok(Found { external_ids: bridge.external_ids.clone(), bridge })
}

/// The API server's settings: flags first, then the switch's `external_ids`.
pub(crate) fn node_settings(flags: &HelperArgs, external_ids: &BTreeMap<String, String>) -> NodeSettings {
    let of = |key: &str| external_ids.get(key).cloned();
    NodeSettings {
        api_server: flags.k8s_api_server.clone().or_else(|| of("k8s-api-server")),
        ca_certificate: if flags.k8s_ca_file.is_some() { None } else { of("k8s-ca-certificate") },
        ca_file: flags.k8s_ca_file.clone().or_else(|| Some("/etc/openvswitch/k8s-ca.crt".into())),
        api_token: if flags.k8s_token_file.is_some() { None } else { of("k8s-api-token") },
        token_file: flags.k8s_token_file.clone(),
        allow_insecure_token: flags.allow_insecure_token,
    }
}

/// The source of Kubernetes objects.
pub(crate) fn source(flags: &HelperArgs, client: Option<ClientConfig>) -> Result<Source, String> {
    match (client, &flags.manifests) {
        (Some(client), _) => Ok(Source::api(client, Watch { node: flags.node_name.clone() })),
        (None, Some(folder)) => Source::manifests(folder).map_err(text),
        (None, None) => {
            Err("K8S_API_SERVER not set: set external_ids:k8s-api-server, or give --manifests".to_owned())
        }
    }
}

async fn assemble(
    flags: &HelperArgs,
    told: &StartupArgs,
    paths: &Paths,
    client: Option<ClientConfig>,
    vlog: &Vlog,
) -> Result<(Helper, Server, impl Future<Output = ()>), String> {
    let settings = flags.settings();
    let (status, latest) = watch::channel(Arc::new(Status::default()));
    let (sender, requests) = mpsc::channel(16);
    let metrics = Arc::new(Metrics::new());
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
    let (news, failover_news) = watch::channel(());
    let (numbers, said) = (metrics.clone(), status.clone());
    let failover = Failover::start(
        FailoverConfig {
            bridge: settings.bridge.clone(),
            nic: settings.interface.clone(),
            pidfile: paths.pidfile("ovs-vswitchd", ""),
            db: told.local.first().cloned().unwrap_or_else(|| Remote::unix(paths.db_sock())),
            folder: Folder::below(&settings.state_dir),
            may_leave: settings.failover,
        },
        move |management| {
            numbers.keep(management);
            // Said at once: the helper itself may be waiting for a switch that stands still.
            said.send_modify(|status| Arc::make_mut(status).management = management.clone());
            news.send_replace(());
        },
    )
    .map_err(text)?;
    let helper = Helper::new(HelperParts {
        host: HostTask::spawn(settings.state_dir.clone(), metrics.clone()),
        settings,
        flags: flags.clone(),
        paths: paths.clone(),
        local: FollowedDatabase::local(told.local.clone()),
        nb: told.nb.clone(),
        tls: told.tls.clone(),
        source: source(flags, client)?,
        netlink: AsyncSocket::open().map_err(text)?,
        netlink_news: host::rtnl::asynchronous::watch().map_err(text)?,
        failover,
        failover_news,
        requests,
        status,
        metrics,
    });
    Ok((helper, server, stop))
}

/// Resolves on SIGTERM, SIGINT, or the command `exit`.
fn stop_signal(mut exit: ovs::unixctl::ExitRequest) -> Result<impl Future<Output = ()>, String> {
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

fn readable(folder: &std::path::Path) -> Result<(), String> {
    std::fs::read_dir(folder)
        .map(drop)
        .map_err(|error| format!("--manifests {}: {error}; give a folder of YAML files", folder.display()))
}

fn single_threaded() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
