//! The helper's status and the bridges' flows, read at nearly the same time, so that they can be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ovs::openflow::Connection;
use ovs::paths::Paths;
use tokio::task::JoinSet;

use super::super::flow_diff::converged;
use super::super::snapshot::{FlowTableSnapshot, HelperSnapshot};
use super::daemons::{call, is_called, runtime};
use helper::PROGRAM;
use helper::status::Status;

/// Timeout of the helper. It answers with its last status after three seconds when its loop waits for the switch.
const HELPER_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeout of a bridge, for its ports and all its flows.
const BRIDGE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long flows and status are read again while they differ: Services come and go, and the helper repairs within a
/// moment what other programs change.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Helper and flow tables.
#[derive(Default)]
pub(super) struct Live {
    pub(super) helper: Option<HelperSnapshot>,
    pub(super) tables: Tables,
}

type Tables = BTreeMap<String, Result<FlowTableSnapshot, String>>;

/// Reads the flows of these bridges and the helper's status, again until they agree or the time is up.
pub(super) fn read(helper: &Paths, switch: &Paths, bridges: &[String]) -> Live {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let tables = bridges.iter().map(|bridge| (bridge.clone(), Err(error.clone())));
            return Live { helper: None, tables: tables.collect() };
        }
    };
    runtime.block_on(async {
        let first = read_once(helper, switch, bridges).await;
        let before = repaired(&first);
        let (mut live, deadline) = (first, Instant::now() + CONVERGENCE_TIMEOUT);
        while !is_converged(&live) && Instant::now() < deadline {
            tokio::time::sleep(CONVERGENCE_TIMEOUT / 10).await;
            live = read_once(helper, switch, bridges).await;
        }
        let after = repaired(&live);
        if let Some(helper) = &mut live.helper {
            helper.repaired_during_check = after.saturating_sub(before);
        }
        live
    })
}

async fn read_once(paths: &Paths, switch: &Paths, bridges: &[String]) -> Live {
    let (helper, tables) = tokio::join!(read_helper(paths), read_bridges(switch, bridges));
    Live { helper, tables }
}

/// Whether reading again could not show anything better.
fn is_converged(live: &Live) -> bool {
    let Some(helper) = &live.helper else { return true };
    let Ok(status) = &helper.status else { return true };
    match live.tables.get(&status.bridge.name) {
        Some(Ok(table)) => converged(helper, table),
        _ => true,
    }
}

fn repaired(live: &Live) -> u64 {
    let status = live.helper.as_ref().and_then(|helper| helper.status.as_deref().ok());
    status.map_or(0, |status| status.flows.drift_repaired)
}

/// The helper, when it runs.
async fn read_helper(paths: &Paths) -> Option<HelperSnapshot> {
    let pid = ovs::pidfile::read_pid(&paths.pidfile(PROGRAM, "")).ok()?;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return None;
    }
    let socket = paths.ctl(PROGRAM, pid);
    let answer = call(&socket, "status", &["json"], HELPER_TIMEOUT).await;
    // The pidfile of a killed helper, whose process id another program has now.
    if answer.is_err() && !is_called(pid, PROGRAM) && !is_called(pid, "ovn-k8s") {
        return None;
    }
    let status = answer.and_then(|text| {
        let read = serde_json::from_str::<Status>(&text).map(Box::new);
        read.map_err(|error| format!("its status is of another version ({error})"))
    });
    let flows = match &status {
        Ok(_) => call(&socket, "flows", &[], BRIDGE_TIMEOUT).await.ok(),
        Err(_) => None,
    };
    let flows = flows.map(|text| text.lines().map(str::to_owned).collect());
    Some(HelperSnapshot { status, flows, repaired_during_check: 0 })
}

/// All bridges at the same time: a switch that hangs does so for all of them.
async fn read_bridges(switch: &Paths, bridges: &[String]) -> Tables {
    let mut tables = Tables::new();
    let mut requests = JoinSet::new();
    for bridge in bridges {
        let (bridge, socket) = (bridge.clone(), switch.bridge_mgmt(bridge));
        requests.spawn(async move {
            let answer = tokio::time::timeout(BRIDGE_TIMEOUT, read_bridge(socket)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(format!("no answer in {} s", BRIDGE_TIMEOUT.as_secs())));
            (bridge, answer)
        });
    }
    while let Some(answered) = requests.join_next().await {
        tables.extend(answered.ok());
    }
    tables
}

async fn read_bridge(socket: PathBuf) -> Result<FlowTableSnapshot, String> {
    let connection = Connection::connect(&format!("unix:{}", socket.display())).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let ports = connection.ports().await.map_err(|error| error.to_string())?;
    let flows = connection.dump_all().await.map_err(|error| error.to_string())?;
    let ports = ports.into_iter().map(|port| (port.number.0, port.name)).collect();
    Ok(FlowTableSnapshot { flows, ports })
}
