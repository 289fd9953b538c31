//! One of the two paths, as the thread holds it: its device's counters, the prober on it, and the replies that came.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use host::link_stats::LinkStats;
use host::neighbour_probe::{Prober, Question};

use super::path_health::PathHealth;

/// One of the two paths.
#[derive(Debug, Default)]
pub(super) struct ProbePath {
    /// What is known of it.
    pub(super) health: PathHealth,
    /// The device, as last observed.
    pub(super) stats: Option<LinkStats>,
    /// The prober, and the index of its device.
    prober: Option<(u32, Prober)>,
    /// Probes since the device was last observed.
    probes_sent: u64,
}

impl ProbePath {
    /// Notes the replies that have come.
    pub(super) fn receive_replies(&mut self, now: Duration, probes: &[Question]) {
        let Some((_, prober)) = &self.prober else { return };
        // An error is as good as no reply: the probes stay without one.
        while let Ok(Some(reply)) = prober.receive() {
            if probes.iter().any(|probe| probe.is_answered_by(&reply)) {
                self.health.reply_received(now);
            }
        }
    }

    /// Whether the device is another one than the last observed.
    pub(super) fn is_recreated(&self, stats: Option<LinkStats>) -> bool {
        self.stats.map(|before| before.index) != stats.map(|now| now.index)
    }

    /// Notes the device's counters. Frames that it received and sent since the last time.
    pub(super) fn update(&mut self, stats: Option<LinkStats>) -> (u64, u64) {
        let before = std::mem::replace(&mut self.stats, stats);
        match (before, stats) {
            (Some(before), Some(now)) if (before.index, before.mac) == (now.index, now.mac) => {
                (now.received.saturating_sub(before.received), now.sent.saturating_sub(before.sent))
            }
            // A probe carries a MAC address that its receivers believe: never an earlier one.
            _ => {
                self.prober = None;
                self.health.reset();
                (0, 0)
            }
        }
    }

    /// How many probes were sent since this was last asked for.
    pub(super) fn take_probes_sent(&mut self) -> u64 {
        std::mem::take(&mut self.probes_sent)
    }

    /// Sends all probes; one reply is enough.
    pub(super) fn send_probes(&mut self, now: Duration, probes: &[Question]) {
        let Some(stats) = self.stats else { return };
        if self.prober.as_ref().is_none_or(|(index, _)| *index != stats.index) {
            self.prober = Prober::open(stats.index, stats.mac).ok().map(|prober| (stats.index, prober));
        }
        let Some((_, prober)) = &self.prober else { return };
        for probe in probes {
            // One that cannot be sent stays without a reply.
            let _ = prober.send(probe);
            self.probes_sent += 1;
        }
        self.health.probe_sent(now);
    }

    /// Becomes readable when a reply comes.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.prober.as_ref().map(|(_, prober)| prober.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use host::link_stats::LinkMonitor;
    use host::netns::Namespace;

    use super::*;

    fn ip(line: &str) {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "{line}");
    }

    #[test]
    fn no_probe_carries_an_earlier_mac_address() {
        let probe = Question { target: "10.0.0.1".parse().unwrap(), source: "10.0.0.2".parse().unwrap() };
        let work = || {
            ip("link add nic type veth peer name wire");
            ip("link set wire up");
            ip("link set nic up");
            let mut monitor = LinkMonitor::open().unwrap();
            let mut stats = || monitor.read("nic").unwrap();
            let mut path = ProbePath::default();
            path.update(stats());
            path.send_probes(Duration::ZERO, &[probe]);
            path.update(stats());
            assert!(path.prober.is_some() && path.health.is_waiting() && !path.is_recreated(stats()));
            ip("link set nic address 0a:00:00:00:00:77");
            path.update(stats());
            assert!(path.prober.is_none() && !path.health.is_waiting() && !path.is_recreated(stats()));
            path.send_probes(Duration::ZERO, &[probe]);
            ip("link del nic");
            ip("link add nic index 4711 address 0a:00:00:00:00:77 type veth peer name wire");
            assert!(path.is_recreated(stats()));
            path.update(stats());
            assert!(path.prober.is_none() && path.is_recreated(None));
        };
        Namespace::create().unwrap().run(work).unwrap();
    }
}
