//! Other programs that serve NodePorts: kube-proxy in any of its modes.

use std::time::Duration;

use uplink::command;

/// How long a list of rules may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// kube-proxy, by its rules (all of its modes) and by its process.
pub(super) fn look() -> Vec<String> {
    let mut found = Vec::new();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let nft = command::run(&words("nft -t list ruleset"), PATIENCE).map(|answer| answer.output);
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let mut texts = vec![nft.unwrap_or_default()];
    if !legacy.trim().is_empty() {
        let text = command::run(&words("iptables-legacy-save -t nat"), PATIENCE);
        texts.extend(text.map(|answer| answer.output));
    }
    if texts.iter().any(|text| text.contains("KUBE-NODEPORTS")) {
        found.push("chains of kube-proxy (KUBE-NODEPORTS) are in iptables".to_owned());
    }
    if texts.iter().any(|text| text.contains("table ip kube-proxy") || text.contains("table ip6 kube-proxy"))
    {
        found.push("kube-proxy's nftables table (kube-proxy) is there".to_owned());
    }
    if host::devices::exists("kube-ipvs0") {
        found.push("kube-proxy's IPVS device (kube-ipvs0) is there".to_owned());
    }
    for process in host::process::find(|process| process.program() == "kube-proxy") {
        found.push(format!("kube-proxy runs (pid {})", process.pid));
    }
    found
}
