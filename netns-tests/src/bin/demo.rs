//! `make demo`: two gateway nodes, every owner's traffic at once, restarts under way, and who got what.
//!
//! The exit is 0 when all is well, 1 when something went to the wrong owner, a management session died or traffic did
//! not come back, 130 when a signal ended it. Everything it made is gone afterwards.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netns_tests::demo::{self, Options, Quit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const USAGE: &str = "\
Usage: demo [--api] [--partitioned]

  --api           take Services from a real kube-apiserver instead of a folder of manifests
  --partitioned   give OVN's SNAT a port range of its own, and tell replies by their port";

static QUIT: Quit = Quit::new();

fn main() -> ExitCode {
    match play() {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(_) if QUIT.is_asked() => {
            eprintln!("demo: interrupted; everything it made is gone");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<Vec<String>> {
    let Some(options) = options(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(Vec::new());
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces: run it as root");
    }
    heed_signals()?;
    demo::run(options, &QUIT)
}

fn options(words: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options::default();
    for word in words {
        match word.as_str() {
            "--api" => options.api = true,
            "--partitioned" => options.partitioned = true,
            "--help" | "-h" => return Ok(None),
            _ => bail!("{word} is not known\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

/// Signals that end a program only ask: what was made is to be taken away first. A second one ends it at once; what is
/// left then is swept by the next lab.
///
/// They are caught and not blocked: programs inherit a mask, and could then not be ended politely.
#[allow(unsafe_code, reason = "no safe way to catch a signal without blocking it")]
fn heed_signals() -> Result<()> {
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::Handler(on_signal), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores an atomic, which is async-signal-safe (signal-safety(7)), and nothing else
        // in this program handles these signals.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catching {signal}"))?;
    }
    Ok(())
}

extern "C" fn on_signal(_: nix::libc::c_int) {
    QUIT.request();
}
