//! A database that is followed: the local one, or the northbound one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ovs::ovsdb::{Config, Db, OpResult, Operation, Remote, Snapshot, Status, TlsFiles};
use ovs::paths::Paths;
use ovs::rows::{nb, vswitch};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::northbound;

/// How long the local database may take to answer before the program gives up: a start, detached or not, is waited for.
pub(crate) const LOCAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a transaction may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(3);

/// A database, its changes, and where it is.
#[derive(Debug)]
pub(crate) struct FollowedDatabase {
    /// The database.
    pub(crate) db: Db,
    /// Changes when the content or the connection does.
    pub(crate) changes: watch::Receiver<Status>,
    /// Its addresses, as [`origin`] writes them.
    pub(crate) origin: String,
}

impl FollowedDatabase {
    fn new(config: Config) -> Self {
        let origin = origin(&config.remotes);
        let db = Db::spawn(config);
        Self { changes: db.subscribe(), db, origin }
    }

    /// The local database.
    pub(crate) fn local(remotes: Vec<Remote>) -> Self {
        let mut config = Config::new(remotes, vswitch::DATABASE);
        config.monitors = vswitch::monitors();
        Self::new(config)
    }

    /// The northbound database, as far as the gateway router of one logical port goes.
    pub(crate) fn northbound(remotes: Vec<Remote>, tls: Option<TlsFiles>, iface_id: &str) -> Self {
        let mut config = Config::new(remotes, nb::DATABASE);
        config.tls = tls;
        config.monitors = northbound::monitors(iface_id);
        Self::new(config)
    }

    /// Whether its whole content was read at least once.
    pub(crate) fn known(&self) -> bool {
        self.changes.borrow().generation() > 0
    }

    /// Carries out a transaction. The error is a line for a person; a database that is stopped keeps its socket open
    /// and never answers, which is an error after a while.
    pub(crate) async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<OpResult>, String> {
        match timeout(TRANSACTION_TIMEOUT, self.db.transact(operations)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err(format!("{} does not answer", self.origin)),
        }
    }

    /// Why it is not connected, if it is not.
    pub(crate) fn error(&self) -> Option<String> {
        match &*self.changes.borrow() {
            Status::Synced { .. } => None,
            Status::Connecting { last_error, .. } => {
                Some(last_error.as_deref().unwrap_or("no answer yet").to_owned())
            }
        }
    }
}

/// The local database's content, or why it cannot be read.
pub(crate) async fn local_snapshot(remotes: &[Remote]) -> Result<Arc<Snapshot>, String> {
    let database = FollowedDatabase::local(remotes.to_vec());
    timeout(LOCAL_TIMEOUT, database.db.wait_synced()).await.map_err(|_| {
        format!(
            "the Open_vSwitch database {} does not answer: {}; is ovsdb-server running? (--db names another)",
            database.origin,
            database.error().unwrap_or_default()
        )
    })
}

/// The addresses of a database, separated by commas: for people, and to tell one database from another.
pub fn origin(remotes: &[Remote]) -> String {
    remotes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where the northbound database is: `given` by a flag or the settings file, else `external_ids:ovn-nb`, else the
/// socket on this machine. The error is a line for a person.
pub fn northbound_remotes(
    given: &[Remote],
    ovn_nb: Option<&str>,
    paths: &Paths,
) -> Result<Vec<Remote>, String> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if let Some(text) = ovn_nb {
        return Remote::parse_list(text).map_err(|error| format!("external_ids:ovn-nb: {error}"));
    }
    let socket: PathBuf = paths.nb_sock();
    if socket.exists() {
        return Ok(vec![Remote::unix(socket)]);
    }
    Err("OVN central database's ip address not set: set external_ids:ovn-nb, or give --nb-db".to_owned())
}
