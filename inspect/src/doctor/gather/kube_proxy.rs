//! Signs of kube-proxy, in any of its modes: it serves the same NodePorts as the gateway.

use std::time::Duration;

use uplink::command;

/// Timeout of listing the rules.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One sentence for each sign: rules of its modes, its device, its process.
pub(super) fn detect() -> Vec<String> {
    let mut found = Vec::new();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let nft = command::run(&words("nft -t list ruleset"), TIMEOUT).map(|answer| answer.output);
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let mut texts = vec![nft.unwrap_or_default()];
    if !legacy.trim().is_empty() {
        let text = command::run(&words("iptables-legacy-save -t nat"), TIMEOUT);
        texts.extend(text.map(|answer| answer.output));
    }
    if texts.iter().any(|text| text.contains("KUBE-NODEPORTS")) {
        found.push("iptables has chains of kube-proxy (KUBE-NODEPORTS)".to_owned());
    }
    if texts.iter().any(|text| text.contains("table ip kube-proxy") || text.contains("table ip6 kube-proxy"))
    {
        found.push("nftables has the table of kube-proxy (kube-proxy)".to_owned());
    }
    if host::devices::exists("kube-ipvs0") {
        found.push("the IPVS device of kube-proxy (kube-ipvs0) exists".to_owned());
    }
    for process in host::process::find(|process| process.program() == "kube-proxy") {
        found.push(format!("kube-proxy runs (pid {})", process.pid));
    }
    found
}
