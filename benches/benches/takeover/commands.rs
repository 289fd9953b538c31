//! How long the whole command takes, from its start to its end, without traffic.

use std::time::Instant;

use anyhow::{Context, Result};
use netns_tests::takeover::{Site, SiteOptions, nic};

use crate::numbers::Numbers;

/// Measures both commands on a usual node, and on one with many routes.
pub fn measure(runs: usize, routes: usize) -> Result<()> {
    println!(
        "\n| command, ms (median/greatest) | runs | nics-to-bridge | bridge-to-nics |\n|---|---|---|---|"
    );
    for (what, routes) in [("4 addresses, 10 routes".to_owned(), 0), (format!("{routes} routes"), routes)] {
        let configuration = nic::usual() + &nic::many_routes(routes);
        let (mut there, mut back) = (Numbers::default(), Numbers::default());
        let site = Site::up(SiteOptions { configuration, ..SiteOptions::default() })?;
        site.add_integration_bridge()?;
        for run in 0..runs {
            there_and_back(&site, &mut there, &mut back).with_context(|| format!("run {run}"))?;
        }
        println!("| {what} | {runs} | {there} | {back} |");
    }
    let (mut there, mut back) = (Numbers::default(), Numbers::default());
    for _ in 0..runs {
        there_and_back(&Site::usual()?, &mut there, &mut back)?;
    }
    println!("| the switch's first userspace bridge | {runs} | {there} | {back} |");
    Ok(())
}

fn there_and_back(site: &Site, there: &mut Numbers, back: &mut Numbers) -> Result<()> {
    for (line, numbers) in [("nics-to-bridge eth0", there), ("bridge-to-nics breth0", back)] {
        let program = site.util(line)?;
        let start = Instant::now();
        let (ok, _, stderr) = program.outcome()?;
        numbers.time(start.elapsed());
        anyhow::ensure!(ok, "{stderr}");
    }
    site.wait_until_reachable()
}
