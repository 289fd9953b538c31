//! Offloads of a device, and its driver (`SIOCETHTOOL`, linux/ethtool.h; what ethtool(8) shows with -k and -i).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{Error, Result};

/// An offload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// The kernel's name for it (`rx-gro`); ethtool(8) says `generic-receive-offload` for that one.
    pub name: String,
    /// It is on.
    pub on: bool,
    /// It can be changed.
    pub changeable: bool,
}

/// The driver of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Driver {
    /// Name.
    pub name: String,
    /// Version; often the kernel's.
    pub version: String,
    /// Bus address (`0000:3b:00.0`); empty for a virtual device.
    pub bus: String,
}

/// Offloads that aggregate received frames. A packet socket then receives frames that are longer than any on the wire,
/// and another device refuses them when a userspace bridge forwards them.
const AGGREGATING: [&str; 5] = ["rx-gro", "rx-lro", "rx-gro-hw", "rx-gro-list", "rx-udp-gro-forwarding"];

/// All offloads of a device, in the kernel's order.
pub fn features(device: &str) -> Result<Vec<Feature>> {
    let control = Control::open(device)?;
    let names = control.names()?;
    let blocks = control.blocks(names.len())?;
    let bit = |number: usize, which: usize| {
        let block = blocks.get(BLOCK * (number / 32) + which).copied().unwrap_or_default();
        block & 1 << (number % 32) != 0
    };
    let features = names.into_iter().enumerate().map(|(number, name)| Feature {
        name,
        on: bit(number, ACTIVE),
        changeable: bit(number, AVAILABLE) && !bit(number, NEVER_CHANGED),
    });
    Ok(features.filter(|feature| !feature.name.is_empty()).collect())
}

/// Sets offloads by name. Returns the names of those that are not as wanted afterwards: unknown to this kernel, or
/// refused by the driver.
pub fn set_features(device: &str, wanted: &[(&str, bool)]) -> Result<Vec<String>> {
    let control = Control::open(device)?;
    let names = control.names()?;
    let mut request = vec![SFEATURES, names.len().div_ceil(32) as u32];
    request.resize(2 + 2 * names.len().div_ceil(32), 0);
    for (name, on) in wanted {
        if let Some(number) = names.iter().position(|known| known == name) {
            let (block, bit) = (2 + 2 * (number / 32), 1 << (number % 32));
            request[block] |= bit;
            request[block + 1] |= if *on { bit } else { 0 };
        }
    }
    control.call("set the offloads", &mut request)?;
    let now = features(device)?;
    let differs = |name: &str, on: bool| !now.iter().any(|feature| feature.name == name && feature.on == on);
    Ok(wanted.iter().filter(|(name, on)| differs(name, *on)).map(|(name, _)| (*name).to_owned()).collect())
}

/// The offloads that aggregate frames and are on.
#[must_use]
pub fn aggregating(features: &[Feature]) -> Vec<&Feature> {
    features.iter().filter(|feature| feature.on && AGGREGATING.contains(&feature.name.as_str())).collect()
}

/// The driver of a device; `None` when it has none.
pub fn driver(device: &str) -> Result<Option<Driver>> {
    let control = Control::open(device)?;
    let mut request = vec![0; DRIVER_WORDS];
    request[0] = GDRVINFO;
    match control.call("read the driver", &mut request) {
        Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok(None);
        }
        outcome => outcome?,
    }
    Ok(Some(driver_of(&bytes_of(&request))))
}

/// The names of `struct ethtool_gstrings`.
pub(crate) fn names_of(bytes: &[u8]) -> Vec<String> {
    bytes.chunks_exact(NAME).map(crate::netlink_format::text).collect()
}

/// `struct ethtool_drvinfo`.
pub(crate) fn driver_of(bytes: &[u8]) -> Driver {
    let text = |at: usize| bytes.get(at..at + NAME).map(crate::netlink_format::text).unwrap_or_default();
    Driver { name: text(4), version: text(36), bus: text(100) }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name.
const NAME: usize = 32;
/// `struct ethtool_drvinfo` in words.
const DRIVER_WORDS: usize = 49;
/// Words of `struct ethtool_get_features_block`, and the index of each.
const BLOCK: usize = 4;
const AVAILABLE: usize = 0;
const ACTIVE: usize = 2;
const NEVER_CHANGED: usize = 3;
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// More offloads than any kernel has.
const AT_MOST: u32 = 4096;

/// A control socket, of the calling thread's network namespace.
struct Control {
    socket: OwnedFd,
    device: String,
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut u32,
    rest: [u8; 16],
}

impl Control {
    fn open(device: &str) -> Result<Self> {
        let attempted = || format!("list the offloads of {device}");
        if device.is_empty() || device.len() >= libc::IFNAMSIZ || device.contains('\0') {
            let source = io::Error::from_raw_os_error(libc::ENODEV);
            return Err(Error::Kernel { attempted: attempted(), source });
        }
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| Error::Kernel { attempted: attempted(), source: errno.into() })?;
        Ok(Self { socket, device: device.to_owned() })
    }

    fn names(&self) -> Result<Vec<String>> {
        // Command, nothing, which sets (64 bits), the length of each.
        let mut count = vec![GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        // A mask of 64 bits in the machine's order.
        if cfg!(target_endian = "big") {
            count.swap(2, 3);
        }
        self.call("count the offloads", &mut count)?;
        let count = count[4];
        if count > AT_MOST {
            // The kernel writes as many names as it has, whatever the room.
            let attempted = format!("name the {count} offloads of {}", self.device);
            return Err(Error::Kernel { attempted, source: io::ErrorKind::InvalidData.into() });
        }
        let mut request = vec![GSTRINGS, ETH_SS_FEATURES, count];
        request.resize(3 + count as usize * NAME / 4, 0);
        self.call("name the offloads", &mut request)?;
        Ok(names_of(&bytes_of(&request[3..])))
    }

    /// The blocks of 32 offloads each.
    fn blocks(&self, count: usize) -> Result<Vec<u32>> {
        let blocks = count.div_ceil(32);
        let mut request = vec![GFEATURES, blocks as u32];
        request.resize(2 + BLOCK * blocks, 0);
        self.call("list the offloads", &mut request)?;
        Ok(request.split_off(2))
    }

    /// The command in the first word determines how many more are read or written; each caller has made room for them.
    #[allow(unsafe_code, reason = "a system call by number with a pointer inside")]
    fn call(&self, what: &str, request: &mut [u32]) -> Result<()> {
        let mut name = [0; libc::IFNAMSIZ];
        name[..self.device.len()].copy_from_slice(self.device.as_bytes());
        let mut control = Request { name, data: request.as_mut_ptr(), rest: [0; 16] };
        // SAFETY: the structure is no shorter than an ifreq and lives until the call returns, as does what it points to.
        // The kernel writes as much as the counts in the request say, and as many names as it counted before (their
        // number is fixed when it is compiled); the callers have made room for that.
        let outcome = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut control) };
        if outcome >= 0 {
            return Ok(());
        }
        let attempted = format!("{what} of {}", self.device);
        Err(Error::Kernel { attempted, source: io::Error::last_os_error() })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    fn run(program: &str, arguments: &str) -> String {
        let done = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
        assert!(done.status.success(), "{program} {arguments}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn named<'a>(features: &'a [Feature], name: &str) -> &'a Feature {
        features.iter().find(|feature| feature.name == name).unwrap()
    }

    #[test]
    fn offloads_are_read_and_set_as_ethtool_does() {
        let work = || {
            run("ip", "link add eth0 type veth peer name peer0");
            let before = features("eth0").unwrap();
            // What ethtool lists under the kernel's own name is the same.
            let listed = run("ethtool", "-k eth0");
            let mut compared = 0;
            for line in listed.lines().skip(1) {
                let Some((name, value)) = line.trim().split_once(": ") else { continue };
                let Some(feature) = before.iter().find(|feature| feature.name == name) else { continue };
                assert_eq!(feature.on, value.starts_with("on"), "{line}");
                assert_eq!(feature.changeable, !value.contains("[fixed]"), "{line}");
                compared += 1;
            }
            assert!(compared > 20, "{compared}");
            for on in [true, false, true] {
                assert_eq!(set_features("eth0", &[("rx-gro", on)]).unwrap(), Vec::<String>::new());
                assert_eq!(named(&features("eth0").unwrap(), "rx-gro").on, on);
                let word = if on { "on" } else { "off" };
                let line = format!("generic-receive-offload: {word}");
                assert!(run("ethtool", "-k eth0").contains(&line));
                let all = features("eth0").unwrap();
                assert_eq!(aggregating(&all).iter().any(|feature| feature.name == "rx-gro"), on);
            }
            // Back as it was, whatever it was.
            let back: Vec<_> = before
                .iter()
                .filter(|feature| feature.changeable)
                .map(|feature| (feature.name.as_str(), feature.on))
                .collect();
            assert_eq!(set_features("eth0", &back).unwrap(), Vec::<String>::new());
            assert_eq!(features("eth0").unwrap(), before);
            // Fixed, unknown.
            assert_eq!(
                set_features("eth0", &[("rx-lro", true), ("no-such", true)]).unwrap(),
                ["rx-lro", "no-such"]
            );
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn the_driver_is_named() {
        let work = || {
            run("ip", "link add eth0 type veth peer name peer0");
            let driver = driver("eth0").unwrap().unwrap();
            assert_eq!((driver.name.as_str(), driver.bus.as_str()), ("veth", ""));
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn a_missing_device_is_reported() {
        for name in ["", "no-such-device", "a-name-that-is-longer-than-any", "a\0b"] {
            let error = features(name).unwrap_err().to_string();
            assert!(error.contains("the device does not exist") && error.contains("offloads of"), "{error}");
        }
    }
}
