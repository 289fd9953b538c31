//! `--dry-run`: what the helper would change on this node now, as text or JSON. It changes nothing.

use std::time::Duration;

use cli::OutputFormat;
use flows::{Rendering, cookie};
use kubernetes::ClientConfig;
use ovs::openflow::{Connection, FlowMod, diff};
use ovs::paths::Paths;
use serde_json::json;
use tokio::time::timeout;

use crate::bridge::BridgeView;
use crate::cache::PolicyCache;
use crate::database::local_snapshot;
use crate::desired::desired;
use crate::facts::{Facts, Reading};
use crate::host_paths::{HostInputs, HostPaths, conflicts};
use crate::legacy_flows::ForeignFlows;
use crate::object_source;
use crate::service_state::ServiceState;
use crate::settings::Settings;
use crate::sources::Sources;

/// How long each source may take to answer.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the plan.
pub(crate) async fn run(
    settings: &Settings,
    client: Option<ClientConfig>,
    format: OutputFormat,
) -> Result<(), String> {
    let snapshot = local_snapshot(&settings.connections.local).await?;
    let bridge = BridgeView::of(&snapshot, &settings.bridge, &settings.interface);
    let mut sources = Sources::open(settings, object_source::open(settings, client)?)?;
    sources.follow(&bridge, settings);
    if timeout(SOURCE_TIMEOUT, sources.objects_synced()).await.is_err() {
        let health = sources.objects.health();
        return Err(format!(
            "Services are not known: {}",
            health.last_error.as_deref().unwrap_or("no answer")
        ));
    }
    // Without it the plan is made from the bridge alone; its problems name what is missing.
    let _ = timeout(SOURCE_TIMEOUT, sources.northbound_synced()).await;
    let mut facts = Facts::at_start(None, None);
    facts.update(Reading {
        router: sources.router(),
        service_cidrs: sources.objects.service_cidrs(),
        addresses: sources.addresses().await,
        reaches: sources.servers(&bridge, settings),
        rendered: None,
        bridge,
    });
    let mut desired = desired(&facts, settings);
    let mut services = ServiceState::default();
    services.rebuild(desired.node.clone(), &sources.objects);
    let policy =
        services.policy(desired.split.clone(), &PolicyCache::new(&settings.state_dir, &settings.bridge));
    let inputs = HostInputs { node: desired.host.clone(), services: services.host_rows() };
    desired.problems.extend(conflicts(&inputs).iter().map(ToString::to_string));
    let rendering = Rendering::new(policy, desired.datapath);
    let adopt = settings.adopt.then_some(settings.policy.zone);
    let flows = flow_changes(&settings.paths, &settings.bridge, &rendering, adopt).await?;
    let patch = facts.bridge.patch_operations(&snapshot);
    let mut host = HostPaths::open(&settings.state_dir).map_err(|error| error.to_string())?;
    let host_plan = host.plan(&inputs).await.map_err(|error| error.to_string())?;
    let refused = services.refused();

    if format == OutputFormat::Json {
        let plan = json!({
            "database": patch.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "flows": flows,
            "host": host_plan.to_string().lines().collect::<Vec<_>>(),
            "problems": desired.problems,
            "unknown": desired.unknown,
            "refused": refused,
        });
        println!("{plan:#}");
        return Ok(());
    }
    section("Database", patch.iter().map(ToString::to_string));
    section("Flows", flows);
    section("Host", host_plan.to_string().lines().map(str::to_owned));
    section("Problems", desired.problems);
    section("Unknown", desired.unknown);
    section("Refused", refused);
    Ok(())
}

/// `adopt`: the conntrack zone that tells an older helper's flows, if they have to go.
async fn flow_changes(
    paths: &Paths,
    bridge: &str,
    rendering: &Rendering,
    adopt: Option<u16>,
) -> Result<Vec<String>, String> {
    let address = format!("unix:{}", paths.bridge_mgmt(bridge).display());
    let installed = match Connection::connect(&address).await {
        Ok(connection) => connection.dump_all().await.map_err(|error| error.to_string())?,
        // A bridge that does not exist yet has no flows.
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
