//! NetworkManager: NIC and bridge are taken out of its hands (NetworkManager.conf(5)).
//!
//! It has no way to look after a device that Open vSwitch made without its own plugin, so it looks after neither, for
//! this boot: what it has set stays as it is on the bridge. A lease it would have to go on with cannot be handed over.

use std::path::PathBuf;

use super::{Act, Asked, Handover, MARK, Manager, Not, words, write};

const FOLDER: &str = "/run/NetworkManager/conf.d";

pub(super) fn handover(asked: &Asked<'_>) -> Result<Handover, Not> {
    if let Some(address) = asked.leased.first() {
        return Err((
            format!(
                "it holds the lease of {address}, and knows no way to hold it on a bridge of Open vSwitch"
            ),
            format!(
                "make the address static (`nmcli connection modify ... ipv4.method manual`), or have dhclient look after {}",
                asked.nic
            ),
        ));
    }
    let (nic, bridge) = (file(asked.nic), file(asked.bridge));
    let reload = || Act::Reload { command: words("nmcli general reload conf") };
    // A device that the file alone makes unmanaged is set down, and with it the way of everything on the bridge. So it
    // is told in so many words; the file is for its next start.
    let managed = |word: &str| words(&format!("nmcli device set {} managed {word}", asked.nic));
    let mut complete = vec![write(&nic, unmanaged(asked.nic)), Act::Reload { command: managed("no") }];
    if asked.announced {
        // It listens to routers by itself and has the kernel ignore them; nobody would renew what they announced.
        complete.push(Act::HearRouters { device: asked.bridge.to_owned() });
    }
    Ok(Handover {
        prepare: vec![write(&bridge, unmanaged(asked.bridge)), reload()],
        complete,
        take_back: vec![
            Act::Remove { path: nic },
            Act::Remove { path: bridge },
            reload(),
            Act::Run { command: managed("yes") },
        ],
        ..asked.with(Manager::NetworkManager)
    })
}

fn file(device: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("90-ovn-k8s-{device}.conf"))
}

fn unmanaged(device: &str) -> String {
    format!("# {MARK}\n[keyfile]\nunmanaged-devices+=interface-name:{device}\n")
}
