//! A native OVSDB client: RFC 7047 with the extensions of ovsdb-server(7), over unix sockets, TCP and TLS.
//!
//! [`Db::spawn`] begins to follow a database and gives a handle at once. Behind it one task holds the
//! connection and the cache:
//!
//! ```text
//! server -> framing -> session (replies, updates) -> Snapshot -> watch: "changed"
//! server <- writer task <- session <- Db::transact, Db::lock
//! ```
//!
//! - The cache is an immutable [`Snapshot`] of the monitored tables and columns, replaced as a whole. A
//!   subscriber learns only that something changed; changes coalesce.
//! - A lost connection leaves the last snapshot. The full content read after a reconnection is compared with
//!   it row by row: nothing is seen to vanish and come back.
//! - A transaction is sent once. If the connection ends before its reply, the caller gets an error that
//!   says so ([`Error::OutcomeUnknown`]), and decides by the next snapshot.
//! - Writing never waits for reading, nor reading for writing: both sides' socket buffers may be full.
//! - Of a cluster only members that are connected to it are used, on request only its leader, and none whose
//!   data is older than what was seen.
//!
//! ```no_run
//! # async fn example() -> Result<(), ovs::ovsdb::Error> {
//! use ovs::ovsdb::{Config, Db, Operation, Remote};
//! use ovs::rows::{TypedRow, vswitch};
//!
//! let remotes = Remote::parse_list("unix:/var/run/openvswitch/db.sock")?;
//! let monitors = vswitch::monitors();
//! let db = Db::spawn(Config { monitors, ..Config::new(remotes, vswitch::DATABASE) });
//! let mut changes = db.subscribe();
//! let snapshot = db.wait_synced().await;
//! if let Some(bridge) = vswitch::Bridge::named(&snapshot, "breth0") {
//!     let mark = Operation::mutate("Bridge").row(bridge.uuid).put_key("external_ids", "seen", "yes");
//!     db.transact(vec![mark]).await?;
//! }
//! while changes.changed().await.is_ok() {
//!     println!("changed: {}", db.snapshot().generation());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`blocking::Client`] does the same without a runtime, one request at a time, for programs that do not follow.
//!
//! It never writes on its own, keeps only monitored columns, and trusts no TLS server whose
//! certificate does not come from the CA given. The *name* in that certificate is not checked: certificates
//! made by ovs-pki(8) do not carry it, and OVS itself does not compare it.

pub mod blocking;
mod command;
mod config;
mod connection;
mod db;
pub mod decode;
mod error;
pub mod framing;
pub(crate) mod fuzz;
mod locks;
mod member;
mod message;
mod operation;
mod remote;
mod schema;
mod session;
mod shared;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod updates;
mod value;

pub use config::{Backoff, Config, MonitorTable};
pub use db::Db;
pub use error::Error;
pub use locks::Lock;
pub use operation::{Condition, OpResult, Operation};
pub use remote::{DEFAULT_PORT, Endpoint, Remote, TlsFiles};
pub use schema::{AtomType, ColumnSchema, ColumnType, Schema, TableSchema};
pub use shared::Status;
pub use snapshot::{Row, Snapshot, Table};
pub use value::{Atom, Datum, NotAUuid, Real, Uuid};
