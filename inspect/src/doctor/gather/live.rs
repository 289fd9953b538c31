//! The helper's word and the bridges' flows, read so close to each other that they can be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ovs::openflow::Connection;
use ovs::paths::Paths;
use tokio::task::JoinSet;

use super::super::snapshot::{HelperSeen, TableSeen};
use super::daemons::{call, is_called, runtime};
use crate::doctor::checks::agree;
use helper::PROGRAM;
use helper::status::Status;

/// How long the helper may take. It gives its last word itself after three seconds when its loop waits for a switch.
const HELPER: Duration = Duration::from_secs(4);

/// How long a bridge may take for its ports and all its flows.
const BRIDGE: Duration = Duration::from_secs(2);

/// For so long flows and the helper's word are read again when they differ: Services come and go, and what somebody
/// else changes is put right by the helper in a moment.
const CATCHING_UP: Duration = Duration::from_millis(1500);

/// What is read.
#[derive(Default)]
pub(super) struct Live {
    pub(super) helper: Option<HelperSeen>,
    pub(super) tables: Tables,
}

type Tables = BTreeMap<String, Result<TableSeen, String>>;

/// Reads the flows of these bridges, and the helper's word.
pub(super) fn look(helper: &Paths, switch: &Paths, bridges: &[String]) -> Live {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let tables = bridges.iter().map(|bridge| (bridge.clone(), Err(error.clone())));
            return Live { helper: None, tables: tables.collect() };
        }
    };
    runtime.block_on(async {
        let first = read(helper, switch, bridges).await;
        let before = repaired(&first);
        let (mut live, deadline) = (first, Instant::now() + CATCHING_UP);
        while !agrees(&live) && Instant::now() < deadline {
            tokio::time::sleep(CATCHING_UP / 10).await;
            live = read(helper, switch, bridges).await;
        }
        let after = repaired(&live);
        if let Some(seen) = &mut live.helper {
            seen.repaired_meanwhile = after.saturating_sub(before);
        }
        live
    })
}

async fn read(paths: &Paths, switch: &Paths, bridges: &[String]) -> Live {
    let (helper, tables) = tokio::join!(ask_helper(paths), ask_bridges(switch, bridges));
    Live { helper, tables }
}

/// Whether there is nothing that another look could show to be well.
fn agrees(live: &Live) -> bool {
    let Some(helper) = &live.helper else { return true };
    let Ok(status) = &helper.status else { return true };
    match live.tables.get(&status.bridge.name) {
        Some(Ok(table)) => agree(helper, table),
        _ => true,
    }
}

fn repaired(live: &Live) -> u64 {
    let status = live.helper.as_ref().and_then(|helper| helper.status.as_deref().ok());
    status.map_or(0, |status| status.flows.drift_repaired)
}

/// The helper, when it runs.
async fn ask_helper(paths: &Paths) -> Option<HelperSeen> {
    let pid = ovs::pidfile::read_pid(&paths.pidfile(PROGRAM, "")).ok()?;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return None;
    }
    let socket = paths.ctl(PROGRAM, pid);
    let asked = call(&socket, "status", &["json"], HELPER).await;
    // The pidfile of one that was killed, and its number somebody else's now.
    if asked.is_err() && !is_called(pid, PROGRAM) && !is_called(pid, "ovn-k8s") {
        return None;
    }
    let status = asked.and_then(|text| {
        let read = serde_json::from_str::<Status>(&text).map(Box::new);
        read.map_err(|error| format!("its status is of another version ({error})"))
    });
    let flows = match &status {
        Ok(_) => call(&socket, "flows", &[], BRIDGE).await.ok(),
        Err(_) => None,
    };
    let flows = flows.map(|text| text.lines().map(str::to_owned).collect());
    Some(HelperSeen { status, flows, repaired_meanwhile: 0 })
}

/// All bridges at once: a switch that hangs hangs for all of them.
async fn ask_bridges(switch: &Paths, bridges: &[String]) -> Tables {
    let mut tables = Tables::new();
    let mut asked = JoinSet::new();
    for bridge in bridges {
        let (bridge, socket) = (bridge.clone(), switch.bridge_mgmt(bridge));
        asked.spawn(async move {
            let answer = tokio::time::timeout(BRIDGE, ask_bridge(socket)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {} s", BRIDGE.as_secs())));
            (bridge, answer)
        });
    }
    while let Some(answered) = asked.join_next().await {
        tables.extend(answered.ok());
    }
    tables
}

async fn ask_bridge(socket: PathBuf) -> Result<TableSeen, String> {
    let connection = Connection::connect(&format!("unix:{}", socket.display())).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let ports = connection.ports().await.map_err(|error| error.to_string())?;
    let flows = connection.dump_all().await.map_err(|error| error.to_string())?;
    let ports = ports.into_iter().map(|port| (port.number.0, port.name)).collect();
    Ok(TableSeen { flows, ports })
}
