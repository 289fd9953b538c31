//! One bundle from open to commit.

use std::sync::atomic::Ordering;

use super::link::CHUNK;
use super::ticket::Ticket;
use super::{BundleReport, Connection, refusal, unencodable};
use crate::openflow::error::{Error, Refusal};
use crate::openflow::mods::FlowMod;
use crate::openflow::wire::message::{self, bundle, kind};

/// A bundle under way. Dropped before its commit was sent, it is discarded.
///
/// A switch that refuses an addition keeps the bundle open all the same, and would commit the rest: so nothing is
/// committed before the answer to the close, which comes after every refusal.
pub(super) struct OpenBundle<'a> {
    connection: &'a Connection,
    mods: &'a [FlowMod],
    /// Number 0 is for the opening, 1 to n for the changes, then one for the close and one for the end.
    ticket: Ticket,
    id: u32,
    begun: bool,
}

impl<'a> OpenBundle<'a> {
    pub(super) fn begin(connection: &'a Connection, mods: &'a [FlowMod]) -> Result<Self, Error> {
        let ticket = connection.ticket(mods.len() + 3)?;
        let id = connection.next_bundle.fetch_add(1, Ordering::Relaxed);
        Ok(OpenBundle { connection, mods, ticket, id, begun: false })
    }

    pub(super) async fn run(mut self) -> Result<BundleReport, Error> {
        let bytes = self.fill().await?;
        self.check().await?;
        self.commit().await?;
        Ok(BundleReport { mods: self.mods.len(), bytes })
    }

    fn close_index(&self) -> usize {
        self.mods.len() + 1
    }

    fn end_index(&self) -> usize {
        self.mods.len() + 2
    }

    /// Sends opening, changes and close in large pieces, without waiting for any answer: the changes are answered
    /// only if they are refused.
    async fn fill(&mut self) -> Result<usize, Error> {
        let mut out = self.connection.link.buffer();
        let mut bytes = 0;
        message::put_bundle_control(&mut out, self.ticket.xid(0), self.id, bundle::OPEN);
        for (index, change) in self.mods.iter().enumerate() {
            message::put_bundle_add(&mut out, self.ticket.xid(index + 1), self.id, change)
                .map_err(|source| unencodable(index, change, source))?;
            if out.len() >= CHUNK {
                bytes += out.len();
                self.begun = true;
                self.connection.send(out).await?;
                out = self.connection.link.buffer();
            }
        }
        message::put_bundle_control(&mut out, self.ticket.xid(self.close_index()), self.id, bundle::CLOSE);
        bytes += out.len();
        self.begun = true;
        self.connection.send(out).await?;
        Ok(bytes)
    }

    /// Waits for the close and fails if anything was refused before it.
    async fn check(&mut self) -> Result<(), Error> {
        let mut refused = Vec::new();
        loop {
            let (index, answer) = self.connection.answer(&mut self.ticket).await?;
            match (index, answer.kind()) {
                (0, kind::ERROR) => {
                    let what = "to open a bundle";
                    return Err(Error::Switch { what, error: answer.error(what)? });
                }
                (index, kind::ERROR) if index == self.close_index() => {
                    let what = "to close a bundle";
                    return Err(Error::Switch { what, error: answer.error(what)? });
                }
                (index, kind::ERROR) => refused.extend(self.refusal(index, answer.error("a flow change")?)),
                (index, kind::BUNDLE_CONTROL) if index == self.close_index() => break,
                _ => {}
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Error::Refused { refused, of: self.mods.len() }) }
    }

    /// Commits. A change can still be refused here, by number, before the commit itself is.
    async fn commit(&mut self) -> Result<(), Error> {
        let mut out = self.connection.link.buffer();
        message::put_bundle_control(&mut out, self.ticket.xid(self.end_index()), self.id, bundle::COMMIT);
        self.connection.send(out).await?;
        // Queued: from here on the switch decides.
        self.begun = false;
        let mut refused = Vec::new();
        loop {
            let (index, answer) = self.connection.answer(&mut self.ticket).await?;
            match (index == self.end_index(), answer.kind()) {
                (true, kind::BUNDLE_CONTROL) => return Ok(()),
                (true, kind::ERROR) if refused.is_empty() => {
                    let what = "to commit a bundle";
                    return Err(Error::Switch { what, error: answer.error(what)? });
                }
                (true, kind::ERROR) => return Err(Error::Refused { refused, of: self.mods.len() }),
                (false, kind::ERROR) => refused.extend(self.refusal(index, answer.error("a flow change")?)),
                _ => {}
            }
        }
    }

    fn refusal(&self, index: usize, error: crate::openflow::SwitchError) -> Option<Refusal> {
        let at = index.checked_sub(1)?;
        self.mods.get(at).map(|change| refusal(at, change, error))
    }
}

impl Drop for OpenBundle<'_> {
    fn drop(&mut self) {
        if self.begun {
            let mut out = self.connection.link.buffer();
            message::put_bundle_control(
                &mut out,
                self.ticket.xid(self.end_index()),
                self.id,
                bundle::DISCARD,
            );
            // Behind whatever of this bundle is still waiting to be written, or it would be opened anew.
            self.connection.link.send_unasked(out);
        }
    }
}
