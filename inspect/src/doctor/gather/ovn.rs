//! OVN on this node: ovn-controller, and the two databases it and the helper live by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ovs::openflow::{Connection, Cookies};
use ovs::ovsdb::Remote;
use ovs::ovsdb::blocking::Client;
use ovs::paths::Paths;

use super::super::snapshot::{Answers, DatabaseSeen, OvnSeen};
use super::daemons::{answers, running, runtime};
use super::timeout;
use crate::doctor::checks::ovn_setting;
use helper::INTEGRATION_BRIDGE;
use helper::config::ConfigFile;
use helper::northbound_remotes;

/// How long ovn-controller, a database, or br-int may take.
const PATIENCE: Duration = Duration::from_secs(2);

const CONTROLLER: &str = "ovn-controller";

/// Looks at all of it. `settings` are the switch's `external_ids`; without them the databases are not known.
pub(super) fn look(paths: &Paths, switch: &Paths, settings: BTreeMap<String, String>) -> OvnSeen {
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(500);
    let (here, there) = (paths.clone(), switch.clone());
    let controller = timeout::ask(move || controller(&here));
    let flows = timeout::ask(move || integration_flows(&there));
    let southbound = ovn_setting(&settings, "ovn-remote").map(|text| {
        ask_database(
            Remote::parse_list(text).map_err(|error| error.to_string()),
            "OVN_Southbound",
            "SB_Global",
        )
        .named(text.to_owned(), "external_ids:ovn-remote")
    });
    let northbound = northbound(paths, &settings);
    let controller = controller.by(deadline).flatten();
    OvnSeen {
        named_otherwise: named_otherwise(controller.as_ref()),
        controller,
        southbound: southbound.map(|asked| asked.by(deadline)),
        northbound: northbound.map(|asked| asked.by(deadline)),
        integration_flows: flows.by(deadline).flatten(),
        addresses: addresses(),
    }
}

/// By its pidfile: its own folder's, or the switch's, where older versions have it.
fn controller(paths: &Paths) -> Option<Answers> {
    let folders: [&Path; 2] = [&paths.ovn_rundir, &paths.rundir];
    folders.into_iter().find_map(|folder| {
        let pid = running(&folder.join(format!("{CONTROLLER}.pid")), CONTROLLER)?;
        let socket = folder.join(format!("{CONTROLLER}.{pid}.ctl"));
        Some(answers(pid, &socket, "connection-status", PATIENCE))
    })
}

/// `-n NAME`, or the file that overrides `external_ids:system-id` (ovn-controller(8)).
fn named_otherwise(controller: Option<&Answers>) -> bool {
    let folder = std::env::var_os("OVN_SYSCONFDIR").map_or_else(|| PathBuf::from("/etc"), PathBuf::from);
    folder.join("ovn/system-id-override").exists()
        || controller
            .and_then(|answers| host::process::Process::of(answers.pid))
            .is_some_and(|process| process.has_argument("-n"))
}

fn integration_flows(switch: &Paths) -> Option<usize> {
    let address = format!("unix:{}", switch.bridge_mgmt(INTEGRATION_BRIDGE).display());
    runtime().ok()?.block_on(async {
        let flows = async { Connection::connect(&address).await?.aggregate(Cookies::ANY).await };
        let sums = tokio::time::timeout(PATIENCE, flows).await.ok()?.ok()?;
        usize::try_from(sums.flows).ok()
    })
}

fn addresses() -> BTreeSet<IpAddr> {
    let Ok(socket) = host::rtnl::Socket::open() else { return BTreeSet::new() };
    let rows = socket.dump_all(host::rtnl::Kind::Address).unwrap_or_default();
    rows.iter().filter_map(host::rtnl::address::Address::of).filter_map(|row| row.local()).collect()
}

/// Where a helper that was started now would look for it.
fn northbound(paths: &Paths, settings: &BTreeMap<String, String>) -> Option<Database> {
    let path = paths.ovn_k8s_conf();
    let text = host::regular_file::read_text(&path).ok();
    let file = text.and_then(|text| ConfigFile::parse(&path, &text).ok());
    let told = file.as_ref().and_then(|file| file.get("nb_db"));
    let (remotes, told_by) = match (told, settings.get("ovn-nb")) {
        (Some(text), _) => {
            (Remote::parse_list(text).map_err(|error| error.to_string()), "ovn_k8s.conf: nb_db")
        }
        (None, Some(text)) => {
            (Remote::parse_list(text).map_err(|error| error.to_string()), "external_ids:ovn-nb")
        }
        (None, None) => (northbound_remotes(&[], None, paths), "its socket on this node"),
    };
    // Nobody said where it is, and it is not here.
    if remotes.is_err() && told.is_none() && !settings.contains_key("ovn-nb") {
        return None;
    }
    let origin = match (&remotes, told.or(settings.get("ovn-nb").map(String::as_str))) {
        (_, Some(text)) => text.to_owned(),
        (Ok(remotes), None) => helper::origin(remotes),
        (Err(_), None) => String::new(),
    };
    Some(ask_database(remotes, "OVN_Northbound", "NB_Global").named(origin, told_by))
}

/// A database that is being asked.
struct Database {
    origin: String,
    told_by: &'static str,
    /// Servers that are asked, each with its name.
    asked: Vec<(String, timeout::Asked<Result<(), String>>)>,
    /// Why none is.
    wrong: Option<String>,
}

fn ask_database(
    remotes: Result<Vec<Remote>, String>,
    database: &'static str,
    table: &'static str,
) -> Database {
    let (remotes, wrong) = match remotes {
        Ok(remotes) => (remotes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let plain = remotes.into_iter().filter(|remote| !matches!(remote, Remote::Ssl(_)));
    let asked =
        plain.map(|remote| (remote.to_string(), timeout::ask(move || serves(&remote, database, table))));
    Database { origin: String::new(), told_by: "", asked: asked.collect(), wrong }
}

/// Whether a server answers a question about this database.
fn serves(remote: &Remote, database: &str, table: &str) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = Client::connect_to(remote, database, PATIENCE).map_err(|error| error.to_string())?;
    client.select(table, &["_uuid"], deadline).map(drop).map_err(|error| error.to_string())
}

impl Database {
    fn named(self, origin: String, told_by: &'static str) -> Self {
        Self { origin, told_by, ..self }
    }

    /// One server of a cluster is enough.
    fn by(self, deadline: Instant) -> DatabaseSeen {
        let none = self.asked.is_empty() && self.wrong.is_none();
        let mut why: Vec<String> = self.wrong.into_iter().collect();
        let mut reached = false;
        for (name, asked) in self.asked {
            match asked.by(deadline) {
                Some(Ok(())) => reached = true,
                Some(Err(error)) => why.push(error),
                None => why.push(format!("{name}: no answer in {} s", PATIENCE.as_secs())),
            }
        }
        let answer = match (none, reached) {
            (true, _) => None,
            (false, true) => Some(Ok(())),
            (false, false) => Some(Err(why.join("; "))),
        };
        DatabaseSeen { origin: self.origin, told_by: self.told_by, answer }
    }
}
