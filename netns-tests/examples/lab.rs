//! Brings a lab up, says how to look at it, and holds it until its standard input ends.
//!
//! `LAB_REFERENCE_HELPER=1` puts the reference helper on the nodes, `LAB_HELPER=0` nothing; otherwise the product's helper runs there.

use anyhow::Result;
use netns_tests::{
    lab::{
        Lab, LabOptions, PortRange,
        cluster::Cluster,
        helper::{HelperOptions, ReplyRule},
    },
    matrix,
};

fn main() -> Result<()> {
    let partitioned = std::env::args().any(|word| word == "partitioned");
    let snat_ports = partitioned.then_some(PortRange::USUAL);
    let reply_rule = if partitioned { ReplyRule::Partitioned } else { ReplyRule::Tracked };
    let options = LabOptions { snat_ports, ..LabOptions::default() };
    if std::env::var("LAB_HELPER").is_ok_and(|value| value == "0") {
        let lab = Lab::up(options)?;
        return hold(&lab);
    }
    let cluster =
        Cluster::up(options, &HelperOptions { reply_rule, snat_ports, ..HelperOptions::default() })?;
    let _servers = matrix::servers(cluster.lab())?;
    cluster.apply(&matrix::services())?;
    hold(cluster.lab())
}

fn hold(lab: &Lab) -> Result<()> {
    println!("folder      {}", lab.dir().display());
    println!("northbound  ovn-nbctl --db=unix:{}/nb.sock", lab.central().dir().display());
    for node in lab.nodes() {
        let (dir, net) = (node.dir().display(), node.namespace().path().display());
        println!("{}       OVS_RUNDIR={dir} OVS_DBDIR={dir} nsenter --net={net}", node.name());
        for pod in node.pods() {
            println!("{}       nsenter --net={}", pod.name(), pod.namespace().path().display());
        }
    }
    println!("internet    nsenter --net={}", lab.world().internet().namespace().path().display());
    println!("end with Ctrl-D");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
