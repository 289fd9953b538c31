//! `ovn-k8s-util` with a command line that means nothing, or with nothing to do: one line, its remedy, its exit code.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::process::{Command, Output, Stdio};

/// Runs it where no Open vSwitch is, with a state folder of its own.
fn run(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let place =
        ["--db=unix:/nonexistent/db.sock".to_owned(), format!("--state-dir={}", dir.path().display())];
    let (word, rest) = args.split_first().map_or(("", &[][..]), |(word, rest)| (*word, rest));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovn-k8s"));
    command.arg("util").args(Some(word).filter(|word| !word.is_empty()));
    if ["nics-to-bridge", "bridge-to-nics", "recover", "confirm"].contains(&word) {
        command.args(place);
    }
    command.args(rest).env("OVS_RUNDIR", "/nonexistent").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn each_fault_is_one_line_with_a_remedy() {
    let cases: [(&[&str], &[&str]); 12] = [
        (&[], &["subcommand", "--help"]),
        (&["nics-to-bridges", "eth0"], &["nics-to-bridge", "--help"]),
        (&["nics-to-bridge"], &["<IFACE>", "--help"]),
        (&["bridge-to-nics"], &["<BRIDGE>", "--help"]),
        (&["nics-to-bridge", "a/b"], &["a/b", "ip -br link"]),
        (&["nics-to-bridge", "averyveryverylongname"], &["longer than 15", "ip -br link"]),
        (&["nics-to-bridge", "lo", "lo"], &["lo is named twice"]),
        (&["bridge-to-nics", "b", "b"], &["b is named twice"]),
        (&["nics-to-bridge", "--verify-timeout=0", "lo"], &["--verify-timeout", "1..=86400"]),
        (&["nics-to-bridge", "--confirm=never", "lo"], &["--confirm", "never"]),
        (&["nics-to-bridge", "--datapath-type=dpdk", "lo"], &["dpdk", "netdev, system"]),
        (&["confirm"], &["no run waits", "--confirm"]),
    ];
    for (args, parts) in cases {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && said.lines().count() == 1, "{args:?}: {output:?}");
        assert!(said.starts_with("ovn-k8s-util: "), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part:?} in {said}");
        }
    }
}

#[test]
fn nothing_to_settle_is_no_failure() {
    let output = run(&["recover"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing to recover"), "{output:?}");
}

#[test]
fn help_has_examples() {
    for args in [&["--help"][..], &["nics-to-bridge", "--help"], &["bridge-to-nics", "--help"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Examples:"), "{args:?}");
    }
}
