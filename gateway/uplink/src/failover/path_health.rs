//! What is known of one path to the next hops (through the bridge, or over the NIC itself): pure bookkeeping.

use std::time::Duration;

/// So many probes must stay without a reply before a path counts as silent.
const UNANSWERED: u32 = 3;
/// And so long must the first of them be ago.
const SILENCE: Duration = Duration::from_millis(220);
/// A frame is fresh for so long.
const FRESH: Duration = Duration::from_millis(400);
/// So many probes in a row must get a reply for a path to count as proven.
const PROOF: u32 = 3;

/// One path. Times are since the start of the failover thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathHealth {
    /// When a frame last came this way.
    received: Option<Duration>,
    /// When the first probe was sent that nothing has followed since.
    silent_since: Option<Duration>,
    /// When the last probe was sent.
    probed: Option<Duration>,
    /// Probes since a frame came.
    unanswered: u32,
    /// Probes with a reply, one after the other.
    replies: u32,
}

impl PathHealth {
    /// A probe was sent.
    pub fn probe_sent(&mut self, now: Duration) {
        if self.unanswered > 0 {
            self.replies = 0;
        }
        self.unanswered += 1;
        self.probed = Some(now);
        self.silent_since.get_or_insert(now);
    }

    /// A reply to a probe came.
    pub fn reply_received(&mut self, now: Duration) {
        if self.unanswered > 0 {
            self.replies = self.replies.saturating_add(1);
        }
        self.frame_received(now);
    }

    /// A frame came that is no reply to a probe: the path works, but is not proven from end to end.
    pub fn frame_received(&mut self, now: Duration) {
        self.received = Some(now);
        self.silent_since = None;
        self.unanswered = 0;
    }

    /// The thread itself did not run for a while: a reply that is missing from that time proves nothing.
    pub fn discount_missing(&mut self) {
        self.silent_since = None;
        self.unanswered = 0;
    }

    /// Nothing is known any more: what forwarded is gone.
    pub fn reset(&mut self) {
        *self = PathHealth::default();
    }

    /// Probes stay without a reply for long enough.
    pub fn is_silent(&self, now: Duration) -> bool {
        self.unanswered >= UNANSWERED && self.silent_for(now).is_some_and(|time| time >= SILENCE)
    }

    /// At least one probe is without a reply for longer than a reply takes.
    pub fn is_suspect(&self, now: Duration) -> bool {
        self.unanswered > 1 || self.silent_for(now).is_some_and(|time| time >= SILENCE / 4)
    }

    /// A frame came just now, and no probe is without a reply since.
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.received.is_some_and(|received| now.saturating_sub(received) <= FRESH)
    }

    /// Enough probes in a row got a reply, the last just now.
    pub fn is_proven(&self, now: Duration) -> bool {
        self.replies >= PROOF && self.is_fresh(now)
    }

    /// Whether a probe waits for its reply.
    pub fn is_waiting(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether probes have begun to get replies.
    pub fn is_replying(&self) -> bool {
        self.replies > 0
    }

    /// When the first probe was sent that nothing has followed since.
    pub fn silent_since(&self) -> Option<Duration> {
        self.silent_since
    }

    /// How long ago the last probe was sent.
    pub fn since_probe(&self, now: Duration) -> Option<Duration> {
        self.probed.map(|probed| now.saturating_sub(probed))
    }

    fn silent_for(&self, now: Duration) -> Option<Duration> {
        self.silent_since.map(|since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_path_is_silent_after_unanswered_probes_and_time() {
        let mut path = PathHealth::default();
        for at in [0, 5, 10, 15] {
            path.probe_sent(ms(at));
        }
        assert!(!path.is_silent(ms(100)), "many probes at once prove nothing");
        assert!(path.is_silent(ms(220)));
        path.frame_received(ms(221));
        assert!(!path.is_silent(ms(2000)), "no probe was sent since");
        path.probe_sent(ms(2000));
        assert!(!path.is_silent(ms(9000)), "one probe may be lost");
        path.probe_sent(ms(9000));
        path.probe_sent(ms(9050));
        path.discount_missing();
        assert!(!path.is_silent(ms(9999)));
    }

    #[test]
    fn a_path_is_proven_after_replies_in_a_row() {
        let mut path = PathHealth::default();
        for at in [0, 20, 40] {
            path.frame_received(ms(at));
        }
        assert!(!path.is_proven(ms(40)), "frames that are no replies are no proof");
        for at in [100, 120] {
            path.probe_sent(ms(at));
            path.reply_received(ms(at + 1));
        }
        path.probe_sent(ms(140));
        path.probe_sent(ms(160));
        path.reply_received(ms(161));
        assert!(!path.is_proven(ms(161)), "the row was broken");
        for at in [180, 200] {
            path.probe_sent(ms(at));
            path.reply_received(ms(at + 1));
        }
        assert!(path.is_proven(ms(201)));
        assert!(!path.is_proven(ms(2000)), "an old proof is none");
    }
}
