//! The corpora and mutations of them, on the stable toolchain.
//!
//! `FUZZ_SECONDS` is the time for mutations of all targets together (60), `FUZZ_SEED` another sequence of them. An input
//! that makes a target panic is saved in `target/tmp/fuzz-crashes`; it belongs into `fuzz/corpus/TARGET` with the repair.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by a panic")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use fuzz::{Crash, TARGETS, Target};

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Fails with the input as hexadecimal digits, and where it was saved.
fn fail((name, _): Target, seed: u64, crash: Crash) -> ! {
    let mut digits = String::new();
    for byte in &crash.input {
        write!(digits, "{byte:02x}").unwrap();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-crashes");
    let path = folder.join(format!("{name}-{seed}-{}", crash.after));
    let saved = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &crash.input));
    let place = match saved {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("not saved: {error}"),
    };
    panic!(
        "{name} panicked: {}\nFUZZ_SEED={seed}, mutation {}\ninput: {digits}\nsaved: {place}",
        crash.message, crash.after
    );
}

fn replay_and_mutate(name: &str) {
    let target = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let seed = setting("FUZZ_SEED", 1);
    let files = fuzz::corpus(name).unwrap();
    assert!(!files.is_empty(), "fuzz/corpus/{name} is empty");
    for (path, input) in &files {
        if let Err(crash) = fuzz::run(target, input, 0) {
            eprintln!("{}:", path.display());
            fail(target, seed, crash);
        }
    }
    let inputs: Vec<Vec<u8>> = files.into_iter().map(|(_, input)| input).collect();
    let time = Duration::from_secs_f64(setting("FUZZ_SECONDS", 60.0)) / TARGETS.len() as u32;
    match fuzz::run_mutations(target, &inputs, seed, time) {
        Ok(count) => eprintln!("{name}: {} inputs, {count} mutations, FUZZ_SEED={seed}", inputs.len()),
        Err(crash) => fail(target, seed, crash),
    }
}

#[test]
fn frame() {
    replay_and_mutate("frame");
}

#[test]
fn openflow() {
    replay_and_mutate("openflow");
}

#[test]
fn ovsdb() {
    replay_and_mutate("ovsdb");
}

#[test]
fn netlink() {
    replay_and_mutate("netlink");
}

#[test]
fn journal() {
    replay_and_mutate("journal");
}

#[test]
fn manifest() {
    replay_and_mutate("manifest");
}

#[test]
fn every_target_has_a_test() {
    let source = include_str!("replay.rs");
    for (name, _) in TARGETS {
        assert!(source.contains(&format!("replay_and_mutate(\"{name}\")")), "{name} has no test here");
    }
}

#[test]
fn a_panic_is_reported_with_its_input() {
    fn target(input: &[u8]) {
        assert!(input.first() != Some(&7), "seven");
    }
    assert!(fuzz::run(("sample", target), &[1], 0).is_ok());
    let crash = fuzz::run(("sample", target), &[7, 8], 3).unwrap_err();
    assert_eq!((crash.input, crash.message.as_str(), crash.after), (vec![7, 8], "seven", 3));
}

#[test]
fn the_journals_of_the_corpus_are_valid() {
    let folder = uplink::journal::Folder::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/journal"));
    assert!(folder.journal().unwrap().is_some());
    assert_eq!(folder.all_taken().unwrap().into_iter().map(Result::unwrap).count(), 1);
}
