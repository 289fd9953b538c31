//! `--cleanup`: removes what this helper made, and nothing else. The node stays reachable: the bridge's own `NORMAL` flow
//! is not ours.

use flows::cookie;
use host::rtnl::asynchronous::AsyncSocket;
use ovs::openflow::{Connection, Error, FlowMod};
use ovs::paths::Paths;
use ovs::unixctl::Client;

use crate::bridge::{BridgeView, remove_patch};
use crate::cache::PolicyCache;
use crate::database::{FollowedDatabase, local_snapshot};
use crate::flags::PROGRAM;
use crate::host_paths::HostPaths;
use crate::restore_wait;
use crate::settings::Settings;

/// Cleans up; goes on after an error and reports them all.
pub(crate) async fn run(settings: &Settings) -> Result<(), String> {
    refuse_while_running(&settings.paths).await?;
    let mut errors = Vec::new();
    let snapshot = local_snapshot(&settings.connections.local).await?;
    let database = FollowedDatabase::local(settings.connections.local.clone());
    database.db.wait_synced().await;
    let bridge = BridgeView::of(&snapshot, &settings.bridge, &settings.interface);
    let mut operations = remove_patch(&snapshot, &settings.bridge);
    let patch = !operations.is_empty();
    // A key that an operator or ovs-ctl set stays.
    if restore_wait::is_ours(&bridge) {
        operations.extend(restore_wait::operations(false));
    }
    let done = if operations.is_empty() { Ok(Vec::new()) } else { database.db.transact(operations).await };
    match done {
        Ok(_) => println!("{}", if patch { "patch ports: removed" } else { "patch ports: none of ours" }),
        Err(error) => errors.push(format!("patch ports: {error}")),
    }
    match clear_flows(&settings.paths, &settings.bridge).await {
        Err(_) if !bridge.present => println!("flows: there is no bridge {}", settings.bridge),
        Ok(count) => println!("flows: {count} removed"),
        Err(error) => errors.push(format!("flows: {error}")),
    }
    // Routes and nft live in this namespace; a netlink socket that cannot be opened is one error.
    match AsyncSocket::open().and_then(|_| HostPaths::open(&settings.state_dir)) {
        Ok(mut host) => {
            let failed = host.cleanup().await;
            if failed.is_empty() {
                println!("routes, nft table, sysctls: removed");
            }
            errors.extend(failed.into_iter().map(|error| format!("host paths: {error}")));
        }
        Err(error) => errors.push(format!("host paths: {error}")),
    }
    if let Err(error) = PolicyCache::new(&settings.state_dir, &settings.bridge).remove() {
        errors.push(format!("state folder: {error}"));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// A running helper would put everything back.
async fn refuse_while_running(paths: &Paths) -> Result<(), String> {
    let Ok(socket) = Client::find(PROGRAM, paths) else { return Ok(()) };
    match Client::connect(&socket).await {
        Ok(_) => Err(format!("a helper is running; end it first with ovs-appctl -t {PROGRAM} exit")),
        Err(_) => Ok(()),
    }
}

async fn clear_flows(paths: &Paths, bridge: &str) -> Result<u32, Error> {
    let connection = Connection::connect(&format!("unix:{}", paths.bridge_mgmt(bridge).display())).await?;
    let count = connection.aggregate(cookie::cookies()).await?.flows;
    connection.bundle(&[FlowMod::DeleteAll { cookies: cookie::cookies(), table: None }]).await?;
    Ok(count)
}
