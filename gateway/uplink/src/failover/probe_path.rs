//! One of the two ways, as the thread holds it: its device's counters, who asks there, and what came back.

use std::time::Duration;

use host::link_stats::LinkStats;
use host::neighbour_probe::{Prober, Question};

use super::path_health::PathHealth;

/// One of the two ways.
#[derive(Debug, Default)]
pub(super) struct ProbePath {
    /// What it answered.
    pub(super) way: PathHealth,
    /// Who asks there, on the device of this number.
    pub(super) asker: Option<(u32, Prober)>,
    /// The device, when it was last looked at.
    pub(super) pulse: Option<LinkStats>,
    /// Questions since the last look.
    pub(super) asked: u64,
}

impl ProbePath {
    /// Takes note of the answers that have come.
    pub(super) fn hear(&mut self, now: Duration, questions: &[Question]) {
        let Some((_, asker)) = &self.asker else { return };
        // An error is as good as no answer: who asks in vain finds out.
        while let Ok(Some(heard)) = asker.receive() {
            if questions.iter().any(|question| question.is_answered_by(&heard)) {
                self.way.answered(now);
            }
        }
    }

    /// Whether the device is another one than at the last look.
    pub(super) fn is_another(&self, pulse: Option<LinkStats>) -> bool {
        self.pulse.map(|before| before.index) != pulse.map(|now| now.index)
    }

    /// Takes note of the device's counters; how many frames it received and sent since the last look.
    pub(super) fn feel(&mut self, pulse: Option<LinkStats>) -> (u64, u64) {
        let before = std::mem::replace(&mut self.pulse, pulse);
        match (before, pulse) {
            (Some(before), Some(now)) if (before.index, before.mac) == (now.index, now.mac) => {
                (now.received.saturating_sub(before.received), now.sent.saturating_sub(before.sent))
            }
            // Who asks names a MAC address, and whoever hears the question believes it: never one of before.
            _ => {
                self.asker = None;
                self.way.forget();
                (0, 0)
            }
        }
    }

    /// Asks all; one answer is enough.
    pub(super) fn ask(&mut self, now: Duration, questions: &[Question]) {
        let Some(pulse) = self.pulse else { return };
        if self.asker.as_ref().is_none_or(|(index, _)| *index != pulse.index) {
            self.asker = Prober::open(pulse.index, pulse.mac).ok().map(|asker| (pulse.index, asker));
        }
        let Some((_, asker)) = &self.asker else { return };
        for question in questions {
            // One that cannot be sent stays unanswered.
            let _ = asker.send(question);
            self.asked += 1;
        }
        self.way.asked(now);
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
    fn nobody_asks_by_a_mac_address_of_before() {
        let question = Question { target: "10.0.0.1".parse().unwrap(), source: "10.0.0.2".parse().unwrap() };
        let work = || {
            ip("link add nic type veth peer name wire");
            ip("link set wire up");
            ip("link set nic up");
            let mut doctor = LinkMonitor::open().unwrap();
            let mut pulse = || doctor.read("nic").unwrap();
            let mut line = ProbePath::default();
            line.feel(pulse());
            line.ask(Duration::ZERO, &[question]);
            line.feel(pulse());
            assert!(line.asker.is_some() && !line.way.is_settled() && !line.is_another(pulse()));
            ip("link set nic address 0a:00:00:00:00:77");
            line.feel(pulse());
            assert!(line.asker.is_none() && line.way.is_settled() && !line.is_another(pulse()));
            line.ask(Duration::ZERO, &[question]);
            ip("link del nic");
            ip("link add nic index 4711 address 0a:00:00:00:00:77 type veth peer name wire");
            assert!(line.is_another(pulse()));
            line.feel(pulse());
            assert!(line.asker.is_none() && line.is_another(None));
        };
        Namespace::create().unwrap().run(work).unwrap();
    }
}
