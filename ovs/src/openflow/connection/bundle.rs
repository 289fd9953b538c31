//! One bundle from open to commit.

use std::sync::atomic::Ordering;

use super::requests::Request;
use super::transport::CHUNK;
use super::{Answer, BundleReport, Connection, refusal, unencodable};
use crate::openflow::error::{Error, Refusal};
use crate::openflow::mods::FlowMod;
use crate::openflow::wire::message::{self, bundle, kind};

/// A bundle under way. Dropped before its commit was sent, it is discarded.
///
/// A switch that refuses an addition keeps the bundle open all the same, and would commit the rest. So a commit is sent
/// only after the reply to the close, which comes after every refusal; or with the additions, where the switch has
/// accepted changes of the same form before ([`FlowMod::form`]).
pub(super) struct OpenBundle<'a> {
    connection: &'a Connection,
    mods: &'a [FlowMod],
    /// Message 0 opens the bundle, 1 to n are the changes, then come the close, and the commit or discard.
    request: Request,
    id: u32,
    /// Open at the switch, and not to be left so.
    begun: bool,
}

impl<'a> OpenBundle<'a> {
    pub(super) fn begin(connection: &'a Connection, mods: &'a [FlowMod]) -> Result<Self, Error> {
        let request = connection.request(mods.len() + 3)?;
        let id = connection.next_bundle.fetch_add(1, Ordering::Relaxed);
        Ok(OpenBundle { connection, mods, request, id, begun: false })
    }

    /// Commits when the switch has accepted every change: two round trips.
    pub(super) async fn run(mut self) -> Result<BundleReport, Error> {
        let mut bytes = 0;
        let mut out = self.fill(&mut bytes).await?;
        self.put_control(&mut out, self.close_index(), bundle::CLOSE);
        bytes += out.len();
        self.begun = true;
        self.connection.transport.send(out).await;
        self.check().await?;

        let mut out = self.connection.transport.buffer();
        self.put_control(&mut out, self.end_index(), bundle::COMMIT);
        self.send_commit(out).await;
        self.committed().await?;
        Ok(BundleReport { mods: self.mods.len(), bytes })
    }

    /// Sends the commit with the changes: one round trip, for changes that the switch does not refuse.
    pub(super) async fn run_accepted(mut self) -> Result<(), Error> {
        let mut out = self.fill(&mut 0).await?;
        self.put_control(&mut out, self.end_index(), bundle::COMMIT);
        self.send_commit(out).await;
        self.committed().await
    }

    fn close_index(&self) -> usize {
        self.mods.len() + 1
    }

    fn end_index(&self) -> usize {
        self.mods.len() + 2
    }

    /// Encodes opening and changes, and sends them in large pieces; gives the last one. No reply is waited for: changes
    /// are answered only if they are refused.
    async fn fill(&mut self, bytes: &mut usize) -> Result<Vec<u8>, Error> {
        let mut out = self.connection.transport.buffer();
        self.put_control(&mut out, 0, bundle::OPEN);
        for (index, change) in self.mods.iter().enumerate() {
            message::put_bundle_add(&mut out, self.request.xid(index + 1), self.id, change)
                .map_err(|source| unencodable(index, change, source))?;
            if out.len() >= CHUNK {
                *bytes += out.len();
                self.begun = true;
                self.connection.transport.send(out).await;
                out = self.connection.transport.buffer();
            }
        }
        Ok(out)
    }

    fn put_control(&self, out: &mut Vec<u8>, index: usize, what: u16) {
        message::put_bundle_control(out, self.request.xid(index), self.id, what);
    }

    /// From here on the switch decides: a caller that gives up no longer discards the bundle.
    async fn send_commit(&mut self, out: Vec<u8>) {
        self.connection.transport.send(out).await;
        self.begun = false;
    }

    /// Waits for the close and fails if anything was refused before it.
    async fn check(&mut self) -> Result<(), Error> {
        let mut refused = Vec::new();
        loop {
            let (index, answer) = self.answer().await?;
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

    /// Waits for the reply to the commit. Each refused change has a reply of its own before it. A switch that refuses
    /// the commit too has made none of the changes.
    async fn committed(&mut self) -> Result<(), Error> {
        let (mut refused, mut opening) = (Vec::new(), None);
        loop {
            let (index, answer) = self.answer().await?;
            match (index, answer.kind()) {
                (0, kind::ERROR) => opening = Some(answer.error("to open a bundle")?),
                (index, kind) if index == self.end_index() => {
                    return match (kind, opening) {
                        (kind::ERROR, Some(error)) => Err(Error::Switch { what: "to open a bundle", error }),
                        (kind::ERROR, None) if refused.is_empty() => {
                            let what = "to commit a bundle";
                            Err(Error::Switch { what, error: answer.error(what)? })
                        }
                        (kind::ERROR, None) => Err(Error::Refused { refused, of: self.mods.len() }),
                        _ if refused.is_empty() => Ok(()),
                        _ => Err(Error::PartlyCommitted { refused, of: self.mods.len() }),
                    };
                }
                (index, kind::ERROR) => refused.extend(self.refusal(index, answer.error("a flow change")?)),
                _ => {}
            }
        }
    }

    async fn answer(&mut self) -> Result<(usize, Answer), Error> {
        self.connection.answer(&mut self.request).await
    }

    fn refusal(&self, index: usize, error: crate::openflow::SwitchError) -> Option<Refusal> {
        let at = index.checked_sub(1)?;
        self.mods.get(at).map(|change| refusal(at, change, error))
    }
}

impl Drop for OpenBundle<'_> {
    fn drop(&mut self) {
        if self.begun {
            let mut out = self.connection.transport.buffer();
            self.put_control(&mut out, self.end_index(), bundle::DISCARD);
            // Behind what is still queued of this bundle, which would open it again.
            self.connection.transport.send_at_once(out);
        }
    }
}
