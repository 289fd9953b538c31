//! `ovn-k8s-util recover`: what a run that died, a boot or another tool has left, and what is done about it.
//!
//! [`classify`] is pure: the state of an uplink becomes one of a few cases ([`RecoveryCase`]). [`recover`] is what
//! `ovn-k8s-util recover` does, and the unit at boot: an unfinished journal first, then every bridge on record.

use std::time::Duration;

use host::ingress_filter::{Accepting, IngressFilter};
use host::rtnl::Socket;
use host::rtnl::link::Link;
use ovs::ovsdb::Remote;

use super::device_config::Network;
use super::error::{Error, Result};
use super::journal::{Folder, Journal, JournalState, TakeoverRecord, Uplink};
use super::names::PROGRAM;
use super::options::{Datapath, Direction, Options};
use super::switchover::{Context, InFlight, Target};
use super::transaction::{self, LOCK, TakeoverReport};
use super::undo::Rollback;
use super::{observe, reattach, steps, undo, verify};

/// How long the switch's database may take.
const DATABASE: Duration = Duration::from_secs(8);

/// What is found of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UplinkState {
    /// What carries the bridge's frames.
    pub datapath: Datapath,
    /// The NIC is there.
    pub nic: bool,
    /// The bridge's device is there.
    pub bridge: bool,
    /// The NIC has addresses of more than the link.
    pub nic_carries: bool,
    /// The bridge has.
    pub bridge_carries: bool,
    /// The ingress filter accepts frames from the bridge alone.
    pub guarded: bool,
    /// Frames pass the bridge, as far as is known: a process holds its tap, and a next hop answers through it or answers
    /// nowhere.
    pub alive: bool,
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryCase {
    /// The bridge carries everything, with its ingress filter where it needs one.
    Whole,
    /// The bridge carries everything, and the host receives every frame twice, or none.
    Unguarded,
    /// The bridge has the addresses and carries nothing: its switch is dead.
    Cut,
    /// The NIC carries what it has: after a boot, or after a failover. The way there is open.
    OnTheNic,
    /// Neither carries anything.
    Nowhere,
    /// The NIC is gone.
    NoNic,
}

/// Which case it is.
#[must_use]
pub(crate) fn classify(state: &UplinkState) -> RecoveryCase {
    match *state {
        UplinkState { nic: false, .. } => RecoveryCase::NoNic,
        UplinkState { nic_carries: true, .. } => RecoveryCase::OnTheNic,
        UplinkState {
            bridge: true, bridge_carries: true, alive: false, datapath: Datapath::Netdev, ..
        } => RecoveryCase::Cut,
        UplinkState { bridge: true, bridge_carries: true, guarded, datapath, .. } => {
            if guarded || datapath == Datapath::System {
                RecoveryCase::Whole
            } else {
                RecoveryCase::Unguarded
            }
        }
        _ => RecoveryCase::Nowhere,
    }
}

/// Undoes or completes interrupted takeovers, and repeats takeovers from before a reboot.
pub(crate) fn recover(options: &Options) -> Result<TakeoverReport> {
    let mut report = TakeoverReport::default();
    let folder = Folder::below(&options.state_dir);
    journal(&folder, options, &mut report)?;
    let mut failed = Vec::new();
    for taken in folder.all_taken()? {
        match taken {
            // One that fails is no reason to skip the others.
            Ok(taken) => failed.extend(uplink(&taken, options, &mut report).err()),
            Err(error) => report.warnings.push(error.to_string()),
        }
    }
    if let Some(last) = failed.pop() {
        report.lines.iter().chain(&report.warnings).for_each(cli::note);
        failed.iter().for_each(cli::note);
        return Err(last);
    }
    if report.lines.is_empty() && report.warnings.is_empty() {
        report.lines.push("nothing to recover".to_owned());
    }
    Ok(report)
}

/// Undoes an unfinished journal of any run.
fn journal(folder: &Folder, options: &Options, report: &mut TakeoverReport) -> Result<()> {
    let lock = folder.lock(LOCK)?;
    let mut aside = |error: Error| match &error {
        Error::JournalBroken { path, .. } => {
            if let Some(aside) = lock.put_aside(path)? {
                report.warnings.push(format!("{error}: now {}", aside.display()));
            }
            Ok(())
        }
        _ => Err(error),
    };
    for error in folder.all_taken()?.into_iter().filter_map(Result::err) {
        // A record of another version is reported where it is used.
        drop(aside(error));
    }
    let found = match folder.journal() {
        Ok(found) => found,
        Err(error) => return aside(error),
    };
    let Some(mut journal) = found.filter(|journal| journal.state.is_unfinished()) else { return Ok(()) };
    let mut undone = undo::run(&lock, &mut journal);
    // The database may have moved; the network is put back already, and to do that again changes nothing.
    if undone.pending && journal.db != options.db.to_string() {
        journal.db = options.db.to_string();
        undone = undo::run(&lock, &mut journal);
    }
    report.warnings.extend(undone.troubles);
    let names: Vec<&str> = journal.uplinks.iter().map(|uplink| uplink.nic.name.as_str()).collect();
    let rest = if undone.pending { ", except in the switch's database, which does not answer" } else { "" };
    report.lines.push(format!("a run that did not come to its end is undone: {}{rest}", names.join(", ")));
    Ok(())
}

fn uplink(taken: &TakeoverRecord, options: &Options, report: &mut TakeoverReport) -> Result<()> {
    let attached = attached(taken, options, report)?;
    recover_uplink(taken, options, report)?;
    if attached {
        let _lock = Folder::below(&options.state_dir).lock(LOCK)?;
        reattach::move_link_local(taken)?;
    }
    Ok(())
}

fn recover_uplink(taken: &TakeoverRecord, options: &Options, report: &mut TakeoverReport) -> Result<()> {
    let (nic, bridge) = (&taken.uplink.nic.name, &taken.uplink.bridge);
    let filter = IngressFilter::new(nic, bridge);
    match classify(&state(taken, &filter)?) {
        RecoveryCase::Whole => {}
        RecoveryCase::Unguarded => {
            filter.set(Accepting::Bridge)?;
            report.lines.push(format!("{bridge}: its ingress filter was made again"));
        }
        RecoveryCase::Cut => to_nic(taken, &filter, &Folder::below(&options.state_dir), report)?,
        RecoveryCase::OnTheNic => {
            let nics = std::slice::from_ref(nic);
            let switch = observe::observe_switch(&options.db, DATABASE);
            // The switch's database may be lost, and the bridge's datapath with it.
            let known = Some(taken.uplink.datapath).filter(|_| switch.bridge(bridge).is_none());
            let options = &Options { datapath: options.datapath.or(known), ..options.clone() };
            let plan = transaction::plan_attach(nics, options)?;
            plan.verdict(options.force)?;
            let again = transaction::nics_to_bridge(&plan, options)?;
            report.lines.extend(again.lines);
            report.warnings.extend(again.warnings);
        }
        RecoveryCase::Nowhere if taken.is_of_this_boot()? => again(taken, options, report)?,
        // The unit at boot tries again: a lease may take its time.
        RecoveryCase::Nowhere => {
            return Err(Error::refused(
                format!("neither {nic} nor {bridge} has an address"),
                format!("start what configures {nic}, then run this again"),
            ));
        }
        RecoveryCase::NoNic => report
            .warnings
            .push(format!("{nic} does not exist: {bridge} reaches no network until it is back")),
    }
    Ok(())
}

/// Attaches a recreated NIC to its bridge again; its addresses are checked after it. Whether it was attached.
fn attached(taken: &TakeoverRecord, options: &Options, report: &mut TakeoverReport) -> Result<bool> {
    let (nic, bridge) = (&taken.uplink.nic.name, &taken.uplink.bridge);
    let lock = Folder::below(&options.state_dir).lock(LOCK)?;
    let attached = reattach::reattach_recorded(&lock, taken, &options.db);
    match &attached {
        Ok(true) => report.lines.push(format!("{nic} was recreated: attached to {bridge} again")),
        Ok(false) => {}
        Err(error) => report.warnings.push(format!("{nic} was recreated, and {error}")),
    }
    Ok(attached.unwrap_or_default())
}

/// Restores the NIC's configuration from before the takeover: the bridge was removed with its addresses, and the ingress
/// filter may still drop the NIC's frames.
fn again(taken: &TakeoverRecord, options: &Options, report: &mut TakeoverReport) -> Result<()> {
    let _lock = Folder::below(&options.state_dir).lock(LOCK)?;
    let (nic, bridge) = (&taken.uplink.nic.name, &taken.uplink.bridge);
    report.warnings.extend(home(taken, &options.db)?);
    report.lines.push(format!(
        "{bridge} had no address any more: {nic} has the addresses it had before the takeover"
    ));
    Ok(())
}

/// The NIC has what it had before the takeover. The caller holds the lock.
pub(super) fn home(taken: &TakeoverRecord, db: &Remote) -> Result<Vec<String>> {
    reattach::raise(&Socket::open()?, &taken.uplink.nic.name)?;
    let uplink = Uplink { bridge_rows: None, ..taken.uplink.clone() };
    let journal = Journal::begin(Direction::Detach, db, vec![uplink])?;
    let mut refused = Vec::new();
    let mut rollback = Rollback::of(&journal)?;
    rollback.all(steps::to_nic(rollback.datapath()), &mut refused);
    Ok(refused)
}

/// For a helper that cannot begin because the switch's database does not answer: management to the NIC where the bridge
/// of a takeover of this boot carries nothing. What was done, in words.
pub fn cut_off(folder: &Folder, bridge: &str) -> Result<Vec<String>> {
    let Some(taken) = folder.taken(bridge)? else { return Ok(Vec::new()) };
    let open = folder.journal()?.is_some_and(|journal| journal.state == JournalState::Open);
    let filter = IngressFilter::new(&taken.uplink.nic.name, bridge);
    if open || !taken.is_of_this_boot()? || classify(&state(&taken, &filter)?) != RecoveryCase::Cut {
        return Ok(Vec::new());
    }
    let mut report = TakeoverReport::default();
    to_nic(&taken, &filter, folder, &mut report)?;
    report.lines.extend(report.warnings);
    Ok(report.lines)
}

/// Management to the NIC while the switch is dead, as the failover does where it runs.
fn to_nic(
    taken: &TakeoverRecord,
    filter: &IngressFilter,
    folder: &Folder,
    report: &mut TakeoverReport,
) -> Result<()> {
    let _lock = folder.lock(LOCK)?;
    // Another process may have changed it until now.
    if classify(&state(taken, filter)?) != RecoveryCase::Cut {
        return Ok(());
    }
    let socket = Socket::open()?;
    let network = Network::observe(&socket)?;
    let device = |name: &str| network.link(name).map(Link::device);
    let (nic, bridge) = (&taken.uplink.nic.name, &taken.uplink.bridge);
    reattach::raise(&socket, nic)?;
    let (Some(on_nic), Some(on_bridge)) = (device(nic), device(bridge)) else { return Ok(()) };
    let context = Context {
        socket: &socket,
        nic: on_nic,
        bridge: on_bridge,
        filter: Some(filter),
        in_flight: InFlight::Accept,
    };
    report.warnings.extend(context.run(Target::Nic, |_| Ok(()))?);
    report.lines.push(format!(
        "{bridge} carries no traffic (is ovs-vswitchd dead?): {nic} has addresses and routes for now; run `{PROGRAM} \
         recover` again when the switch is back"
    ));
    Ok(())
}

fn state(taken: &TakeoverRecord, filter: &IngressFilter) -> Result<UplinkState> {
    let network = Network::observe(&Socket::open()?)?;
    let carries =
        |name: &str| network.link(name).is_some_and(|link| network.of(&link.device()).has_address());
    Ok(UplinkState {
        datapath: taken.uplink.datapath,
        nic: network.link(&taken.uplink.nic.name).is_some(),
        bridge: network.link(&taken.uplink.bridge).is_some_and(undo::is_of_switch),
        nic_carries: carries(&taken.uplink.nic.name),
        bridge_carries: carries(&taken.uplink.bridge),
        guarded: filter.is_accepting(Accepting::Bridge)?,
        alive: verify::is_alive(&network, &taken.uplink)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_stable_name() {
        let whole = UplinkState {
            datapath: Datapath::Netdev,
            nic: true,
            bridge: true,
            nic_carries: false,
            bridge_carries: true,
            guarded: true,
            alive: true,
        };
        assert_eq!(classify(&whole), RecoveryCase::Whole);
        assert_eq!(classify(&UplinkState { alive: false, guarded: false, ..whole }), RecoveryCase::Cut);
        assert_eq!(
            classify(&UplinkState { alive: false, datapath: Datapath::System, ..whole }),
            RecoveryCase::Whole
        );
        assert_eq!(classify(&UplinkState { guarded: false, ..whole }), RecoveryCase::Unguarded);
        // The kernel's datapath gives every frame to the bridge alone.
        assert_eq!(
            classify(&UplinkState { guarded: false, datapath: Datapath::System, ..whole }),
            RecoveryCase::Whole
        );
        let booted = UplinkState { nic_carries: true, bridge_carries: false, guarded: false, ..whole };
        assert_eq!(classify(&booted), RecoveryCase::OnTheNic);
        assert_eq!(classify(&UplinkState { bridge: false, ..booted }), RecoveryCase::OnTheNic);
        assert_eq!(classify(&UplinkState { bridge_carries: true, ..booted }), RecoveryCase::OnTheNic, "both");
        assert_eq!(classify(&UplinkState { bridge_carries: false, ..whole }), RecoveryCase::Nowhere);
        assert_eq!(classify(&UplinkState { nic: false, ..whole }), RecoveryCase::NoNic);
    }
}
