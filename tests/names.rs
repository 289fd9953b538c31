//! The binary under its names: which part runs, and what it prints and exits with when none does.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ovn-k8s");

/// Runs `program` where no OVS runs.
fn run(program: impl AsRef<OsStr>, args: &[&str]) -> Output {
    let nowhere = Path::new("/nonexistent");
    Command::new(program)
        .args(args)
        .env("OVS_RUNDIR", nowhere)
        .env("OVS_LOGDIR", nowhere)
        .env("OVS_SYSCONFDIR", nowhere)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The binary under another name, in a folder of this test's own.
fn named(test: &str, name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let link = dir.join(name);
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    link
}

/// Checks the shape of every refusal: one line on stderr, nothing on stdout, exit status 1.
fn refusal(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn without_a_known_part_the_known_ones_are_listed() {
    for args in [&[][..], &["frobnicate"], &["--detach"]] {
        assert!(refusal(&run(BINARY, args)).contains("gateway-helper, status, explain"), "{args:?}");
    }
    let renamed = named("unknown", "renamed");
    assert!(refusal(&run(&renamed, &[])).contains("gateway-helper"));
}

#[test]
fn parts_of_later_versions_are_refused() {
    for name in ["ovn-k8s-overlay", "ovn-k8s-watcher", "ovn_cni"] {
        assert!(refusal(&run(named("later", name), &["--overlay"])).contains("not built into this version"));
        assert!(refusal(&run(BINARY, &[name])).contains("not built into this version"));
    }
}

#[test]
fn help_and_version() {
    for args in [&["--help"][..], &["help"], &["--version"], &["status", "--help"]] {
        let output = run(BINARY, args);
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn make_install_links_every_name() {
    let help = String::from_utf8(run(BINARY, &["--help"]).stdout).unwrap();
    let names: Vec<&str> =
        help.lines().filter_map(|line| line.trim().strip_prefix("also as ovn-k8s-")).collect();
    assert_eq!(names.len(), 5, "{help}");
    let makefile = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile")).unwrap();
    let linked = makefile.lines().find_map(|line| line.trim().strip_prefix("for name in ")).unwrap();
    let (linked, _) = linked.split_once(';').unwrap();
    assert_eq!(linked.split(' ').collect::<Vec<_>>(), names);
    for name in names {
        let output = run(named("installed", &format!("ovn-k8s-{name}")), &["--help"]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{name}: {output:?}");
    }
}

#[test]
fn status_reports_that_no_helper_runs() {
    let said = refusal(&run(BINARY, &["status"]));
    assert!(said.contains("ovn-k8s-gateway-helper is not running here"), "{said}");
    let said = refusal(&run(BINARY, &["status", "--target", "/nonexistent/x.ctl"]));
    assert!(said.contains("/nonexistent/x.ctl is not running here"), "{said}");
    let said = refusal(&run(BINARY, &["status", "--output=poem"]));
    assert!(said.contains("table, json"), "{said}");
}
