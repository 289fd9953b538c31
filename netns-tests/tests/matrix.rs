//! The path matrix with real packets, for each reply rule.

use std::time::Instant;

use anyhow::{Result, ensure};
use netns_tests::{
    lab::{
        LabOptions, PortRange,
        cluster::Cluster,
        helper::{HelperOptions, ReplyRule},
    },
    matrix,
};

fn matrix_with(reply_rule: ReplyRule, snat_ports: Option<PortRange>) -> Result<()> {
    let start = Instant::now();
    let lab = LabOptions { snat_ports, ..LabOptions::default() };
    let cluster = Cluster::up(lab, &HelperOptions { reply_rule, snat_ports, ..HelperOptions::default() })?;
    let _servers = matrix::servers(cluster.lab())?;
    cluster.apply(&matrix::services())?;
    let up = start.elapsed();
    let report = matrix::run(cluster.lab())?;
    println!("{} (up in {up:.1?}, all in {:.1?})\n{}", reply_rule.name(), start.elapsed(), report.table());
    let failures = report.failures();
    ensure!(failures.is_empty(), "{} cells failed:\n{}", failures.len(), failures.join("\n"));
    ensure!(report.score() == (396, 396), "the matrix has another size: {:?}", report.score());
    Ok(())
}

#[test]
fn tracked() -> Result<()> {
    matrix_with(ReplyRule::Tracked, None)
}

#[test]
fn tracked_with_a_port_range() -> Result<()> {
    matrix_with(ReplyRule::Tracked, Some(PortRange::USUAL))
}

#[test]
fn partitioned() -> Result<()> {
    matrix_with(ReplyRule::Partitioned, Some(PortRange::USUAL))
}
