//! Gathers the snapshot: everything that the checks judge by. Each request has a deadline, and most run at the same time.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use ovs::ovsdb::Remote;
use ovs::paths::Paths;
use uplink::error::{Error, Result};
use uplink::journal::{Folder, JournalState};
use uplink::observe::{self, SwitchSnapshot};
use uplink::options::{Direction, Options};

use super::snapshot::{JournalSnapshot, NodeSnapshot};

mod background;
mod daemons;
mod kube_proxy;
mod leftovers;
mod live;
mod ovn;
mod uplinks;

/// Timeout of the switch's database. A healthy one answers in a millisecond.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long ovs-vswitchd may take to apply a change that was just made.
const APPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Deadline of all requests that run in the background; longer than each one's own timeout.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(8);

/// Observes these NICs or bridges; without any, the uplinks that were taken over, else the NICs of the default routes.
pub(super) fn gather(devices: &[String], state_dir: &Path, db: &Remote) -> Result<NodeSnapshot> {
    let own_paths = Paths::from_env();
    let switch_paths = daemons::paths(db);
    let kube_proxy = background::spawn(kube_proxy::detect);
    let paths = switch_paths.clone();
    let daemons = background::spawn(move || daemons::switch(&paths));

    let folder = Folder::below(state_dir);
    let (records, unreadable_records) = leftovers::records(&folder);
    let switch = settled_switch(db);
    let defaults = uplinks::default_routes();
    let pairs = uplinks::pairs(devices, &switch, &records, &defaults);

    let bridges = pairs.iter().map(|(_, bridge)| bridge.clone());
    let bridges = bridges
        .filter(|bridge| switch.bridge(bridge).is_some() || switch_paths.bridge_mgmt(bridge).exists())
        .collect::<Vec<_>>();
    let (helper_paths, paths) = (own_paths.clone(), switch_paths.clone());
    let live = background::spawn(move || live::read(&helper_paths, &paths, &bridges));
    let external_ids = switch.external_ids.clone();
    let ovn = background::spawn(move || ovn::observe(&own_paths, &switch_paths, external_ids));

    let names: Vec<_> = pairs.iter().flat_map(|(nic, bridge)| [nic.clone(), bridge.clone()]).collect();
    let mut observed = observe::observe_with(&names, switch, Path::new("/"))?;
    let mut leftovers = leftovers::find(Path::new("/"), &records, unreadable_records, &mut observed.unknown);
    let uplinks = pairs
        .into_iter()
        .map(|(nic, bridge)| uplinks::snapshot(&observed.switch, &records, &defaults, nic, bridge));
    let uplinks = uplinks.collect();
    let mut journal = journal(&folder);

    let deadline = Instant::now() + BACKGROUND_TIMEOUT;
    let mut late = Vec::new();
    let mut missed =
        |what: &str| late.push(format!("{what}: no answer in {} s", BACKGROUND_TIMEOUT.as_secs()));
    let kube_proxy = kube_proxy.wait_until(deadline).unwrap_or_else(|| {
        missed("whether kube-proxy serves NodePorts");
        Vec::new()
    });
    let daemons = daemons.wait_until(deadline).unwrap_or_default();
    let ovn = ovn.wait_until(deadline).unwrap_or_else(|| {
        missed("OVN");
        Default::default()
    });
    let live = live.wait_until(deadline).unwrap_or_else(|| {
        missed("the helper and the flows");
        Default::default()
    });
    let unknown: BTreeSet<_> = observed.unknown.drain(..).chain(late).collect();
    observed.unknown = unknown.into_iter().collect();
    let unprivileged = !nix::unistd::geteuid().is_root();
    if unprivileged {
        // A folder that this user cannot read looks like a broken one.
        leftovers.unreadable_records.clear();
        if matches!(journal, JournalSnapshot::Unreadable(_)) {
            journal = JournalSnapshot::Closed;
        }
    }
    Ok(NodeSnapshot {
        uplinks,
        daemons,
        flows: live.tables,
        journal,
        leftovers,
        helper: live.helper,
        ovn,
        kube_proxy,
        takeover_options: Some(Options { dry_run: true, ..Options::new(state_dir.to_owned(), db.clone()) }),
        unprivileged,
        observed,
    })
}

/// The switch, after ovs-vswitchd has applied a change that was just made.
fn settled_switch(db: &Remote) -> SwitchSnapshot {
    let mut switch = observe_switch(db);
    let deadline = Instant::now() + APPLY_TIMEOUT;
    let is_behind =
        |switch: &SwitchSnapshot| switch.answers && switch.vswitchd != Some(false) && !switch.up_to_date;
    while is_behind(&switch) && Instant::now() < deadline {
        std::thread::sleep(APPLY_TIMEOUT / 10);
        switch = observe_switch(db);
    }
    switch
}

fn observe_switch(db: &Remote) -> SwitchSnapshot {
    let remote = db.clone();
    let pending = background::spawn(move || observe::observe_switch(&remote, SWITCH_TIMEOUT));
    pending.wait_until(Instant::now() + SWITCH_TIMEOUT + SWITCH_TIMEOUT / 4).unwrap_or_else(|| {
        SwitchSnapshot {
            error: Some(format!("{db}: no answer in {} s", SWITCH_TIMEOUT.as_secs())),
            ..SwitchSnapshot::default()
        }
    })
}

fn journal(folder: &Folder) -> JournalSnapshot {
    match folder.journal() {
        Ok(Some(journal)) => match journal.state {
            JournalState::Open => JournalSnapshot::Open {
                locked: matches!(folder.lock(Duration::ZERO), Err(Error::Busy { .. })),
                detaching: journal.direction == Direction::Detach,
            },
            JournalState::UndoneOvsdbPending => JournalSnapshot::DatabasePending,
            JournalState::Committed | JournalState::Undone => JournalSnapshot::Closed,
        },
        Ok(None) => JournalSnapshot::Closed,
        Err(error) => JournalSnapshot::Unreadable(error.to_string()),
    }
}
