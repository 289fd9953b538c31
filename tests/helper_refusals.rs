//! `ovn-k8s-gateway-helper` with wrong or missing flags: one clear line, a remedy, exit 1, before detaching.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::process::{Command, Stdio};

/// Runs the helper where no OVS is, and gives the one line it ends with.
fn refusal(args: &[&str]) -> String {
    let nowhere = "/nonexistent";
    let output = Command::new(env!("CARGO_BIN_EXE_ovn-k8s"))
        .arg("ovn-k8s-gateway-helper")
        .args(args)
        .env("OVS_RUNDIR", nowhere)
        .env("OVN_RUNDIR", nowhere)
        .env("OVS_LOGDIR", nowhere)
        .env("OVS_SYSCONFDIR", nowhere)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("ovn-k8s-gateway-helper: ")).collect();
    assert_eq!(lines.len(), 1, "{args:?}: {said}");
    lines[0].to_owned()
}

#[test]
fn each_fault_is_one_line_with_a_remedy() {
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--detach"], &["--physical-bridge is missing", "--physical-bridge=breth0"]),
        (&["--physical-bridge=breth0"], &["--physical-interface is missing", "eth0"]),
        (&["--physical-brige=breth0"], &["'--physical-bridge'", "--help"]),
        (&["--physical-bridge=breth0", "--physical-interface=a/b"], &["a/b", "not the name of an interface"]),
        (&["--reply-rule=sometimes"], &["sometimes", "auto, tracked, partitioned"]),
        (&["--config=/nonexistent/x"], &["/nonexistent/x", "--config"]),
        (
            &["--physical-bridge=b", "--physical-interface=e", "-vconsol:dbg"],
            &["consol", "console, syslog, file"],
        ),
        (&["--physical-bridge=b", "--physical-interface=e", "--log-file"], &["/nonexistent", "OVS_LOGDIR"]),
        (
            &["--physical-bridge=b", "--physical-interface=e", "--db=carrier-pigeon:1"],
            &["--db", "carrier-pigeon"],
        ),
    ];
    for (args, parts) in cases {
        let said = refusal(args);
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part:?} in {said}");
        }
    }
}
