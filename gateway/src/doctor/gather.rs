//! The gathering: everything the checks go by, each asked for a bounded time.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use host::ears::Ears;
use host::interface_sysctls;
use ovs::ovsdb::Remote;
use ovs::paths::Paths;
use ovs::unixctl::Client;

use super::{GuardSeen, HelperSeen, JournalSeen, Seen, UplinkSeen};
use crate::helper::flags::PROGRAM;
use crate::helper::status::Status;
use crate::uplink::error::{Error, Result};
use crate::uplink::journal::{Folder, State};
use crate::uplink::observe::{self, Observed};
use crate::uplink::options::{Form, Options};
use crate::uplink::{bounded, plan};

/// How long the helper may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long ovs-vswitchd may take for a change that was just made.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// Looks at these devices, or at what there is to look at.
pub(super) fn gather(devices: &[String], state_dir: &Path, db: &Remote) -> Result<Seen> {
    let folder = Folder::below(state_dir);
    let mut unknown = Vec::new();
    let taken = taken(&folder, &mut unknown);
    let wanted = if devices.is_empty() {
        let all = observe::look_at(&[], db, Path::new("/"))?;
        found(&all, &taken)
    } else {
        devices.iter().map(|device| pair(device)).collect()
    };
    let names: Vec<_> = wanted.iter().flat_map(|(nic, bridge)| [nic.clone(), bridge.clone()]).collect();
    let mut observed = observe::look_at(&names, db, Path::new("/"))?;
    let deadline = Instant::now() + CATCHING_UP;
    while is_behind(&observed) && Instant::now() < deadline {
        std::thread::sleep(CATCHING_UP / 10);
        observed = observe::look_at(&names, db, Path::new("/"))?;
    }
    observed.unknown.extend(unknown);
    observed.unknown.dedup();
    let uplinks = wanted.into_iter().map(|(nic, bridge)| uplink(&observed, &taken, nic, bridge)).collect();
    let options = Options {
        dry_run: true,
        form: Form::Table,
        force: false,
        datapath: None,
        probe: true,
        verify_timeout: Duration::from_secs(15),
        verify_cmd: None,
        confirm: None,
        state_dir: state_dir.to_owned(),
        db: db.clone(),
    };
    Ok(Seen {
        uplinks,
        journal: journal(&folder),
        helper: helper(),
        others: others(),
        options: Some(options),
        observed,
    })
}

fn is_behind(observed: &Observed) -> bool {
    let switch = &observed.switch;
    switch.answers && switch.vswitchd != Some(false) && !switch.up_to_date
}

/// Bridges on record, each with its NIC.
fn taken(folder: &Folder, unknown: &mut Vec<String>) -> Vec<(String, String)> {
    let all = folder.all_taken().unwrap_or_else(|error| vec![Err(error)]);
    let read = all.into_iter().filter_map(|one| match one {
        Ok(taken) => Some((taken.uplink.nic.name, taken.uplink.bridge)),
        Err(error) => {
            unknown.push(error.to_string());
            None
        }
    });
    read.collect()
}

/// What there is: what was taken over, else the NICs that the default routes name.
fn found(all: &Observed, taken: &[(String, String)]) -> Vec<(String, String)> {
    let mut pairs: BTreeSet<_> = taken.iter().cloned().collect();
    for bridge in all.switch.bridges.iter().filter(|bridge| bridge.ours || bridge.original) {
        let port = bridge.ports.iter().find(|port| port.kind.is_empty());
        let nic =
            port.map(|port| port.name.clone()).or_else(|| plan::nic_of(&bridge.name).map(str::to_owned));
        pairs.extend(nic.map(|nic| (nic, bridge.name.clone())));
    }
    if pairs.is_empty() {
        pairs.extend(default_nics().into_iter().map(|nic| (nic.clone(), plan::bridge_of(&nic))));
    }
    pairs.into_iter().collect()
}

/// The devices of the default routes.
fn default_nics() -> Vec<String> {
    let Ok(socket) = host::rtnl::Socket::open() else { return Vec::new() };
    let rows = socket.dump_all(host::rtnl::Kind::Route).unwrap_or_default();
    let routes = rows.iter().filter_map(host::rtnl::route::Route::of);
    let defaults = routes.filter(|route| route.destination().is_some_and(|to| to.prefix_len() == 0));
    let indexes: BTreeSet<_> = defaults.flat_map(|route| route.hops()).filter_map(|hop| hop.device).collect();
    indexes.into_iter().filter_map(host::devices::name_of).filter(|name| name != "lo").collect()
}

fn pair(device: &str) -> (String, String) {
    match plan::nic_of(device).filter(|nic| host::devices::is_there(nic)) {
        Some(nic) => (nic.to_owned(), device.to_owned()),
        None => (device.to_owned(), plan::bridge_of(device)),
    }
}

fn uplink(observed: &Observed, taken: &[(String, String)], nic: String, bridge: String) -> UplinkSeen {
    let on_record = taken.iter().any(|(_, other)| *other == bridge);
    let in_switch = observed.switch.bridge_of(&nic).is_some_and(|found| found.name == bridge)
        || observed.switch.bridge(&bridge).is_some_and(|found| found.ours);
    let guard = Ears::new(&nic, &bridge).observe().ok().flatten();
    UplinkSeen {
        taken: on_record || in_switch,
        guard: guard
            .filter(|state| state.marked)
            .map(|state| GuardSeen { listening: state.listening(), whole: state.is_whole() }),
        sysctls: interface_sysctls::read(&bridge).unwrap_or_default(),
        rp_filter_all: interface_sysctls::read("all").unwrap_or_default().remove("ipv4/conf/rp_filter"),
        nic,
        bridge,
    }
}

fn journal(folder: &Folder) -> JournalSeen {
    match folder.journal() {
        Ok(Some(journal)) => match journal.state {
            State::Open => {
                JournalSeen::Open { busy: matches!(folder.lock(Duration::ZERO), Err(Error::Busy { .. })) }
            }
            State::UndoneOvsdbPending => JournalSeen::Pending,
            State::Committed | State::Undone => JournalSeen::Closed,
        },
        Ok(None) => JournalSeen::Closed,
        Err(error) => JournalSeen::Broken(error.to_string()),
    }
}

/// The helper, when it runs, with what it says of itself.
fn helper() -> Option<HelperSeen> {
    let socket = Client::find(PROGRAM, &Paths::from_env()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let status = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let answer = async {
            let client = Client::connect(&socket).await?;
            client.with_patience(PATIENCE).call("status", &["json"]).await
        };
        let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        let text = answer.map_err(|_| format!("no answer in {} s", PATIENCE.as_secs()))?;
        let text = text.map_err(|error| error.to_string())?;
        serde_json::from_str::<Status>(&text)
            .map(Box::new)
            .map_err(|error| format!("its status is of another version ({error})"))
    });
    Some(HelperSeen { status })
}

/// kube-proxy, by its rules (all of its modes) and by its process.
fn others() -> Vec<String> {
    let mut found = Vec::new();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let nft = bounded::run(&words("nft -t list ruleset"), PATIENCE).map(|answer| answer.output);
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let mut texts = vec![nft.unwrap_or_default()];
    if !legacy.trim().is_empty() {
        let text = bounded::run(&words("iptables-legacy-save -t nat"), PATIENCE);
        texts.extend(text.map(|answer| answer.output));
    }
    if texts.iter().any(|text| text.contains("KUBE-NODEPORTS")) {
        found.push("chains of kube-proxy (KUBE-NODEPORTS) are in iptables".to_owned());
    }
    if texts.iter().any(|text| text.contains("table ip kube-proxy") || text.contains("table ip6 kube-proxy"))
    {
        found.push("kube-proxy's nftables table (kube-proxy) is there".to_owned());
    }
    if host::devices::is_there("kube-ipvs0") {
        found.push("kube-proxy's IPVS device (kube-ipvs0) is there".to_owned());
    }
    for process in host::process::find(|process| process.program() == "kube-proxy") {
        found.push(format!("kube-proxy runs (pid {})", process.pid));
    }
    found
}
