//! The ingress filter: from which of a NIC and its bridge the host accepts frames.
//!
//! A NIC that is a port of a userspace bridge is only tapped, so the host would receive every frame twice: from the NIC
//! and from the bridge. The filter is a table of nft's family `netdev` for each bridge, with one chain at the ingress of
//! either device, before every other one (priority -500). An empty chain accepts all; the other one drops what the host
//! would receive there, while taps (the bridge's own socket on the NIC) still see the frame: they come before the ingress
//! hook. One transaction empties the one chain and fills the other, so no frame is received twice or lost.
//!
//! The changes are nf_tables netlink messages: no program is executed, so a process that undoes the work of a killed one
//! needs none either.
//!
//! A chain needs its device and may vanish with it: [`IngressFilter::set`] makes what is missing, and leaves out a chain
//! whose device does not exist.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::deferred_close::close_deferred;
use crate::netlink_socket::{self, NetlinkSocket};
use crate::{Error, Result};

pub(crate) mod nf_tables;

use nf_tables::Change;

/// The ingress filter of one bridge.
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

/// From which device the host accepts frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accepting {
    /// From the NIC: what comes in by the bridge is dropped.
    Nic,
    /// From the bridge: what comes in by the NIC is dropped.
    Bridge,
    /// From both: the host receives every frame twice while the bridge is up.
    Both,
}

/// The ingress filter of one bridge as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterState {
    /// The chain of the NIC; `None` when there is none or it is on another device.
    pub nic: Option<Chain>,
    /// The chain of the bridge; likewise.
    pub bridge: Option<Chain>,
    /// The table has our comment.
    pub marked: bool,
    /// Chains that do not belong to the filter, or have another device or priority.
    pub unexpected: Vec<String>,
}

/// A chain of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// It drops every frame.
    pub drops: bool,
    /// Frames dropped since the dropping rule was made.
    pub dropped: u64,
}

/// An ingress filter of any bridge, as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedFilter {
    /// Name of the table.
    pub table: String,
    /// The device of the NIC's chain; that chain goes with its device.
    pub nic: Option<String>,
    /// The device of the bridge's chain; likewise.
    pub bridge: Option<String>,
    /// What comes in by the NIC is dropped.
    pub drops_at_nic: bool,
    /// What comes in by the bridge is dropped.
    pub drops_at_bridge: bool,
}

/// `bridge` alone is a keyword of nft: what `nft list ruleset` prints could not be loaded again.
const NIC: &str = "at_nic";
const BRIDGE: &str = "at_bridge";
const MARK: &str = "the host hears a NIC or its bridge, not both (ovn-k8s)";
/// A device that comes or goes between listing and changing makes the whole transaction fail.
const TRIES: usize = 5;

impl IngressFilter {
    /// The filter of a bridge and its NIC, in the network namespace of the thread that first observes or sets it.
    #[must_use]
    pub fn new(nic: &str, bridge: &str) -> Self {
        Self {
            table: Self::table(bridge),
            nic: nic.to_owned(),
            bridge: bridge.to_owned(),
            kept: Kept::default(),
        }
    }

    /// The name of a bridge's table: `ovn_k8s_` and the bridge's name. Characters other than letters, digits and `_`
    /// (which nft does not take) become `_`, and a checksum of the whole name follows, so that two such names differ.
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

    /// The filter as the kernel has it; `None` when there is no such table.
    pub fn observe(&self) -> Result<Option<FilterState>> {
        self.kept.with(|socket| self.observe_by(socket))
    }

    /// Whether the filter exists, is complete, and makes the host accept frames from `wanted` alone
    /// ([`FilterState::is_accepting`]).
    pub fn is_accepting(&self, wanted: Accepting) -> Result<bool> {
        Ok(self.observe()?.is_some_and(|state| state.is_accepting(wanted)))
    }

    /// Makes the host accept frames from `wanted`, in one transaction that also makes what is missing.
    pub fn set(&self, wanted: Accepting) -> Result<()> {
        self.kept.with(|socket| self.set_by(socket, wanted))
    }

    fn set_by(&self, socket: &NetlinkSocket, wanted: Accepting) -> Result<()> {
        let what = format!("accept frames from {} only", self.named(wanted));
        let mut tries = 0;
        loop {
            tries += 1;
            let found = chains(socket, &self.table)?;
            let changes = self.changes(&found, wanted, crate::devices::exists);
            match self.commit(socket, &what, &changes) {
                Err(Error::Netlink {
                    errno: libc::ENOENT | libc::ENODEV | libc::EEXIST | libc::EBUSY,
                    ..
                }) if tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    /// Removes the filter; succeeds when there is none.
    pub fn remove(&self) -> Result<()> {
        let what = format!("remove the ingress filter of {}", self.bridge);
        match self.kept.with(|socket| self.commit(socket, &what, &[Change::RemoveTable])) {
            Err(error) if error.is_missing() => Ok(()),
            outcome => outcome,
        }
    }

    /// The table names of all ingress filters.
    pub fn names() -> Result<Vec<String>> {
        let socket = NetlinkSocket::open(libc::NETLINK_NETFILTER)?;
        let tables = tables(&socket)?;
        let ours = tables.into_iter().filter(|table| table.comment.as_deref() == Some(MARK));
        Ok(ours.map(|table| table.name).collect())
    }

    /// All ingress filters, with the devices of their chains.
    pub fn list() -> Result<Vec<ListedFilter>> {
        let socket = NetlinkSocket::open(libc::NETLINK_NETFILTER)?;
        let mut all = Vec::new();
        for table in tables(&socket)?.into_iter().filter(|table| table.comment.as_deref() == Some(MARK)) {
            let rules = rules(&socket, &table.name)?;
            let drops = |chain: &str| rules.iter().any(|rule| rule.chain == chain && rule.drops);
            let mut found = ListedFilter {
                drops_at_nic: drops(NIC),
                drops_at_bridge: drops(BRIDGE),
                ..ListedFilter::default()
            };
            for chain in chains(&socket, &table.name)? {
                match chain.name.as_str() {
                    NIC => found.nic = chain.devices.into_iter().next(),
                    BRIDGE => found.bridge = chain.devices.into_iter().next(),
                    _ => {}
                }
            }
            all.push(ListedFilter { table: table.name, ..found });
        }
        Ok(all)
    }

    /// The changes that make the host accept frames from `wanted`, given the existing chains. Of a chain that is right
    /// only the rules change: it never accepts everything in between.
    fn changes<'a>(
        &'a self,
        found: &[nf_tables::Chain],
        wanted: Accepting,
        exists: impl Fn(&str) -> bool,
    ) -> Vec<Change<'a>> {
        let mut changes = vec![Change::Table { comment: MARK }];
        for (name, device, drops) in [
            (NIC, self.nic.as_str(), wanted == Accepting::Bridge),
            (BRIDGE, self.bridge.as_str(), wanted == Accepting::Nic),
        ] {
            let existing = found.iter().find(|chain| chain.name == name);
            let right = existing.is_some_and(|chain| is_right(chain, device));
            if existing.is_some() {
                changes.push(Change::Flush { chain: name });
            }
            if existing.is_some() && !right {
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

    fn observe_by(&self, socket: &NetlinkSocket) -> Result<Option<FilterState>> {
        let Some(table) = tables(socket)?.into_iter().find(|table| table.name == self.table) else {
            return Ok(None);
        };
        let mut state =
            FilterState { marked: table.comment.as_deref() == Some(MARK), ..FilterState::default() };
        let rules = rules(socket, &self.table)?;
        for chain in chains(socket, &self.table)? {
            let (slot, device) = match chain.name.as_str() {
                NIC => (&mut state.nic, &self.nic),
                BRIDGE => (&mut state.bridge, &self.bridge),
                _ => {
                    state.unexpected.push(chain.name);
                    continue;
                }
            };
            if !is_right(&chain, device) {
                state.unexpected.push(chain.name);
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

    fn commit(&self, socket: &NetlinkSocket, what: &str, changes: &[Change<'_>]) -> Result<()> {
        let lead = socket.sequences(changes.len() + 2);
        let bytes = nf_tables::transaction(&self.table, changes, lead);
        let answers = socket.exchange(what, &bytes, lead.wrapping_add(1), changes.len())?;
        match answers.into_iter().find(|answer| answer.errno != 0) {
            Some(answer) => Err(netlink_socket::refusal(what, answer)),
            None => Ok(()),
        }
    }

    fn named(&self, wanted: Accepting) -> String {
        match wanted {
            Accepting::Nic => self.nic.clone(),
            Accepting::Bridge => self.bridge.clone(),
            Accepting::Both => format!("{} and {}", self.nic, self.bridge),
        }
    }
}

/// The socket to nf_tables, kept from one change to the next: close() waits for an RCU grace period after a removal.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<NetlinkSocket>>);

impl Kept {
    fn with<T>(&self, work: impl FnOnce(&NetlinkSocket) -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match kept.take() {
            Some(socket) => socket,
            None => NetlinkSocket::open(libc::NETLINK_NETFILTER)?,
        };
        work(kept.insert(socket))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        kept.into_iter().for_each(close_deferred);
    }
}

impl Clone for Kept {
    /// A copy opens a socket of its own.
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

impl FilterState {
    /// From which device the host accepts frames; `None` when a chain is missing, or when both drop.
    #[must_use]
    pub fn accepting(&self) -> Option<Accepting> {
        match (self.nic?.drops, self.bridge?.drops) {
            (false, false) => Some(Accepting::Both),
            (false, true) => Some(Accepting::Nic),
            (true, false) => Some(Accepting::Bridge),
            (true, true) => None,
        }
    }

    /// Whether the filter is right for a host that shall accept frames from `wanted` alone.
    #[must_use]
    pub fn is_accepting(&self, wanted: Accepting) -> bool {
        self.accepting() == Some(wanted)
    }

    /// Whether both chains exist, on their devices.
    #[must_use]
    pub fn is_complete(&self) -> bool {
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

fn tables(socket: &NetlinkSocket) -> Result<Vec<nf_tables::Table>> {
    list(socket, nf_tables::list_tables(), nf_tables::table)
}

fn chains(socket: &NetlinkSocket, table: &str) -> Result<Vec<nf_tables::Chain>> {
    let mut chains = list(socket, nf_tables::list_chains(), nf_tables::chain)?;
    chains.retain(|chain| chain.table == table);
    Ok(chains)
}

fn rules(socket: &NetlinkSocket, table: &str) -> Result<Vec<nf_tables::Rule>> {
    let mut rules = list(socket, nf_tables::list_rules(table), nf_tables::rule)?;
    rules.retain(|rule| rule.table == table);
    Ok(rules)
}

fn list<T>(
    socket: &NetlinkSocket,
    (kind, request): (u16, Vec<u8>),
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    // A listed object has the message type that creates it, one before that of the request.
    let outcome = socket.dump("list the ingress filters", kind, &request, |message| match message {
        None => found.clear(),
        Some(message) if message.kind == kind - 1 => found.extend(read(message.body)),
        Some(_) => {}
    });
    match outcome {
        // A table that does not exist has no rules.
        Err(error) if error.is_missing() => Ok(Vec::new()),
        outcome => outcome.map(|()| found),
    }
}

#[cfg(test)]
mod tests;
