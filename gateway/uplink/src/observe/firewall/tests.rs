use super::*;

/// As `nft -j list ruleset` prints it (1.0.6).
const NFT: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
 {"table": {"family": "inet", "name": "filter", "handle": 1}},
 {"set": {"family": "inet", "name": "lan", "table": "filter", "type": "ifname", "handle": 9, "elem": ["eth0", "eth1"]}},
 {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
 {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 2, "expr": [
   {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}},
   {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}},
   {"counter": {"packets": 0, "bytes": 0}}, {"accept": null}]}},
 {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 3, "expr": [
   {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@lan"}}, {"accept": null}]}},
 {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [
   {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]}},
 {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 5, "expr": [
   {"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["eth0", {"jump": {"target": "wan"}}], ["lo", {"accept": null}]]}}}]}},
 {"table": {"family": "ip", "name": "nat", "handle": 2}},
 {"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 2, "expr": [
   {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": {"set": ["eth0", "breth0"]}}}, {"masquerade": null}]}},
 {"chain": {"family": "netdev", "table": "early", "name": "in", "handle": 1, "dev": "eth0", "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept"}},
 {"chain": {"family": "netdev", "table": "ovn_k8s_breth0", "name": "nic", "handle": 1, "dev": "eth0", "type": "filter", "hook": "ingress", "prio": -500, "policy": "accept"}},
 {"rule": {"family": "inet", "table": "ovn_k8s_gateway", "chain": "x", "handle": 2, "expr": [
   {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}, {"accept": null}]}}
]}"#;

#[test]
fn nft_rules_that_name_a_device_are_found() {
    let rules = of_nft(NFT).unwrap();
    let texts: Vec<_> = rules.iter().map(|rule| (rule.text.as_str(), rule.lets_in)).collect();
    assert_eq!(
        texts,
        [
            ("iifname eth0 tcp dport 22 accept", true),
            ("iifname @lan accept", true),
            ("iifname vmap { eth0, wan, lo }", true),
            ("oifname { eth0, breth0 } masquerade", false),
            ("chain in on device eth0", false),
        ]
    );
    assert!(rules.iter().all(|rule| rule.names("eth0")), "{rules:?}");
    assert!(rules[3].names("breth0") && rules[1].names("eth1") && !rules[0].names("breth0"));
    assert_eq!(rules[0].place, "inet filter input");
}

#[test]
fn a_rule_counts_as_accepting_only_in_a_table_that_drops() {
    let open = NFT.replace(r#""policy": "drop""#, r#""policy": "accept""#);
    assert!(of_nft(&open).unwrap().iter().all(|rule| !rule.lets_in));
    assert_eq!(of_nft("{}").unwrap(), []);
    assert!(of_nft("nonsense").is_err());
}

#[test]
fn iptables_rules_that_name_a_device_are_found() {
    let text = "\
*filter
:INPUT DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -i eth+ -j zone_lan
-A INPUT -i eth0 -j DROP
-A INPUT -p icmp -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
";
    let rules = of_iptables(text);
    let lets_in: Vec<_> = rules.iter().map(|rule| rule.lets_in).collect();
    assert_eq!(lets_in, [true, true, false, false]);
    assert!(rules.iter().all(|rule| rule.names("eth0")));
    assert_eq!(rules[3].place, "nat POSTROUTING");
    assert!(
        of_iptables(&text.replace("INPUT DROP", "INPUT ACCEPT").replace("-j DROP", "-j LOG"))
            .iter()
            .all(|rule| !rule.lets_in)
    );
}

#[test]
fn firewalld_zones_with_an_interface_are_found() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/firewalld/zones");
    std::fs::create_dir_all(&folder).unwrap();
    let zone = "<?xml version=\"1.0\"?>\n<zone>\n  <interface name=\"eth0\"/>\n  <interface name='eth1'/>\n</zone>\n";
    std::fs::write(folder.join("public.xml"), zone).unwrap();
    std::fs::write(folder.join("public.xml.old"), zone).unwrap();
    let rules = zones(root.path());
    assert_eq!(rules.len(), 2);
    assert!(rules[0].names("eth0") && rules[1].names("eth1") && rules[0].place == "zone public");
}
