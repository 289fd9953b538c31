//! What most tests here do: look, go there, look, come back, look.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{holds_for, wait_until};
use netns_tests::takeover::{
    Load, Meter, Site, State,
    meter::Kind,
    nic::{BRIDGE, NIC},
    product::Outcome,
    state::{MOVED, Subject},
};

/// Attach.
pub const ATTACH: &str = "nics-to-bridge eth0";
/// Detach.
pub const DETACH: &str = "bridge-to-nics breth0";

/// A site, what it was like, and TCP connections both ways in both families that have to live.
#[derive(Debug)]
pub struct Fixture {
    pub meter: Meter,
    pub before: State,
    pub site: Site,
}

impl Fixture {
    pub fn set_up(site: Site) -> Result<Self> {
        let before = State::of(&site)?;
        let meter = Meter::start(&site, &Load::of(Kind::Tcp).slowed(2))?;
        Ok(Self { meter, before, site })
    }

    /// Everything is as it was: network, database, journal, connections.
    pub fn is_unchanged(&self) -> Result<()> {
        self.site.wait_until_reachable()?;
        self.site.wait_until_closed()?;
        self.site.wait_for_state(&self.before)?;
        self.site.wait_until_disarmed()?;
        ensure!(!self.site.has_bridge(BRIDGE)?, "the database still has {BRIDGE}");
        self.meter.wait_until_all_move()
    }

    /// Management is on the bridge, with everything the NIC had, and committed.
    pub fn is_on_the_bridge(&self) -> Result<()> {
        self.site.wait_until_reachable()?;
        is_on_the_bridge(&self.site, &self.before)?;
        let state = self.site.journal_state()?;
        ensure!(state != "open", "the journal is {state}");
        self.site.wait_until_disarmed()?;
        self.meter.wait_until_all_move()
    }

    /// Ends the traffic; no connection may have died.
    pub fn finish(self) -> Result<()> {
        let report = self.meter.stop()?;
        ensure!(report.dead().is_empty(), "{report}");
        Ok(())
    }
}

/// What the NIC had is the bridge's, and the NIC has no address and no route any more.
pub fn is_on_the_bridge(site: &Site, before: &State) -> Result<()> {
    // An address that the kernel itself made may still be looking for duplicates.
    wait_until("everything to be on the bridge", || has_moved(site, before).map(|()| true))
}

/// The same, all the time for a while.
pub fn stays_on_the_bridge(site: &Site, before: &State, time: Duration) -> Result<()> {
    is_on_the_bridge(site, before)?;
    holds_for("management on the bridge", time, || has_moved(site, before))
}

fn has_moved(site: &Site, before: &State) -> Result<()> {
    let now = State::of(site)?;
    now.about(BRIDGE, MOVED).expect(&before.about(NIC, MOVED)).context("what the bridge has")?;
    let left = now.about(NIC, &[Subject::Address, Subject::Route]);
    left.expect(&now.about("no such device", MOVED)).context("what the NIC still has")
}

/// Attaches and detaches a site's NIC: everything moves to the bridge, everything returns. What else holds while it is there is looked
/// at by `there`, which gets the state before and then.
pub fn attach_and_detach(site: &Site, there: impl FnOnce(&State, &State) -> Result<()>) -> Result<()> {
    let before = State::of(site)?;
    // What is only dangerous (an address that is not renewed) is done here.
    site.run("nics-to-bridge --force eth0")?.expect_ok().context("the way there")?;
    site.wait_until_reachable()?;
    is_on_the_bridge(site, &before)?;
    there(&before, &State::of(site)?)?;
    site.run("bridge-to-nics --force breth0")?.expect_ok().context("the way back")?;
    site.wait_until_reachable()?;
    site.wait_for_state(&before)?;
    ensure!(!site.has_bridge(BRIDGE)?, "the database still has {BRIDGE}");
    Ok(())
}

/// A run that must be refused: exit 1, one line that holds these words, nothing changed.
pub fn is_refused(site: &Site, outcome: &Outcome, before: &State, words: &[&str]) -> Result<()> {
    ensure!(!outcome.ok, "it was done: {}", outcome.printed);
    let said = outcome.said.trim();
    ensure!(said.lines().count() == 1, "not one line:\n{said}");
    ensure!(!said.contains("panicked"), "{said}");
    for word in words {
        ensure!(said.contains(word), "no word of {word:?} in: {said}");
    }
    State::of(site)?.expect(before).with_context(|| said.to_owned())?;
    site.wait_until_reachable()
}
