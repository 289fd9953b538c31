//! What is checked before the program detaches: the local database answers, the bridge holds the NIC, the source of
//! Kubernetes objects can be reached by its settings. A fault ends in one line with a remedy.

use kubernetes::ClientConfig;
use tokio::time::timeout;
use uplink::cut_off;
use uplink::journal::Folder;

use crate::bridge::BridgeView;
use crate::database::{FollowedDatabase, LOCAL_TIMEOUT, local_snapshot};
use crate::flags::PROGRAM;
use crate::object_source;
use crate::restore_wait;
use crate::settings::Settings;

/// The bridge in the local database.
pub(crate) async fn detect(settings: &Settings) -> Result<BridgeView, String> {
    let snapshot = local_snapshot(&settings.connections.local).await?;
    Ok(BridgeView::of(&snapshot, &settings.bridge, &settings.interface))
}

/// Checks the settings against the bridge; the API server's client, if there is to be one. A `dry_run` needs no bridge.
pub(crate) fn check(
    settings: &Settings,
    bridge: &BridgeView,
    dry_run: bool,
) -> Result<Option<ClientConfig>, String> {
    if !dry_run {
        bridge_is_usable(settings, bridge)?;
    }
    object_source::client(&settings.connections.objects, &bridge.external_ids)
}

fn bridge_is_usable(settings: &Settings, view: &BridgeView) -> Result<(), String> {
    let (bridge, interface) = (&settings.bridge, &settings.interface);
    if !view.present {
        return Err(format!(
            "physical bridge {bridge} does not exist; create it and put {interface} and its addresses on it, or name another with --physical-bridge"
        ));
    }
    if !view.uplink_listed {
        return Err(format!(
            "physical-interface {interface} is invalid: it is no port of {bridge}; name the NIC that is (ovs-vsctl list-ports {bridge}), or add it with ovs-vsctl add-port {bridge} {interface}"
        ));
    }
    Ok(())
}

/// Removes a `flow-restore-wait` that a helper set: ovs-vswitchd may wait for flows that no helper will write now.
pub(crate) async fn release_switch(settings: &Settings) -> Result<(), String> {
    let database = FollowedDatabase::local(settings.connections.local.clone());
    let released = async {
        database.db.wait_synced().await;
        database.transact(restore_wait::operations(false)).await.map(drop)
    };
    timeout(LOCAL_TIMEOUT, released).await.unwrap_or_else(|_| Err("the database does not answer".to_owned()))
}

/// The helper cannot start, so no failover runs: management may be on a bridge that carries nothing.
pub(crate) fn restore_management(settings: &Settings) {
    if !settings.failover {
        return;
    }
    match cut_off(&Folder::below(&settings.state_dir), &settings.bridge) {
        Ok(lines) => lines.iter().for_each(|line| cli::note(format!("{PROGRAM}: {line}"))),
        Err(error) => cli::note(format!("{PROGRAM}: management may be cut off: {error}")),
    }
}
