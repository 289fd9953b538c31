//! `--cleanup`: takes away what this helper made, and nothing else. The node stays reachable: the bridge's own
//! `NORMAL` flow is not ours.

use host::rtnl::asynchronous::AsyncSocket;
use ovs::openflow::Connection;
use ovs::paths::Paths;

use super::bridge::{BridgeView, remove_patch};
use super::cache::PolicyCache;
use super::database::{FollowedDatabase, local_snapshot};
use super::flags::{HelperArgs, PROGRAM};
use super::restore_wait;
use super::start::StartupArgs;
use crate::host_paths::HostPaths;
use flows::cookie;

/// Cleans up; goes on after an error and reports them all.
pub(crate) async fn run(flags: &HelperArgs, told: &StartupArgs, paths: &Paths) -> Result<(), String> {
    refuse_while_running(paths).await?;
    let mut errors = Vec::new();
    let settings = flags.settings();
    let snapshot = local_snapshot(&told.local).await?;
    let followed = FollowedDatabase::local(told.local.clone());
    followed.db.wait_synced().await;
    let bridge = BridgeView::of(&snapshot, &told.bridge, &settings.interface);
    let mut operations = remove_patch(&snapshot, &told.bridge);
    let patch = !operations.is_empty();
    // An operator's or ovs-ctl's key is not ours to take.
    if restore_wait::is_ours(&bridge) {
        operations.extend(restore_wait::operations(false));
    }
    let done = if operations.is_empty() { Ok(Vec::new()) } else { followed.db.transact(operations).await };
    match done {
        Ok(_) => println!("{}", if patch { "patch ports: removed" } else { "patch ports: none of ours" }),
        Err(error) => errors.push(format!("patch ports: {error}")),
    }
    match clear_flows(paths, &told.bridge).await {
        Err(_) if !bridge.present => println!("flows: there is no bridge {}", told.bridge),
        Ok(count) => println!("flows: {count} removed"),
        Err(error) => errors.push(format!("flows: {error}")),
    }
    // Routes and nft live in this namespace; a netlink socket that cannot be opened is said once.
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
    let Ok(socket) = ovs::unixctl::Client::find(PROGRAM, paths) else { return Ok(()) };
    match ovs::unixctl::Client::connect(&socket).await {
        Ok(_) => Err(format!("a helper is running; end it first with ovs-appctl -t {PROGRAM} exit")),
        Err(_) => Ok(()),
    }
}

async fn clear_flows(paths: &Paths, bridge: &str) -> Result<u32, ovs::openflow::Error> {
    let connection = Connection::connect(&format!("unix:{}", paths.bridge_mgmt(bridge).display())).await?;
    let count = connection.aggregate(cookie::cookies()).await?.flows;
    let all = ovs::openflow::FlowMod::DeleteAll { cookies: cookie::cookies(), table: None };
    connection.bundle(&[all]).await?;
    Ok(count)
}
