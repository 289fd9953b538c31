//! The boot id.

use crate::{Error, Result};

/// The boot's id: random, the same until the machine starts again (random(4)).
pub fn id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(Error::Kernel { attempted: format!("read {path}"), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays() {
        let first = id().unwrap();
        assert_eq!(first.len(), 36, "{first}");
        assert_eq!(id().unwrap(), first);
    }
}
