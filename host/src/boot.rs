//! The boot id, and the time since the boot.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::{Error, Result};

/// The boot's id: random, the same until the machine starts again (random(4)).
pub fn id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(Error::Kernel { attempted: format!("read {path}"), source }),
    }
}

/// How long ago it was, with the time spent asleep (`CLOCK_BOOTTIME`): comparable between processes.
pub fn age() -> Result<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .map_err(|errno| Error::Kernel { attempted: "read the clock".into(), source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_age_grows() {
        let (first, at) = (id().unwrap(), age().unwrap());
        assert_eq!(first.len(), 36, "{first}");
        assert_eq!(id().unwrap(), first);
        assert!(age().unwrap() >= at && at > Duration::ZERO);
    }
}
