//! All traffic at once over attach and detach: connections live, new ones are made, no frame is accepted twice for long.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::takeover::{Load, Meter, Site, meter::Moment};

use crate::fixture::{ATTACH, DETACH};

#[test]
fn there_and_back_under_full_traffic() -> Result<()> {
    let site = Site::usual()?;
    let meter = Meter::start(&site, &Load::full().slowed(4))?;
    let mut quiet = Vec::new();
    for line in [ATTACH, DETACH] {
        meter.run_for(Duration::from_millis(300));
        site.run(line)?.expect_ok()?;
        site.connect_anew()?;
        meter.wait_until_all_move()?;
        let from = Moment::now();
        meter.run_for(Duration::from_millis(500));
        quiet.push(from);
    }
    let report = meter.stop()?;
    println!("{report}");
    ensure!(report.dead().is_empty(), "{report}");
    if let Some(last) = quiet.last() {
        let doubled: usize = report.flows.iter().map(|flow| flow.duplicates_since(*last)).sum();
        ensure!(doubled == 0, "the node hears frames twice:\n{report}");
    }
    // A machine that is busy elsewhere loses some; the original sequence loses hundreds, and doubles thousands.
    ensure!(report.lost() < 400 && report.duplicates() < 400, "{report}");
    Ok(())
}
