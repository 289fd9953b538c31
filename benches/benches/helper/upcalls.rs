//! How many packets leave the fast path when a client scans the host's ports.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use benches::cluster::{FIRST_NODE_PORT, MadeUp};
use netns_tests::lab::Lab;
use netns_tests::lab::address::Family;
use netns_tests::lab::helper::{Daemon, HelperOptions};
use netns_tests::lab::node::Node;

use crate::report::Report;
use crate::stage;

const NODE_PORTS: u16 = 2_000;
const CONNECTIONS: usize = 1_000;

/// One NodePort, then two thousand: the number must not grow with them.
pub fn measure(report: &mut Report) -> Result<()> {
    let (lab, node) = stage::lab()?;
    for count in [1, NODE_PORTS] {
        let services = (0..count).map(|number| MadeUp {
            number,
            node_port: Some(FIRST_NODE_PORT + number),
            ..MadeUp::new(0)
        });
        stage::write_manifests(&lab.manifests(), services)?;
        let daemon = Daemon::start(&lab, &node, &HelperOptions::default())?;
        stage::wait_for_flows(&daemon, usize::from(count) * 4)?;
        for family in Family::ALL {
            let upcalls = knock(&lab, &node, family)?;
            let what = format!(
                "{count} NodePorts: upcalls of {CONNECTIONS} connections to random closed ports, {family}"
            );
            report.number(&what, &upcalls.to_string(), if count == NODE_PORTS { "<= 10" } else { "" });
        }
        daemon.end(netns_tests::lab::node::Stop::Terminate)?;
    }
    Ok(())
}

/// Connects to closed ports of the node from the internet, and counts what both bridges' datapath asked vswitchd.
fn knock(lab: &Lab, node: &Node, family: Family) -> Result<u64> {
    let from = lab.world().internet().namespace();
    let mut ports = Ports(0x9e37_79b9);
    let mut knock = |times: usize| -> Result<usize> {
        let targets: Vec<SocketAddr> =
            (0..times).map(|_| node.address().port(family, ports.next())).collect();
        from.enter(move || {
            let refused = |target: &&SocketAddr| {
                let answer = TcpStream::connect_timeout(target, Duration::from_secs(5));
                answer.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            };
            targets.iter().filter(refused).count()
        })
    };
    // Neighbours are learned by both sides, then the fast path is emptied.
    knock(3)?;
    node.appctl("revalidator/purge")?;
    let before = upcalls(node)?;
    let refused = knock(CONNECTIONS)?;
    let after = upcalls(node)?;
    anyhow::ensure!(refused == CONNECTIONS, "{refused} of {CONNECTIONS} connections were refused");
    Ok(after - before)
}

/// All packets that missed the fast path, of every thread.
fn upcalls(node: &Node) -> Result<u64> {
    let text = node.appctl("dpif-netdev/pmd-stats-show")?;
    let of_line = |line: &str| -> Option<u64> {
        let line = line.trim();
        let rest =
            line.strip_prefix("miss with success upcall:").or(line.strip_prefix("miss with failed upcall:"));
        rest?.trim().parse().ok()
    };
    let numbers: Vec<u64> = text.lines().filter_map(of_line).collect();
    anyhow::ensure!(!numbers.is_empty(), "no counts of upcalls in\n{text}");
    Some(numbers.iter().sum()).context("no upcalls")
}

/// Ports from 1 to 29999, the same sequence each time.
struct Ports(u32);

impl Ports {
    fn next(&mut self) -> u16 {
        // Numerical Recipes' linear congruential generator; its high bits are the random ones.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [high, low, ..] = self.0.to_be_bytes();
        1 + u16::from_be_bytes([high, low]) % 29_999
    }
}
