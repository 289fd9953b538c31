//! Half states: what a run that died, a boot or another tool has left, and what is done about it.
//!
//! [`classify`] is pure: what is found of a bridge becomes one of a few cases ([`Half`]). [`settle`] is what
//! `ovn-k8s-util settle` does, and the unit at boot: an unfinished journal first, then every bridge that was taken into
//! use.

use host::ears::Ears;
use host::ears::Listening;
use host::rtnl::Socket;

use super::error::{Error, Result};
use super::journal::{Folder, Taken};
use super::options::{Datapath, Options};
use super::rows::Network;
use super::transaction::{self, LOCK, Report};
use super::{observe, plan, undo};

/// What is found of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
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
    /// The guard hears the bridge, and the bridge alone.
    pub guarded: bool,
}

/// What that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The bridge carries everything, and is guarded where it has to be.
    Whole,
    /// The bridge carries everything, and every frame is heard twice, or none.
    Unguarded,
    /// The NIC carries what it has: after a boot, or after a failover. The way there is open.
    OnTheNic,
    /// Neither carries anything.
    Nowhere,
    /// The NIC is gone.
    NoNic,
}

/// Which case it is.
#[must_use]
pub fn classify(scene: &Scene) -> Half {
    match *scene {
        Scene { nic: false, .. } => Half::NoNic,
        Scene { nic_carries: true, .. } => Half::OnTheNic,
        Scene { bridge: true, bridge_carries: true, guarded, datapath, .. } => {
            if guarded || datapath == Datapath::System { Half::Whole } else { Half::Unguarded }
        }
        _ => Half::Nowhere,
    }
}

/// Mends what is half done. What was taken over before a boot is taken over again.
pub fn settle(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let folder = Folder::below(&options.state_dir);
    journal(&folder, options, &mut report)?;
    for taken in folder.all_taken()? {
        match taken {
            Ok(taken) => uplink(&taken, options, &mut report)?,
            Err(error) => report.warnings.push(error.to_string()),
        }
    }
    if report.lines.is_empty() && report.warnings.is_empty() {
        report.lines.push("nothing to settle".to_owned());
    }
    Ok(report)
}

/// An unfinished journal is undone, whoever wrote it.
fn journal(folder: &Folder, options: &Options, report: &mut Report) -> Result<()> {
    let lock = folder.lock(LOCK)?;
    let found = match folder.journal() {
        Ok(found) => found,
        Err(error @ Error::JournalBroken { .. }) => {
            if let Some(aside) = lock.put_aside()? {
                report.warnings.push(format!("{error}: now {}", aside.display()));
            }
            return Ok(());
        }
        Err(error) => return Err(error),
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
    let rest = if undone.pending { ", but for the switch's database, which does not answer" } else { "" };
    report.lines.push(format!("a run that did not come to its end is put back: {}{rest}", names.join(", ")));
    Ok(())
}

fn uplink(taken: &Taken, options: &Options, report: &mut Report) -> Result<()> {
    let (nic, bridge) = (&taken.uplink.nic.name, &taken.uplink.bridge);
    let ears = Ears::new(nic, bridge);
    match classify(&look(taken, &ears)?) {
        Half::Whole => {}
        Half::Unguarded => {
            ears.set(Listening::Bridge)?;
            report.lines.push(format!("{bridge}: the guard against hearing twice was made again"));
        }
        Half::OnTheNic => {
            let nics = std::slice::from_ref(nic);
            let plan = plan::there(&observe::look(nics, options)?, nics, options);
            plan.verdict(options.force)?;
            let again = transaction::nics_to_bridge(&plan, options)?;
            report.lines.extend(again.lines);
            report.warnings.extend(again.warnings);
        }
        Half::Nowhere => report.warnings.push(format!(
            "neither {nic} nor {bridge} has an address: start what configures {nic}, then run this again"
        )),
        Half::NoNic => {
            report.warnings.push(format!("{nic} is gone: {bridge} leads nowhere until it is back"))
        }
    }
    Ok(())
}

fn look(taken: &Taken, ears: &Ears) -> Result<Scene> {
    let network = Network::observe(&Socket::open()?)?;
    let carries = |name: &str| {
        let rows = network.link(name).map(|link| network.of(&link.device()).addresses()).unwrap_or_default();
        rows.iter().any(|address| !address.is_link_local())
    };
    let guarded = ears.observe()?.is_some_and(|state| {
        state.nic.is_some_and(|chain| chain.drops) && state.bridge.is_some_and(|chain| !chain.drops)
    });
    Ok(Scene {
        datapath: taken.uplink.datapath,
        nic: network.link(&taken.uplink.nic.name).is_some(),
        bridge: network.link(&taken.uplink.bridge).is_some(),
        nic_carries: carries(&taken.uplink.nic.name),
        bridge_carries: carries(&taken.uplink.bridge),
        guarded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_name() {
        let whole = Scene {
            datapath: Datapath::Netdev,
            nic: true,
            bridge: true,
            nic_carries: false,
            bridge_carries: true,
            guarded: true,
        };
        assert_eq!(classify(&whole), Half::Whole);
        assert_eq!(classify(&Scene { guarded: false, ..whole }), Half::Unguarded);
        // The kernel's datapath gives every frame to the bridge alone.
        assert_eq!(classify(&Scene { guarded: false, datapath: Datapath::System, ..whole }), Half::Whole);
        let booted = Scene { nic_carries: true, bridge_carries: false, guarded: false, ..whole };
        assert_eq!(classify(&booted), Half::OnTheNic);
        assert_eq!(classify(&Scene { bridge: false, ..booted }), Half::OnTheNic);
        assert_eq!(classify(&Scene { bridge_carries: true, ..booted }), Half::OnTheNic, "both");
        assert_eq!(classify(&Scene { bridge_carries: false, ..whole }), Half::Nowhere);
        assert_eq!(classify(&Scene { nic: false, ..whole }), Half::NoNic);
    }
}
