//! The gathering: everything the checks go by, each asked for a bounded time, and beside the others where it can be.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use host::ingress_filter::IngressFilter;
use host::interface_sysctls;
use host::rtnl::Family;
use host::rtnl::route::Route;
use ovs::ovsdb::Remote;
use ovs::paths::Paths;

use super::snapshot::{GuardSeen, JournalSeen, Seen, UplinkSeen};
use cli::OutputFormat;
use uplink::error::{Error, Result};
use uplink::journal::{Folder, JournalState, TakeoverRecord};
use uplink::observe::{self, SwitchSnapshot};
use uplink::options::{Direction, Options};
use uplink::plan;

mod daemons;
mod kube_proxy;
mod leftovers;
mod live;
mod ovn;
mod timeout;

/// How long the switch's database may take. One that is well answers in a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long ovs-vswitchd may take for a change that was just made.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// How long what is asked beside may take in all, the longest of its own limits included.
const ASIDE: Duration = Duration::from_secs(8);

/// Looks at these devices, or at what there is to look at.
pub(super) fn gather(devices: &[String], state_dir: &Path, db: &Remote) -> Result<Seen> {
    let own = Paths::from_env();
    let paths = daemons::paths(db);
    let others = timeout::ask(kube_proxy::look);
    let switch_paths = paths.clone();
    let daemons = timeout::ask(move || daemons::switch(&switch_paths));

    let folder = Folder::below(state_dir);
    let (records, broken) = leftovers::records(&folder);
    let switch = switch(db);
    let defaults = default_routes();
    let wanted = if devices.is_empty() {
        found(&switch, &records, &defaults)
    } else {
        let pairs: BTreeSet<_> = devices.iter().map(|device| pair(device)).collect();
        pairs.into_iter().collect()
    };

    let bridges: Vec<_> = wanted.iter().map(|(_, bridge)| bridge.clone()).collect();
    let is_there = |bridge: &String| switch.bridge(bridge).is_some() || paths.bridge_mgmt(bridge).exists();
    let bridges: Vec<_> = bridges.into_iter().filter(is_there).collect();
    let (helper_paths, switch_paths) = (own.clone(), paths.clone());
    let live = timeout::ask(move || live::look(&helper_paths, &switch_paths, &bridges));
    let settings = switch.external_ids.clone();
    let (own_paths, switch_paths) = (own, paths);
    let ovn = timeout::ask(move || ovn::look(&own_paths, &switch_paths, settings));

    let names: Vec<_> = wanted.iter().flat_map(|(nic, bridge)| [nic.clone(), bridge.clone()]).collect();
    let mut observed = observe::observe_with(&names, switch, Path::new("/"))?;
    let mut left = leftovers::look(Path::new("/"), &records, broken, &mut observed.unknown);
    let uplinks =
        wanted.into_iter().map(|(nic, bridge)| uplink(&observed.switch, &records, &defaults, nic, bridge));
    let uplinks = uplinks.collect();
    let mut journal = journal(&folder);

    let deadline = Instant::now() + ASIDE;
    let late = |what: &str| format!("{what}: no answer in {} s", ASIDE.as_secs());
    let mut unknown = Vec::new();
    let others = others.by(deadline).unwrap_or_else(|| {
        unknown.push(late("who else serves NodePorts"));
        Vec::new()
    });
    let daemons = daemons.by(deadline).unwrap_or_default();
    let ovn = ovn.by(deadline).unwrap_or_else(|| {
        unknown.push(late("OVN"));
        Default::default()
    });
    let live = live.by(deadline).unwrap_or_else(|| {
        unknown.push(late("the helper and the flows"));
        Default::default()
    });
    let all: BTreeSet<_> = observed.unknown.drain(..).chain(unknown).collect();
    observed.unknown = all.into_iter().collect();
    let unprivileged = !nix::unistd::geteuid().is_root();
    if unprivileged {
        // Whoever may not read a folder cannot tell one that is broken.
        left.broken_records.clear();
        if matches!(journal, JournalSeen::Broken(_)) {
            journal = JournalSeen::Closed;
        }
    }
    Ok(Seen {
        uplinks,
        daemons,
        flows: live.tables,
        journal,
        left,
        helper: live.helper,
        ovn,
        others,
        options: Some(options(state_dir, db)),
        unprivileged,
        observed,
    })
}

/// The switch; a change that was just made is waited for.
fn switch(db: &Remote) -> SwitchSnapshot {
    let mut switch = look_at_switch(db);
    let deadline = Instant::now() + CATCHING_UP;
    let is_behind =
        |switch: &SwitchSnapshot| switch.answers && switch.vswitchd != Some(false) && !switch.up_to_date;
    while is_behind(&switch) && Instant::now() < deadline {
        std::thread::sleep(CATCHING_UP / 10);
        switch = look_at_switch(db);
    }
    switch
}

fn look_at_switch(db: &Remote) -> SwitchSnapshot {
    let remote = db.clone();
    let asked = timeout::ask(move || observe::observe_switch(&remote, PATIENCE));
    asked.by(Instant::now() + PATIENCE + PATIENCE / 4).unwrap_or_else(|| SwitchSnapshot {
        said: Some(format!("{db}: no answer in {} s", PATIENCE.as_secs())),
        ..SwitchSnapshot::default()
    })
}

fn options(state_dir: &Path, db: &Remote) -> Options {
    Options {
        dry_run: true,
        form: OutputFormat::Table,
        force: false,
        datapath: None,
        probe: true,
        verify_timeout: Duration::from_secs(15),
        verify_cmd: None,
        confirm: None,
        state_dir: state_dir.to_owned(),
        db: db.clone(),
    }
}

/// What there is: what was taken over, else the NICs that the default routes name.
fn found(switch: &SwitchSnapshot, records: &[TakeoverRecord], defaults: &[Route]) -> Vec<(String, String)> {
    let on_record = records.iter().map(|it| (it.uplink.nic.name.clone(), it.uplink.bridge.clone()));
    let mut pairs: BTreeSet<_> = on_record.collect();
    for bridge in switch.bridges.iter().filter(|bridge| bridge.ours || bridge.original) {
        let port = bridge.ports.iter().find(|port| port.kind.is_empty());
        let nic =
            port.map(|port| port.name.clone()).or_else(|| plan::nic_of(&bridge.name).map(str::to_owned));
        pairs.extend(nic.map(|nic| (nic, bridge.name.clone())));
    }
    if pairs.is_empty() {
        pairs.extend(nics_of(defaults).into_iter().map(|nic| (nic.clone(), plan::bridge_of(&nic))));
    }
    pairs.into_iter().collect()
}

/// The default routes of the node.
fn default_routes() -> Vec<Route> {
    let Ok(socket) = host::rtnl::Socket::open() else { return Vec::new() };
    let rows = socket.dump_all(host::rtnl::Kind::Route).unwrap_or_default();
    rows.iter().filter_map(Route::of).filter(Route::is_default).collect()
}

/// The devices of routes.
fn nics_of(routes: &[Route]) -> Vec<String> {
    let indexes: BTreeSet<_> = routes.iter().flat_map(Route::hops).filter_map(|hop| hop.device).collect();
    indexes.into_iter().filter_map(host::devices::name_of).filter(|name| name != "lo").collect()
}

fn pair(device: &str) -> (String, String) {
    match plan::nic_of(device).filter(|nic| host::devices::exists(nic)) {
        Some(nic) => (nic.to_owned(), device.to_owned()),
        None => (device.to_owned(), plan::bridge_of(device)),
    }
}

fn uplink(
    switch: &SwitchSnapshot,
    records: &[TakeoverRecord],
    defaults: &[Route],
    nic: String,
    bridge: String,
) -> UplinkSeen {
    let record = records.iter().find(|taken| taken.uplink.bridge == bridge);
    let in_switch = switch.bridge_of(&nic).is_some_and(|found| found.name == bridge)
        || switch.bridge(&bridge).is_some_and(|found| found.ours);
    let guard = IngressFilter::new(&nic, &bridge).observe().ok().flatten();
    let of_this_boot = record.filter(|taken| taken.is_of_this_boot().unwrap_or(false));
    let routes = record.map(|taken| taken.uplink.rows.routes()).unwrap_or_default();
    let own = [&nic, &bridge].map(|device| host::devices::index_of(device));
    // Those that routers announce come again by themselves; one over another device is enough.
    let had = |family: Family| {
        let is_meant = |route: &&Route| route.family() == family;
        let elsewhere =
            |route: &Route| route.hops().iter().any(|hop| hop.device.is_some() && !own.contains(&hop.device));
        routes.iter().filter(is_meant).any(|route| route.is_default() && !route.is_learned())
            && !defaults.iter().filter(is_meant).any(elsewhere)
    };
    UplinkSeen {
        default_v4: had(Family::V4),
        default_v6: had(Family::V6),
        taken: record.is_some() || in_switch,
        index_then: of_this_boot.map(|taken| taken.uplink.nic.index),
        guard: guard
            .filter(|state| state.marked)
            .map(|state| GuardSeen { listening: state.accepting(), whole: state.is_complete() }),
        sysctls: interface_sysctls::read(&bridge).unwrap_or_default(),
        rp_filter_all: interface_sysctls::read("all").unwrap_or_default().remove("ipv4/conf/rp_filter"),
        nic,
        bridge,
    }
}

fn journal(folder: &Folder) -> JournalSeen {
    match folder.journal() {
        Ok(Some(journal)) => match journal.state {
            JournalState::Open => JournalSeen::Open {
                busy: matches!(folder.lock(Duration::ZERO), Err(Error::Busy { .. })),
                back: journal.direction == Direction::Detach,
            },
            JournalState::UndoneOvsdbPending => JournalSeen::Pending,
            JournalState::Committed | JournalState::Undone => JournalSeen::Closed,
        },
        Ok(None) => JournalSeen::Closed,
        Err(error) => JournalSeen::Broken(error.to_string()),
    }
}
