//! The lab itself, without the product: what it measures must be worth something.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::takeover::{
    Load, Meter, Site, State,
    meter::{Kind, Moment},
};

/// With nothing happening nothing is doubled, nothing dies, and the node stays what it was.
#[test]
fn nothing_happens() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let meter = Meter::start(&site, &Load::full().slowed(4))?;
    meter.run_for(Duration::from_secs(1));
    let report = meter.stop()?;
    println!("{report}");
    ensure!(report.duplicates() == 0 && report.dead().is_empty(), "{report}");
    ensure!(report.of(Kind::Udp).all(|flow| flow.sent() > 50), "{report}");
    State::of(&site)?.expect(&before)
}

/// The original sequence loses packets, and afterwards the node accepts every frame twice.
#[test]
fn the_original_sequence_is_seen_to_harm() -> Result<()> {
    let site = Site::usual()?;
    let meter = Meter::start(&site, &Load::full().slowed(4))?;
    meter.run_for(Duration::from_millis(300));
    site.original_there()?;
    let after = Moment::now().after(Duration::from_millis(500));
    meter.run_for(Duration::from_millis(2000));
    let report = meter.stop()?;
    println!("{report}");
    ensure!(report.lost() > 0, "{report}");
    let doubled: usize = report.flows.iter().map(|flow| flow.duplicates_since(after)).sum();
    ensure!(doubled > 100, "{report}");
    Ok(())
}
