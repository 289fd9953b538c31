//! What the keeper says of itself: one value, for the status, the metrics and whoever waits for news.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state_machine::Reason;

/// Where management is, and how it came there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Management {
    /// The bridge is looked after: userspace datapath, and the NIC is a port of it.
    pub kept: bool,
    /// Management may leave the bridge (`--no-failover` was not given).
    pub failover: bool,
    /// Where it is.
    pub at: At,
    /// The device that is.
    pub device: String,
    /// Why it is on the NIC, while it is.
    pub reason: Option<Reason>,
    /// Since when it is on the NIC, seconds since 1970, while it is.
    pub since: Option<u64>,
    /// How often it went to the NIC, by reason.
    pub failovers: BTreeMap<Reason, u64>,
    /// The last time: from the first sign of trouble until it was on the NIC, in milliseconds.
    pub last_gap_ms: Option<f64>,
    /// Next hops that are asked whether the bridge forwards; without one only the process is watched.
    pub next_hops: Vec<String>,
    /// What went wrong last, while it does.
    pub problem: Option<String>,
}

/// Where management is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// Not known, or not looked after.
    #[default]
    Unknown,
    /// On the bridge.
    Bridge,
    /// On the NIC.
    Nic,
}

impl Management {
    /// All failovers.
    pub fn count(&self) -> u64 {
        self.failovers.values().sum()
    }

    /// For how long it has been on the NIC at `now` (seconds since 1970).
    pub fn away(&self, now: u64) -> Option<Duration> {
        self.since.map(|since| Duration::from_secs(now.saturating_sub(since)))
    }
}

impl fmt::Display for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kept {
            return f.write_str("not looked after (no userspace bridge that holds the NIC)");
        }
        match self.at {
            At::Unknown => f.write_str("on neither bridge nor NIC")?,
            At::Bridge => write!(f, "on {}", self.device)?,
            At::Nic => write!(f, "ON THE NIC {}", self.device)?,
        }
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        match (self.count(), self.last_gap_ms) {
            (0, _) => {}
            (count, Some(gap)) => write!(f, "; failed over {count} times, last in {gap:.1} ms")?,
            (count, None) => write!(f, "; failed over {count} times")?,
        }
        if !self.failover {
            f.write_str("; failover is off (--no-failover)")?;
        } else if self.next_hops.is_empty() {
            f.write_str("; no next hop to ask, so only the death of ovs-vswitchd is noticed")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_and_why() {
        let mut management = Management { kept: true, failover: true, ..Management::default() };
        (management.at, management.device) = (At::Bridge, "breth0".into());
        management.next_hops = vec!["172.18.0.1".into()];
        assert_eq!(management.to_string(), "on breth0");
        (management.at, management.device) = (At::Nic, "eth0".into());
        management.reason = Some(Reason::Ended);
        management.failovers.insert(Reason::Ended, 2);
        management.last_gap_ms = Some(18.26);
        assert_eq!(
            management.to_string(),
            "ON THE NIC eth0: ovs-vswitchd ended; failed over 2 times, last in 18.3 ms"
        );
        let json = serde_json::to_string(&management).unwrap();
        assert_eq!(serde_json::from_str::<Management>(&json).unwrap(), management);
    }
}
