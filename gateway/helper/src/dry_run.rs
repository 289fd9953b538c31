//! `--dry-run`: what the helper would change on this node now, as text or JSON. It changes nothing.

use std::time::Duration;

use demux::policy::Policy;
use host::rtnl::asynchronous::AsyncSocket;
use kubernetes::ClientConfig;
use ovs::openflow::{Connection, FlowMod, diff};
use ovs::paths::Paths;
use serde_json::json;
use tokio::time::timeout;

use super::bridge::BridgeView;
use super::database::{FollowedDatabase, local_snapshot, northbound_remotes};
use super::facts::{Facts, wanted};
use super::flags::HelperArgs;
use super::legacy_flows::ForeignFlows;
use super::northbound;
use super::observe;
use super::start::{self, StartupArgs};
use crate::host_paths::{HostInputs, HostPaths, conflicts};
use cli::OutputFormat;
use flows::{Rendering, cookie};
use services::Catalogue;

/// How long each source may take before the plan is made without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the plan.
pub(crate) async fn run(
    flags: &HelperArgs,
    told: &StartupArgs,
    paths: &Paths,
    client: Option<ClientConfig>,
) -> Result<(), String> {
    let settings = flags.settings();
    let snapshot = local_snapshot(&told.local).await?;
    let bridge = BridgeView::of(&snapshot, &settings.bridge, &settings.interface);
    let mut source = start::source(flags, client)?;
    let synced = async {
        while !source.synced() {
            source.next().await;
        }
    };
    if timeout(PATIENCE, synced).await.is_err() {
        return Err(format!(
            "Services are not known: {}",
            source.health().last_error.as_deref().unwrap_or("no answer")
        ));
    }
    let netlink = AsyncSocket::open().map_err(|error| error.to_string())?;
    let mut facts = Facts {
        service_cidrs: source.service_cidrs(),
        addresses: observe::addresses(&netlink).await.map_err(|error| error.to_string())?,
        ..Facts::default()
    };
    if let Some(iface_id) = &bridge.iface_id {
        match northbound_remotes(&told.nb, bridge.external_ids.get("ovn-nb").map(String::as_str), paths) {
            Ok(remotes) => {
                let followed = FollowedDatabase::northbound(remotes, told.tls.clone(), iface_id);
                if timeout(PATIENCE, followed.db.wait_synced()).await.is_ok() {
                    facts.router = northbound::gateway_router(&followed.db.snapshot(), iface_id);
                }
                facts.router_missing = followed.error();
            }
            Err(error) => facts.router_missing = Some(error),
        }
    }
    facts.bridge = bridge;
    let mut wanted = wanted(&facts, &settings);

    let mut catalogue = Catalogue::new(wanted.node.clone());
    let keys: Vec<_> = source.services().map(|service| service.key.clone()).collect();
    for key in keys {
        catalogue.update(&key, source.view(&key).as_ref());
    }
    let mut policy = Policy::new(wanted.split.clone());
    let mut inputs = HostInputs { node: wanted.host.clone(), services: Default::default() };
    for (key, granted) in catalogue.grants() {
        if let Some(rules) = granted.rules {
            policy.set_service(key.clone(), rules);
        }
        if let Some(rows) = granted.host {
            inputs.services.insert(key.clone(), rows);
        }
    }
    wanted.problems.extend(conflicts(&inputs).iter().map(ToString::to_string));
    let rendering = Rendering::new(policy, wanted.datapath);
    let adopt = settings.adopt.then_some(settings.zone);
    let flows = flow_changes(paths, &settings.bridge, &rendering, adopt).await?;
    let patch = facts.bridge.mend_patch(&snapshot);
    let mut host = HostPaths::open(&settings.state_dir).map_err(|error| error.to_string())?;
    let host_plan = host.plan(&inputs).await.map_err(|error| error.to_string())?;
    let refused: Vec<String> =
        catalogue.refused().into_iter().map(|(key, reason)| format!("{key}: {reason}")).collect();

    if flags.output.format == OutputFormat::Json {
        let plan = json!({
            "database": patch.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "flows": flows,
            "host": host_plan.to_string().lines().collect::<Vec<_>>(),
            "problems": wanted.problems,
            "unknown": wanted.unknown,
            "refused": refused,
        });
        println!("{plan:#}");
        return Ok(());
    }
    section("Database", patch.iter().map(ToString::to_string));
    section("Flows", flows);
    section("Host", host_plan.to_string().lines().map(str::to_owned));
    section("Problems", wanted.problems);
    section("Unknown", wanted.unknown);
    section("Refused", refused);
    Ok(())
}

/// `adopt`: the zone by which an older helper's flows are known, when they are to go.
async fn flow_changes(
    paths: &Paths,
    bridge: &str,
    rendering: &Rendering,
    adopt: Option<u16>,
) -> Result<Vec<String>, String> {
    let address = format!("unix:{}", paths.bridge_mgmt(bridge).display());
    let installed = match Connection::connect(&address).await {
        Ok(connection) => connection.dump_all().await.map_err(|error| error.to_string())?,
        // A bridge that is not there yet has no flows.
        Err(_) => Vec::new(),
    };
    let mut plan = diff(rendering.flows(), &installed, &cookie::ours());
    plan.mods.extend(adopt.into_iter().flat_map(|zone| ForeignFlows::of(&installed, zone).adoption()));
    Ok(plan
        .mods
        .iter()
        .map(|change| match change {
            FlowMod::Add(flow) | FlowMod::Modify(flow) => format!("add {flow}"),
            FlowMod::Delete { key, .. } => {
                format!("delete table={}, priority={}, {}", key.table, key.priority, key.matches)
            }
            FlowMod::DeleteAll { cookies, .. } => {
                format!("delete cookie={:#x}/{:#x}", cookies.value, cookies.mask)
            }
        })
        .collect())
}

fn section(title: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter().peekable();
    println!("{title}:{}", if lines.peek().is_none() { " nothing" } else { "" });
    for line in lines {
        println!("  {line}");
    }
}
