//! Which of a NIC and its bridge the host hears: the guard.
//!
//! A NIC that is a port of a userspace bridge is only tapped, so that the host would hear every frame twice: from the
//! NIC and from the bridge. The guard is a table of nft's family `netdev` for each bridge, with one chain at the
//! ingress of either device, before every other one (priority -500). A chain that is empty lets all pass; one that
//! drops makes the host deaf there, while taps (the bridge's own socket on the NIC) still
//! see the frame: they are served before the ingress hook. So one transaction that empties the one chain and fills the
//! other turns the host's ears from one device to the other, and no frame is heard twice or not at all.
//!
//! Spoken to the kernel as nf_tables' netlink messages: nothing is executed, so that it also works for a process that
//! has just been killed and is undone by another one.
//!
//! A chain needs its device and may vanish with it: [`IngressFilter::set`] makes what is missing, and leaves out a chain whose
//! device is not there.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::deferred_close::close_deferred;
use crate::netlink_socket::{self, Channel};
use crate::{Error, Result};

mod nf_tables;

use nf_tables::Change;

/// The guard of one bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressFilter {
    /// Name of the table; see [`IngressFilter::table`].
    pub table: String,
    /// Name of the NIC.
    pub nic: String,
    /// Name of the bridge's own port.
    pub bridge: String,
    kept: Kept,
}

/// Where the host hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accepting {
    /// At the NIC: what comes in by the bridge is dropped.
    Nic,
    /// At the bridge: what comes in by the NIC is dropped.
    Bridge,
    /// At both: every frame is heard twice while the bridge is up.
    Both,
}

/// The guard as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The chain of the NIC; `None` when it is not there or on another device.
    pub nic: Option<Chain>,
    /// The chain of the bridge; likewise.
    pub bridge: Option<Chain>,
    /// Is the table marked as ours?
    pub marked: bool,
    /// Chains that do not belong there, or not as they are.
    pub strange: Vec<String>,
}

/// A chain of the guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Does it drop everything?
    pub drops: bool,
    /// How much it has dropped since it was told to.
    pub dropped: u64,
}

/// A guard as it was found, whichever bridge it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Name of the table.
    pub table: String,
    /// The device of the NIC's chain; that chain goes with its device.
    pub nic: Option<String>,
    /// The device of the bridge's chain; likewise.
    pub bridge: Option<String>,
    /// What comes in by the NIC is dropped.
    pub deaf_at_nic: bool,
    /// What comes in by the bridge is dropped.
    pub deaf_at_bridge: bool,
}

/// `bridge` alone is a word of nft's language: what `nft list ruleset` prints could not be loaded again.
const NIC: &str = "at_nic";
const BRIDGE: &str = "at_bridge";
const MARK: &str = "the host hears a NIC or its bridge, not both (ovn-k8s)";
/// A device that comes or goes between looking and acting makes the transaction fail as a whole.
const TRIES: usize = 5;

impl IngressFilter {
    /// The guard of a bridge and its NIC, in the network namespace of the thread that first looks at it or turns it.
    #[must_use]
    pub fn new(nic: &str, bridge: &str) -> Self {
        Self {
            table: Self::table(bridge),
            nic: nic.to_owned(),
            bridge: bridge.to_owned(),
            kept: Kept::default(),
        }
    }

    /// The name of a bridge's table: `ovn_k8s_` and the bridge's name. A name with other characters than letters,
    /// digits and `_` (which nft's language has no room for) gets `_` for them, and a checksum of the whole so that two
    /// such names do not meet.
    #[must_use]
    pub fn table(bridge: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut name: String = bridge.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        if !bridge.chars().all(plain) {
            // FNV-1a (32 bits).
            let sum = bridge
                .bytes()
                .fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            name.push_str(&format!("_{sum:08x}"));
        }
        format!("ovn_k8s_{name}")
    }

    /// How it stands; `None` when there is no such table.
    pub fn observe(&self) -> Result<Option<State>> {
        self.kept.with(|channel| self.observe_by(channel))
    }

    /// Turns the ears, in one transaction. Makes what is missing first, in the same transaction.
    pub fn set(&self, listening: Accepting) -> Result<()> {
        self.kept.with(|channel| self.turn(channel, listening))
    }

    fn turn(&self, channel: &Channel, listening: Accepting) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let found = chains(channel, &self.table)?;
            let changes = self.changes(&found, listening, crate::devices::is_there);
            match self.commit(
                channel,
                &format!("turn the host's ears to {}", self.named(listening)),
                &changes,
            ) {
                Err(Error::Netlink {
                    errno: libc::ENOENT | libc::ENODEV | libc::EEXIST | libc::EBUSY,
                    ..
                }) if tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    /// Takes the guard away; nothing to do when there is none.
    pub fn remove(&self) -> Result<()> {
        let what = format!("remove the guard of {}", self.bridge);
        match self.kept.with(|channel| self.commit(channel, &what, &[Change::RemoveTable])) {
            Err(error) if error.is_gone() => Ok(()),
            outcome => outcome,
        }
    }

    /// The names of all guards there are.
    pub fn all() -> Result<Vec<String>> {
        let channel = Channel::open(libc::NETLINK_NETFILTER)?;
        let tables = tables(&channel)?;
        let ours = tables.into_iter().filter(|table| table.comment.as_deref() == Some(MARK));
        Ok(ours.map(|table| table.name).collect())
    }

    /// All guards there are, with the devices that their chains hang on.
    pub fn survey() -> Result<Vec<Found>> {
        let channel = Channel::open(libc::NETLINK_NETFILTER)?;
        let mut all = Vec::new();
        for table in tables(&channel)?.into_iter().filter(|table| table.comment.as_deref() == Some(MARK)) {
            let rules = rules(&channel, &table.name)?;
            let drops = |chain: &str| rules.iter().any(|rule| rule.chain == chain && rule.drops);
            let mut found =
                Found { deaf_at_nic: drops(NIC), deaf_at_bridge: drops(BRIDGE), ..Found::default() };
            for chain in chains(&channel, &table.name)? {
                match chain.name.as_str() {
                    NIC => found.nic = chain.devices.into_iter().next(),
                    BRIDGE => found.bridge = chain.devices.into_iter().next(),
                    _ => {}
                }
            }
            all.push(Found { table: table.name, ..found });
        }
        Ok(all)
    }

    /// What turns the ears, given the chains there are. Of a chain that is there as it must be only the rules are
    /// changed: it never stands open in between.
    fn changes<'a>(
        &'a self,
        found: &[nf_tables::Chain],
        listening: Accepting,
        exists: impl Fn(&str) -> bool,
    ) -> Vec<Change<'a>> {
        let mut changes = vec![Change::Table { comment: MARK }];
        for (name, device, drops) in [
            (NIC, self.nic.as_str(), listening == Accepting::Bridge),
            (BRIDGE, self.bridge.as_str(), listening == Accepting::Nic),
        ] {
            let there = found.iter().find(|chain| chain.name == name);
            let right = there.is_some_and(|chain| is_right(chain, device));
            if there.is_some() {
                changes.push(Change::Flush { chain: name });
            }
            if there.is_some() && !right {
                changes.push(Change::RemoveChain { name });
            }
            if !right && exists(device) {
                changes.push(Change::Chain { name, device });
            }
            if drops && (right || exists(device)) {
                changes.push(Change::Drop { chain: name });
            }
        }
        changes
    }

    fn observe_by(&self, channel: &Channel) -> Result<Option<State>> {
        let Some(table) = tables(channel)?.into_iter().find(|table| table.name == self.table) else {
            return Ok(None);
        };
        let mut state = State { marked: table.comment.as_deref() == Some(MARK), ..State::default() };
        let rules = rules(channel, &self.table)?;
        for chain in chains(channel, &self.table)? {
            let (slot, device) = match chain.name.as_str() {
                NIC => (&mut state.nic, &self.nic),
                BRIDGE => (&mut state.bridge, &self.bridge),
                _ => {
                    state.strange.push(chain.name);
                    continue;
                }
            };
            if !is_right(&chain, device) {
                state.strange.push(chain.name);
                continue;
            }
            let drops: Vec<_> = rules.iter().filter(|rule| rule.chain == chain.name && rule.drops).collect();
            *slot = Some(Chain {
                drops: !drops.is_empty(),
                dropped: drops.iter().map(|rule| rule.packets).sum(),
            });
        }
        Ok(Some(state))
    }

    fn commit(&self, channel: &Channel, what: &str, changes: &[Change<'_>]) -> Result<()> {
        let lead = channel.sequences(changes.len() + 2);
        let bytes = nf_tables::transaction(&self.table, changes, lead);
        let answers = channel.exchange(what, &bytes, lead.wrapping_add(1), changes.len())?;
        match answers.into_iter().find(|answer| answer.errno != 0) {
            Some(answer) => Err(netlink_socket::refusal(what, answer)),
            None => Ok(()),
        }
    }

    fn named(&self, listening: Accepting) -> String {
        match listening {
            Accepting::Nic => self.nic.clone(),
            Accepting::Bridge => self.bridge.clone(),
            Accepting::Both => format!("{} and {}", self.nic, self.bridge),
        }
    }
}

/// The socket to nf_tables, kept from one turn to the next: to close it waits until what was removed before is out of
/// use everywhere, which nobody needs to wait for between two turns.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<Channel>>);

impl Kept {
    fn with<T>(&self, work: impl FnOnce(&Channel) -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match kept.take() {
            Some(channel) => channel,
            None => Channel::open(libc::NETLINK_NETFILTER)?,
        };
        work(kept.insert(channel))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        kept.into_iter().for_each(close_deferred);
    }
}

impl Clone for Kept {
    /// Another value has a socket of its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

impl State {
    /// Where the host hears; `None` when nowhere. A chain that is not there drops nothing.
    #[must_use]
    pub fn listening(&self) -> Option<Accepting> {
        let drops = |chain: &Option<Chain>| chain.is_some_and(|chain| chain.drops);
        match (drops(&self.nic), drops(&self.bridge)) {
            (false, false) => Some(Accepting::Both),
            (false, true) => Some(Accepting::Nic),
            (true, false) => Some(Accepting::Bridge),
            (true, true) => None,
        }
    }

    /// Are both chains there, on their devices?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nic.is_some() && self.bridge.is_some()
    }
}

impl fmt::Display for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nic => "the NIC",
            Self::Bridge => "the bridge",
            Self::Both => "the NIC and the bridge",
        })
    }
}

fn is_right(chain: &nf_tables::Chain, device: &str) -> bool {
    chain.devices == [device] && chain.priority == Some(nf_tables::PRIORITY)
}

fn tables(channel: &Channel) -> Result<Vec<nf_tables::Table>> {
    list(channel, nf_tables::ask_for_tables(), nf_tables::table)
}

fn chains(channel: &Channel, table: &str) -> Result<Vec<nf_tables::Chain>> {
    let mut chains = list(channel, nf_tables::ask_for_chains(), nf_tables::chain)?;
    chains.retain(|chain| chain.table == table);
    Ok(chains)
}

fn rules(channel: &Channel, table: &str) -> Result<Vec<nf_tables::Rule>> {
    let mut rules = list(channel, nf_tables::ask_for_rules(table), nf_tables::rule)?;
    rules.retain(|rule| rule.table == table);
    Ok(rules)
}

fn list<T>(
    channel: &Channel,
    (kind, request): (u16, Vec<u8>),
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    // What is listed has the number of what makes it, one before that of the question.
    let outcome = channel.dump("list the guard's tables", kind, &request, |message| match message {
        None => found.clear(),
        Some(message) if message.kind == kind - 1 => found.extend(read(message.body)),
        Some(_) => {}
    });
    match outcome {
        // A table that is not there has no rules.
        Err(error) if error.is_gone() => Ok(Vec::new()),
        outcome => outcome.map(|()| found),
    }
}

#[cfg(test)]
mod tests;
