//! Fuzz targets: each takes any bytes and must not panic, overflow or loop.
//!
//! A target calls a parser of bytes that come from outside this process: the network, the switch, a database server,
//! the kernel, a file. `tests/replay.rs` runs the targets on the stable toolchain: every file of `corpus/TARGET`, then
//! mutations of them for a limited time. `make fuzz` runs the same functions under libFuzzer, guided by coverage, with
//! the programs in `fuzz_targets/`.
//!
//! To add a target: a function here, its entry in [`TARGETS`], a `[[bin]]` in `Cargo.toml` with its file in
//! `fuzz_targets/`, a test in `tests/replay.rs`, and a few real inputs in `corpus/TARGET`.

pub mod mutate;

use std::any::Any;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// A name, as in `corpus/NAME`, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("openflow", openflow),
    ("ovsdb", ovsdb),
    ("netlink", netlink),
    ("journal", journal),
    ("manifest", manifest),
];

/// An Ethernet frame, and a pcap or pcapng file of frames.
pub fn frame(input: &[u8]) {
    black_box(demux::frame::Frame::parse(input));
    host::fuzzing::probe_frame(input);
    for frame in demux::capture::read_frames(input).unwrap_or_default() {
        black_box(demux::frame::Frame::parse(&frame));
    }
}

/// A message that a switch sends.
pub fn openflow(input: &[u8]) {
    ovs::fuzzing::openflow(input);
}

/// A stream of messages that a database server sends.
pub fn ovsdb(input: &[u8]) {
    ovs::fuzzing::ovsdb(input);
}

/// A datagram of netlink: its messages, each of them as a row of every kind, and the answers of other families.
pub fn netlink(input: &[u8]) {
    use host::fuzzing::{
        ethtool_strings, netlink_messages, nf_tables_message, rtnetlink_row, sock_diag_message,
    };
    const HEADER: usize = 16;
    const KINDS: u8 = 7;
    netlink_messages(input);
    let mut rest = input;
    while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize)
        && let Some(body) = rest.get(HEADER..length)
    {
        for kind in 0..KINDS {
            rtnetlink_row(&[&[kind], body].concat());
        }
        nf_tables_message(body);
        sock_diag_message(body);
        ethtool_strings(body);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// A journal or a takeover record in the state folder, and one kernel row of it.
pub fn journal(input: &[u8]) {
    host::fuzzing::row_json(input);
    uplink::fuzzing::journal(input);
}

/// A file of Kubernetes manifests.
pub fn manifest(input: &[u8]) {
    kubernetes::fuzzing::manifest(input);
}

/// A target panicked.
#[derive(Debug)]
pub struct Crash {
    /// The input.
    pub input: Vec<u8>,
    /// The panic's message.
    pub message: String,
    /// How many mutations were run before, 0 for a file of the corpus.
    pub after: u64,
}

/// The inputs of a target, by file name.
pub fn corpus(target: &str) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        files.push((path, bytes));
    }
    files.sort();
    Ok(files)
}

/// Runs the target once.
pub fn run((_, target): Target, input: &[u8], after: u64) -> Result<(), Crash> {
    let message = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned(),
    };
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|panic| Crash {
        input: input.to_vec(),
        message: message(panic),
        after,
    })
}

/// Runs mutations of the inputs for the given time; gives their number. The sequence depends on the seed alone.
pub fn run_mutations(target: Target, inputs: &[Vec<u8>], seed: u64, time: Duration) -> Result<u64, Crash> {
    let mut mutator = Mutator::new(seed);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time && !inputs.is_empty() {
        count += 1;
        run(target, &mutator.next(inputs), count)?;
    }
    Ok(count)
}
