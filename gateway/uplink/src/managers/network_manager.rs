//! NetworkManager: NIC and bridge become unmanaged devices (NetworkManager.conf(5)).
//!
//! It cannot configure a device that Open vSwitch made without its plugin, so both devices are unmanaged for this boot:
//! addresses and routes stay on the bridge as they are. A lease cannot be handed over, because it would have to renew it.

use std::path::PathBuf;

use super::{Act, Handover, HandoverRequest, Impossible, MARK, Manager, words, write};

const FOLDER: &str = "/run/NetworkManager/conf.d";

pub(super) fn handover(request: &HandoverRequest<'_>) -> Result<Handover, Impossible> {
    if let Some(address) = request.leased.first() {
        return Err((
            format!("it holds the lease of {address}, and cannot renew it on a bridge of Open vSwitch"),
            format!(
                "make the address static (`nmcli connection modify ... ipv4.method manual`), or use dhclient for {}",
                request.nic
            ),
        ));
    }
    let (nic, bridge) = (file(request.nic), file(request.bridge));
    let reload = || Act::Reload { command: words("nmcli general reload conf") };
    // It sets a device down that only the file makes unmanaged, and the bridge with it. So it also gets the command; the
    // file is for its next start.
    let managed = |value: &str| words(&format!("nmcli device set {} managed {value}", request.nic));
    let mut complete = vec![write(&nic, unmanaged(request.nic)), Act::Reload { command: managed("no") }];
    if request.announced {
        // It processes router advertisements itself and turns them off in the kernel; the kernel has to renew them now.
        complete.push(Act::AcceptRouterAdvertisements { device: request.bridge.to_owned() });
    }
    Ok(Handover {
        prepare: vec![write(&bridge, unmanaged(request.bridge)), reload()],
        complete,
        take_back: vec![
            Act::Remove { path: nic },
            Act::Remove { path: bridge },
            reload(),
            Act::Run { command: managed("yes") },
        ],
        ..request.with(Manager::NetworkManager)
    })
}

fn file(device: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("90-ovn-k8s-{device}.conf"))
}

fn unmanaged(device: &str) -> String {
    format!("# {MARK}\n[keyfile]\nunmanaged-devices+=interface-name:{device}\n")
}
