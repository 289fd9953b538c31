//! ifupdown: acts only when somebody says so, so that a hook behind it is enough (interfaces(5)).
//!
//! After `ifup eth0`, at boot or by hand, the addresses are on the NIC; the hook has them settled.

use std::path::PathBuf;

use super::{Act, Asked, Handover, MARK, Manager};

pub(super) fn handover(asked: &Asked<'_>) -> Handover {
    // run-parts(8) takes only names of these characters.
    let name: String =
        asked.nic.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let path = PathBuf::from("/etc/network/if-up.d").join(format!("ovn-k8s-uplink-{name}"));
    let hook = Act::Write { path: path.clone(), content: hook(asked), executable: true };
    Handover { complete: vec![hook], take_back: vec![Act::Remove { path }], ..asked.with(Manager::Ifupdown) }
}

fn hook(asked: &Asked<'_>) -> String {
    let place = asked.invocation;
    let [program, state_dir] = [&place.program, &place.state_dir].map(|path| quoted(&path.to_string_lossy()));
    let (nic, db) = (quoted(asked.nic), quoted(&place.db));
    format!(
        "#!/bin/sh\n# {MARK}\n[ \"$IFACE\" = {nic} ] || exit 0\n[ -x {program} ] || exit 0\n\
         {program} ovn-k8s-util recover --state-dir {state_dir} --db {db} || true\n"
    )
}

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
