//! The ingress filter in private namespaces, as nft lists it and as frames pass it.

use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::netns::Namespace;

fn run(program: &str, arguments: &str) -> String {
    let done = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

const PAIRS: [&str; 2] =
    ["link add eth0 type veth peer name peer0", "link add breth0 type veth peer name peer1"];

fn inside(setup: &[&str], work: impl FnOnce(IngressFilter) + Send) {
    let run = || {
        for line in setup {
            run("ip", line);
        }
        work(IngressFilter::new("eth0", "breth0"));
    };
    Namespace::create().unwrap().run(run).unwrap();
}

/// The table's lines as nft prints them, without counts.
fn listed(table: &str) -> Vec<String> {
    let text = run("nft", &format!("list table netdev {table}"));
    let plain = |line: &str| -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.iter().position(|word| *word == "packets") {
            Some(at) => [&words[..at], &words[at + 4..]].concat().join(" "),
            None => words.join(" "),
        }
    };
    text.lines().map(plain).filter(|line| !line.is_empty()).collect()
}

fn expected(nic: bool, bridge: bool) -> Vec<String> {
    let mut lines = vec!["table netdev ovn_k8s_breth0 {".to_owned(), format!("comment \"{MARK}\"")];
    for (chain, device, drops) in [("at_nic", "eth0", nic), ("at_bridge", "breth0", bridge)] {
        lines.push(format!("chain {chain} {{"));
        lines.push(format!("type filter hook ingress device \"{device}\" priority -500; policy accept;"));
        lines.extend(drops.then(|| "counter drop".to_owned()));
        lines.push("}".to_owned());
    }
    lines.push("}".to_owned());
    lines
}

#[test]
fn it_is_made_and_set_as_nft_would() {
    inside(&PAIRS, |filter| {
        assert_eq!(filter.observe().unwrap(), None);
        assert_eq!(IngressFilter::names().unwrap(), Vec::<String>::new());
        for (wanted, nic, bridge) in [
            (Accepting::Nic, false, true),
            (Accepting::Bridge, true, false),
            (Accepting::Both, false, false),
            (Accepting::Bridge, true, false),
            (Accepting::Bridge, true, false),
            (Accepting::Nic, false, true),
        ] {
            filter.set(wanted).unwrap();
            assert_eq!(listed(&filter.table), expected(nic, bridge));
            let state = filter.observe().unwrap().unwrap();
            assert_eq!(state.accepting(), Some(wanted));
            assert!(filter.is_accepting(wanted).unwrap());
            assert!(state.is_complete() && state.marked && state.unexpected.is_empty(), "{state:?}");
            // What an administrator saves can be loaded again.
            let saved = run("nft", "list ruleset");
            let loaded = Command::new("nft").arg("-c").arg(saved).output().unwrap();
            assert!(loaded.status.success(), "{loaded:?}");
        }
        assert_eq!(IngressFilter::names().unwrap(), ["ovn_k8s_breth0"]);
        filter.remove().unwrap();
        filter.remove().unwrap();
        assert_eq!(filter.observe().unwrap(), None);
    });
}

#[test]
fn a_table_that_nft_made_is_understood() {
    inside(&PAIRS, |filter| {
        let script = "table netdev ovn_k8s_breth0 { \
            chain at_nic { type filter hook ingress device \"eth0\" priority -500; counter drop\n } \n\
            chain at_bridge { type filter hook ingress device \"breth0\" priority -500; meta mark 7 drop\n } \n\
            chain more { drop\n } \n }";
        let done = Command::new("nft").arg(script).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let state = filter.observe().unwrap().unwrap();
        assert_eq!(state.accepting(), Some(Accepting::Bridge));
        assert!(!state.marked && state.is_complete());
        assert_eq!(state.unexpected, ["more"]);
        run("nft", "add table netdev other");
        filter.remove().unwrap();
        assert_eq!(run("nft", "list tables").trim(), "table netdev other");
    });
}

#[test]
fn a_missing_device_is_left_out_and_added_later() {
    inside(&PAIRS[..1], |filter| {
        filter.set(Accepting::Nic).unwrap();
        let state = filter.observe().unwrap().unwrap();
        assert_eq!((state.nic, state.bridge), (Some(Chain::default()), None));
        run("ip", PAIRS[1]);
        filter.set(Accepting::Nic).unwrap();
        assert_eq!(listed(&filter.table), expected(false, true));
        // The chain may go with its device; created again, it filters again.
        run("ip", "link del breth0");
        let without = filter.observe().unwrap().unwrap();
        assert!(without.nic.is_some());
        filter.set(Accepting::Nic).unwrap();
        run("ip", PAIRS[1]);
        filter.set(Accepting::Nic).unwrap();
        assert_eq!(listed(&filter.table), expected(false, true));
        // Neither: the table alone, and no error.
        run("ip", "link del breth0");
        run("ip", "link del eth0");
        filter.set(Accepting::Bridge).unwrap();
        filter.remove().unwrap();
    });
}

#[test]
fn a_chain_on_another_device_is_recreated() {
    inside(&PAIRS, |filter| {
        run("ip", "link add eth7 type veth peer name peer7");
        IngressFilter { nic: "eth7".into(), ..filter.clone() }.set(Accepting::Bridge).unwrap();
        let state = filter.observe().unwrap().unwrap();
        assert_eq!((state.nic, state.unexpected), (None, vec!["at_nic".to_owned()]));
        filter.set(Accepting::Bridge).unwrap();
        assert_eq!(filter.observe().unwrap().unwrap().accepting(), Some(Accepting::Bridge));
        assert_eq!(listed(&filter.table).iter().filter(|line| line.contains("eth7")).count(), 0);
    });
}

#[test]
fn frames_are_accepted_where_it_says() {
    let outside = Namespace::create().unwrap();
    let path = outside.path();
    let path = path.to_str().unwrap();
    inside(&PAIRS, |filter| {
        run("ip", &format!("link set peer0 netns {path}"));
        for line in ["addr add 10.1.0.2/24 dev eth0", "link set eth0 up", "link set breth0 up"] {
            run("ip", line);
        }
        outside
            .run(|| {
                run("ip", "addr add 10.1.0.1/24 dev peer0");
                run("ip", "link set peer0 up");
            })
            .unwrap();
        let answered = |wait: &str| {
            let ping = || Command::new("ping").args(["-c1", "-n", "-W", wait, "10.1.0.2"]).output().unwrap();
            outside.run(|| ping().status.success()).unwrap()
        };
        let limit = Instant::now() + Duration::from_secs(30);
        while !answered("1") {
            assert!(Instant::now() < limit, "the wire never came up");
        }
        filter.set(Accepting::Bridge).unwrap();
        assert!(!answered("1"));
        assert!(filter.observe().unwrap().unwrap().nic.unwrap().dropped > 0);
        filter.set(Accepting::Nic).unwrap();
        assert!(answered("5"));
        filter.set(Accepting::Bridge).unwrap();
        filter.remove().unwrap();
        assert!(answered("5"));
    });
}

#[test]
fn a_missing_right_is_reported() {
    inside(&PAIRS, |filter| {
        become_nobody();
        let error = filter.set(Accepting::Nic).unwrap_err().to_string();
        assert!(error.contains("ingress filters") && error.contains("CAP_NET_ADMIN"), "{error}");
    });
}

/// Of this thread only, which ends with the namespace's work: the C library's own would change all of them.
#[allow(unsafe_code, reason = "a thread's user id has no other way in")]
fn become_nobody() {
    // SAFETY: the system call takes three numbers.
    let outcome = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(outcome, 0);
}

#[test]
fn table_names_differ() {
    assert_eq!(IngressFilter::table("breth0"), "ovn_k8s_breth0");
    assert_eq!(IngressFilter::table("br_eth0"), "ovn_k8s_br_eth0");
    let odd =
        [IngressFilter::table("br-eth0"), IngressFilter::table("br.eth0"), IngressFilter::table("br_eth0")];
    assert!(odd[0].starts_with("ovn_k8s_br_eth0_") && odd[0] != odd[1] && odd[1] != odd[2], "{odd:?}");
    assert!(odd.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
}

#[test]
fn only_what_differs_is_recreated() {
    let filter = IngressFilter::new("eth0", "breth0");
    let chain = |name: &str, device: &str| nf_tables::Chain {
        table: filter.table.clone(),
        name: name.into(),
        devices: vec![device.into()],
        priority: Some(nf_tables::PRIORITY),
    };
    let there = [chain("at_nic", "eth0"), chain("at_bridge", "breth0")];
    assert_eq!(
        filter.changes(&there, Accepting::Bridge, |_| false),
        [
            Change::Table { comment: MARK },
            Change::Flush { chain: "at_nic" },
            Change::Drop { chain: "at_nic" },
            Change::Flush { chain: "at_bridge" },
        ]
    );
    assert_eq!(filter.changes(&[], Accepting::Nic, |_| false), [Change::Table { comment: MARK }]);
}

proptest! {
    #[test]
    fn any_answer_is_read_without_harm(mut bytes in prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..120)) {
        let _ = (nf_tables::table(&bytes), nf_tables::chain(&bytes), nf_tables::rule(&bytes));
        if let Some(first) = bytes.first_mut() {
            *first = 5;
        }
        let _ = (nf_tables::table(&bytes), nf_tables::chain(&bytes), nf_tables::rule(&bytes));
    }
}
