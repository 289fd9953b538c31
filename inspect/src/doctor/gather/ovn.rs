//! OVN on this node: ovn-controller, br-int, and the databases that it and the helper use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ovs::openflow::{Connection, Cookies};
use ovs::ovsdb::Remote;
use ovs::ovsdb::blocking::Client;
use ovs::paths::Paths;

use super::super::snapshot::{DaemonSnapshot, DatabaseSnapshot, OvnSnapshot, ovn_setting};
use super::background;
use super::daemons::{daemon, running, runtime};
use helper::INTEGRATION_BRIDGE;
use helper::config::ConfigFile;
use helper::northbound_remotes;

/// Timeout of ovn-controller, of a database, and of br-int.
const TIMEOUT: Duration = Duration::from_secs(2);

const CONTROLLER: &str = "ovn-controller";

/// Observes all of it at the same time. `settings` are the switch's `external_ids`, which name the databases.
pub(super) fn observe(paths: &Paths, switch: &Paths, settings: BTreeMap<String, String>) -> OvnSnapshot {
    let deadline = Instant::now() + TIMEOUT + Duration::from_millis(500);
    let (own_paths, switch_paths) = (paths.clone(), switch.clone());
    let controller = background::spawn(move || controller(&own_paths));
    let flows = background::spawn(move || integration_flows(&switch_paths));
    let southbound = ovn_setting(&settings, "ovn-remote").map(|text| {
        ask_database(
            Remote::parse_list(text).map_err(|error| error.to_string()),
            "OVN_Southbound",
            "SB_Global",
        )
        .named(text.to_owned(), "external_ids:ovn-remote")
    });
    let northbound = northbound(paths, &settings);
    let controller = controller.wait_until(deadline).flatten();
    OvnSnapshot {
        name_overridden: name_overridden(controller.as_ref()),
        controller,
        southbound: southbound.map(|request| request.wait_until(deadline)),
        northbound: northbound.map(|request| request.wait_until(deadline)),
        integration_flows: flows.wait_until(deadline).flatten(),
        addresses: addresses(),
    }
}

/// ovn-controller by its pidfile, in OVN's run directory or, of older versions, in the switch's.
fn controller(paths: &Paths) -> Option<DaemonSnapshot> {
    let folders: [&Path; 2] = [&paths.ovn_rundir, &paths.rundir];
    folders.into_iter().find_map(|folder| {
        let pid = running(&folder.join(format!("{CONTROLLER}.pid")), CONTROLLER)?;
        let socket = folder.join(format!("{CONTROLLER}.{pid}.ctl"));
        Some(daemon(pid, &socket, "connection-status", TIMEOUT))
    })
}

/// `-n NAME`, or the file that overrides `external_ids:system-id` (ovn-controller(8)).
fn name_overridden(controller: Option<&DaemonSnapshot>) -> bool {
    let folder = std::env::var_os("OVN_SYSCONFDIR").map_or_else(|| PathBuf::from("/etc"), PathBuf::from);
    folder.join("ovn/system-id-override").exists()
        || controller
            .and_then(|daemon| host::process::Process::of(daemon.pid))
            .is_some_and(|process| process.has_argument("-n"))
}

fn integration_flows(switch: &Paths) -> Option<usize> {
    let address = format!("unix:{}", switch.bridge_mgmt(INTEGRATION_BRIDGE).display());
    runtime().ok()?.block_on(async {
        let flows = async { Connection::connect(&address).await?.aggregate(Cookies::ANY).await };
        let sums = tokio::time::timeout(TIMEOUT, flows).await.ok()?.ok()?;
        usize::try_from(sums.flows).ok()
    })
}

fn addresses() -> BTreeSet<IpAddr> {
    let Ok(socket) = host::rtnl::Socket::open() else { return BTreeSet::new() };
    let rows = socket.dump_all(host::rtnl::Kind::Address).unwrap_or_default();
    rows.iter().filter_map(host::rtnl::address::Address::of).filter_map(|row| row.local()).collect()
}

/// The northbound database that a helper started now would use.
fn northbound(paths: &Paths, settings: &BTreeMap<String, String>) -> Option<Database> {
    let path = paths.ovn_k8s_conf();
    let text = host::regular_file::read_text(&path).ok();
    let file = text.and_then(|text| ConfigFile::parse(&path, &text).ok());
    let from_file = file.as_ref().and_then(|file| file.get("nb_db"));
    let (remotes, configured_by) = match (from_file, settings.get("ovn-nb")) {
        (Some(text), _) => {
            (Remote::parse_list(text).map_err(|error| error.to_string()), "ovn_k8s.conf: nb_db")
        }
        (None, Some(text)) => {
            (Remote::parse_list(text).map_err(|error| error.to_string()), "external_ids:ovn-nb")
        }
        (None, None) => (northbound_remotes(&[], None, paths), "its socket on this node"),
    };
    // Not configured, and not on this node.
    if remotes.is_err() && from_file.is_none() && !settings.contains_key("ovn-nb") {
        return None;
    }
    let origin = match (&remotes, from_file.or(settings.get("ovn-nb").map(String::as_str))) {
        (_, Some(text)) => text.to_owned(),
        (Ok(remotes), None) => helper::origin(remotes),
        (Err(_), None) => String::new(),
    };
    Some(ask_database(remotes, "OVN_Northbound", "NB_Global").named(origin, configured_by))
}

/// A database whose servers have been asked.
struct Database {
    origin: String,
    configured_by: &'static str,
    /// The requests, each with its server.
    requests: Vec<(String, background::Pending<Result<(), String>>)>,
    /// Why none was sent.
    error: Option<String>,
}

fn ask_database(
    remotes: Result<Vec<Remote>, String>,
    database: &'static str,
    table: &'static str,
) -> Database {
    let (remotes, error) = match remotes {
        Ok(remotes) => (remotes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let plain = remotes.into_iter().filter(|remote| !matches!(remote, Remote::Ssl(_)));
    let requests =
        plain.map(|remote| (remote.to_string(), background::spawn(move || serves(&remote, database, table))));
    Database { origin: String::new(), configured_by: "", requests: requests.collect(), error }
}

/// Whether a server answers a query of this database.
fn serves(remote: &Remote, database: &str, table: &str) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut client = Client::connect_to(remote, database, TIMEOUT).map_err(|error| error.to_string())?;
    client.select(table, &["_uuid"], deadline).map(drop).map_err(|error| error.to_string())
}

impl Database {
    fn named(self, origin: String, configured_by: &'static str) -> Self {
        Self { origin, configured_by, ..self }
    }

    /// Waits for the answers. One server of a cluster is enough.
    fn wait_until(self, deadline: Instant) -> DatabaseSnapshot {
        let none = self.requests.is_empty() && self.error.is_none();
        let mut why: Vec<String> = self.error.into_iter().collect();
        let mut reached = false;
        for (name, request) in self.requests {
            match request.wait_until(deadline) {
                Some(Ok(())) => reached = true,
                Some(Err(error)) => why.push(error),
                None => why.push(format!("{name}: no answer in {} s", TIMEOUT.as_secs())),
            }
        }
        let answer = match (none, reached) {
            (true, _) => None,
            (false, true) => Some(Ok(())),
            (false, false) => Some(Err(why.join("; "))),
        };
        DatabaseSnapshot { origin: self.origin, configured_by: self.configured_by, answer }
    }
}
