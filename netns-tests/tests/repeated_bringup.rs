//! Bring-ups in a row: each ends with a pod that reaches the internet.
//!
//! Host and gateway router share a MAC address; learnt on the wrong port it can lock a bring-up for good (12 of 40 with
//! the flows of the original). `LAB_BRINGUPS` sets another count than 40.

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{LabOptions, address::Family, cluster::Cluster, helper::HelperOptions, process::wait_until},
    matrix::POD_PORT,
    probe::{Listen, Request, Responder},
};

#[test]
fn forty_in_a_row_reach_the_internet() -> Result<()> {
    let count = std::env::var("LAB_BRINGUPS").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    let mut started_again = 0;
    for number in 1..=count {
        started_again += bring_up().with_context(|| format!("bring-up {number} of {count}"))?;
    }
    // Rarer than one in a hundred, and OVN's own; see `Lab::wait_until_bound`.
    ensure!(started_again <= 1 + count / 100, "{started_again} ovn-controllers of {count} claimed nothing");
    Ok(())
}

/// How many ovn-controllers had to be started again.
fn bring_up() -> Result<usize> {
    let options = LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() };
    let cluster = Cluster::up(options, &HelperOptions::default())?;
    let lab = cluster.lab();
    let internet = lab.world().internet();
    let _server = Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?;
    for family in Family::ALL {
        let request = Request::tcp(internet.address().port(family, POD_PORT));
        wait_until(&format!("a pod to reach the internet by {family}"), || {
            Ok(request.send(lab.pod(1, 1)?.namespace())?.name == "internet")
        })?;
    }
    Ok(lab.controllers_started_again())
}
