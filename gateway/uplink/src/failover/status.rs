//! What the failover reports: one value, for the status, the metrics and the log.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Reason;
use super::state_machine::FailoverState;

/// Where management is, and how it came there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// The failover is active: userspace datapath, and the NIC is a port of the bridge.
    #[serde(rename = "kept")]
    pub active: bool,
    /// Management may leave the bridge (`--no-failover` was not given).
    #[serde(rename = "failover")]
    pub may_leave: bool,
    /// Where it is.
    #[serde(rename = "at")]
    pub location: ManagementLocation,
    /// The name of that device.
    pub device: String,
    /// Why it is on the NIC, while it is.
    pub reason: Option<Reason>,
    /// Since when it is on the NIC, seconds since 1970, while it is.
    pub since: Option<u64>,
    /// How often it went to the NIC, by reason.
    pub failovers: BTreeMap<Reason, u64>,
    /// The last time: from the first sign of trouble until it was on the NIC, in milliseconds.
    pub last_gap_ms: Option<f64>,
    /// Next hops that are probed through the bridge; without one only the process is watched.
    pub next_hops: Vec<String>,
    /// The last failure, while it lasts.
    pub problem: Option<String>,
}

/// Where management is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManagementLocation {
    /// Not known, or the failover is inactive.
    #[default]
    Unknown,
    /// On the bridge.
    Bridge,
    /// On the NIC.
    Nic,
}

impl FailoverStatus {
    /// All failovers.
    pub fn count(&self) -> u64 {
        self.failovers.values().sum()
    }

    /// For how long management has been on the NIC at `now` (seconds since 1970).
    pub fn time_on_nic(&self, now: u64) -> Option<Duration> {
        self.since.map(|since| Duration::from_secs(now.saturating_sub(since)))
    }

    /// Takes over the state of the thread at `now` (its own clock), which is `epoch` since 1970.
    pub(super) fn update(
        &mut self,
        state: FailoverState,
        (bridge, nic): (&str, &str),
        now: Duration,
        epoch: Duration,
    ) {
        let (location, device) = match state {
            FailoverState::Idle => (ManagementLocation::Unknown, ""),
            FailoverState::OnBridge => (ManagementLocation::Bridge, bridge),
            FailoverState::OnNic { .. } | FailoverState::Proving { .. } => (ManagementLocation::Nic, nic),
        };
        self.location = location;
        device.clone_into(&mut self.device);
        (self.reason, self.since) = match state {
            FailoverState::OnNic { since, why } | FailoverState::Proving { left: since, why, .. } => {
                let since = epoch.saturating_sub(now.saturating_sub(since)).as_secs();
                // The system's clock may be set meanwhile.
                let known = self.since.filter(|_| self.reason == Some(why));
                (Some(why), known.or(Some(since)))
            }
            FailoverState::Idle | FailoverState::OnBridge => (None, None),
        };
    }
}

impl fmt::Display for FailoverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.active {
            return f.write_str("failover inactive: no userspace bridge holds the NIC");
        }
        match self.location {
            ManagementLocation::Unknown => f.write_str("on neither bridge nor NIC")?,
            ManagementLocation::Bridge => write!(f, "on {}", self.device)?,
            ManagementLocation::Nic => write!(f, "ON THE NIC {}", self.device)?,
        }
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        match (self.count(), self.last_gap_ms) {
            (0, _) => {}
            (count, Some(gap)) => write!(f, "; failed over {count} times, last in {gap:.1} ms")?,
            (count, None) => write!(f, "; failed over {count} times")?,
        }
        if !self.may_leave {
            f.write_str("; failover is off (--no-failover)")?;
        } else if self.next_hops.is_empty() {
            f.write_str("; no next hop to probe: only the end of ovs-vswitchd is noticed")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_location_and_reason() {
        let mut status = FailoverStatus { active: true, may_leave: true, ..FailoverStatus::default() };
        (status.location, status.device) = (ManagementLocation::Bridge, "breth0".into());
        status.next_hops = vec!["172.18.0.1".into()];
        assert_eq!(status.to_string(), "on breth0");
        (status.location, status.device) = (ManagementLocation::Nic, "eth0".into());
        status.reason = Some(Reason::Ended);
        status.failovers.insert(Reason::Ended, 2);
        status.last_gap_ms = Some(18.26);
        assert_eq!(
            status.to_string(),
            "ON THE NIC eth0: ovs-vswitchd ended; failed over 2 times, last in 18.3 ms"
        );
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<FailoverStatus>(&json).unwrap(), status);
    }

    #[test]
    fn the_json_keys_are_stable() {
        let json = serde_json::to_value(FailoverStatus::default()).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "at",
            "device",
            "failover",
            "failovers",
            "kept",
            "last_gap_ms",
            "next_hops",
            "problem",
            "reason",
            "since",
        ];
        let found: std::collections::BTreeSet<&str> = keys.into_iter().collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(json["at"], "unknown");
    }

    #[test]
    fn the_status_follows_the_state() {
        let (names, epoch) = (("breth0", "eth0"), Duration::from_secs(1_700_000_000));
        let second = Duration::from_secs;
        let on_nic = FailoverState::OnNic { since: second(90), why: Reason::Ended };
        let proving = FailoverState::Proving { left: second(90), why: Reason::Ended, since: second(99) };
        let found = FailoverState::OnNic { since: second(100), why: Reason::Found };
        let mut status = FailoverStatus::default();
        // The state, and then the device, the reason and since when.
        for (state, device, reason, since) in [
            (FailoverState::OnBridge, "breth0", None, None),
            (on_nic, "eth0", Some(Reason::Ended), Some(1_699_999_990)),
            (proving, "eth0", Some(Reason::Ended), Some(1_699_999_990)),
            (found, "eth0", Some(Reason::Found), Some(1_700_000_000)),
            (FailoverState::OnBridge, "breth0", None, None),
            (FailoverState::Idle, "", None, None),
        ] {
            status.update(state, names, second(100), epoch);
            assert_eq!((status.device.as_str(), status.reason, status.since), (device, reason, since));
        }
        status.update(on_nic, names, second(100), epoch);
        status.update(on_nic, names, second(101), second(5));
        assert_eq!(status.since, Some(1_699_999_990), "the clock was set: the time stays");
    }
}
