//! The demo: two gateway nodes, every owner's traffic at once, and what is done to them meanwhile.
//!
//! ```text
//! administrator ==session==> node1 (host)            management
//! node1 (host)  ==session==> internet                management
//! pods of both nodes ------> internet                north-south, out through node1
//! internet ----------------> node1:NodePort -> pods  north-south
//! ```
//!
//! It begins with a node as it comes from the installer: its NIC goes onto the bridge while the administrator's session
//! and pings run over it, and at the end it comes back.
//!
//! Each answer carries the name of who gave it, and a counter of nft's on node1 counts what the bridge hands to the host
//! though it is the pods'. So a frame that goes to the wrong owner is seen. Losses and gaps are counted, and said for each
//! thing that was done; on a busy machine some are the machine's.

mod clients;
mod environment;
mod events;
mod meter;
mod summary;
mod traffic;
mod view;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::{environment::Environment, traffic::Traffic, view::View};

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Services come from a real kube-apiserver instead of a folder of manifests.
    pub api: bool,
    /// OVN's SNAT keeps to a port range, and replies are told by their port instead of by connection table.
    pub partitioned: bool,
}

/// Asked to end early: by a signal.
#[derive(Debug, Default)]
pub struct Quit(AtomicBool);

impl Quit {
    /// Nobody has asked yet.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks the demo to end as soon as it can, and to clean up.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits; an error when asked to end meanwhile.
    fn pause(&self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end && !self.is_asked() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_asked() {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Runs the demo and prints what happens. Gives what was not as it should be: nothing, when all is well.
pub fn run(options: Options, quit: &Quit) -> Result<Vec<String>> {
    let view = View::open();
    let mut environment = Environment::set_up(options, &view)?;
    let mut traffic = Traffic::start(&environment, quit)?;
    let live = view.follow(traffic.meters())?;
    let outcome = events::play(&mut environment, &mut traffic, &view, quit);
    let ended = traffic.finish();
    // The table ends before anything else is printed, whatever the outcome.
    drop(live);
    let outcome = outcome?;
    ended?;
    let verdict = summary::Summary::of(&traffic, outcome);
    print!("{verdict}");
    Ok(verdict.complaints())
}
