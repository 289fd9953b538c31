//! ifupdown: it acts only when it is called, so a hook after it is enough (interfaces(5)).
//!
//! After `ifup eth0`, at boot or by hand, the addresses are on the NIC; the hook runs `ovn-k8s-util recover`.

use std::path::PathBuf;

use super::{Act, Handover, HandoverRequest, MARK, Manager};

pub(super) fn handover(request: &HandoverRequest<'_>) -> Handover {
    // run-parts(8) takes only names of these characters.
    let name: String =
        request.nic.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let path = PathBuf::from("/etc/network/if-up.d").join(format!("ovn-k8s-uplink-{name}"));
    let hook = Act::Write { path: path.clone(), content: hook(request), executable: true };
    Handover {
        complete: vec![hook],
        take_back: vec![Act::Remove { path }],
        ..request.with(Manager::Ifupdown)
    }
}

fn hook(request: &HandoverRequest<'_>) -> String {
    let invocation = request.invocation;
    let [program, state_dir] =
        [&invocation.program, &invocation.state_dir].map(|path| quoted(&path.to_string_lossy()));
    let (nic, db) = (quoted(request.nic), quoted(&invocation.db));
    format!(
        "#!/bin/sh\n# {MARK}\n[ \"$IFACE\" = {nic} ] || exit 0\n[ -x {program} ] || exit 0\n\
         {program} ovn-k8s-util recover --state-dir {state_dir} --db {db} || true\n"
    )
}

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
