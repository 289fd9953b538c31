//! External addresses, echo, tunnels, tagged frames.

use anyhow::{Result, ensure};
use netns_tests::{
    lab::{address::Family, process::wait_until, service::Protocol},
    matrix::BOUND_PORT,
    probe::{Capture, Injector, Request, ping},
};

use crate::fixture::{Fixture, expect, on_link, routed};

pub fn external(fixture: &Fixture) -> Result<()> {
    let lab = fixture.lab();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            for address in [on_link(), routed()] {
                let request = Request::new(protocol, address.port(family, 80));
                let mut starts = vec![fixture.internet()];
                for node in lab.nodes() {
                    starts.push(node.namespace());
                    starts.push(node.pod(2)?.namespace());
                }
                for start in starts {
                    expect(start, &request, "pod21")?;
                }
            }
            let own = Request::new(protocol, lab.node(1)?.address().port(family, 80));
            expect(fixture.internet(), &own, "node1")?;
        }
    }
    Ok(())
}

pub fn bound_server(fixture: &Fixture) -> Result<()> {
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            for node in fixture.lab().nodes() {
                let request = Request::new(protocol, node.address().port(family, BOUND_PORT));
                for start in fixture.lab().nodes() {
                    expect(start.pod(1)?.namespace(), &request, node.name())?;
                }
                expect(fixture.internet(), &request, node.name())?;
            }
        }
    }
    Ok(())
}

pub fn echo(fixture: &Fixture) -> Result<()> {
    let lab = fixture.lab();
    let far = lab.world().internet().address();
    for family in Family::ALL {
        for node in lab.nodes() {
            for (from, to) in [
                (fixture.internet(), node.address()),
                (node.namespace(), far),
                (node.pod(1)?.namespace(), far),
            ] {
                let pinged = ping(from, to.of(family), 10, 56)?;
                ensure!(
                    pinged.received > 0 && pinged.duplicates == 0,
                    "{} pinged {}: {pinged:?}",
                    from.name(),
                    to.of(family)
                );
            }
        }
    }
    Ok(())
}

pub fn tunnels_untracked(fixture: &Fixture) -> Result<()> {
    // Both directions between the nodes, so that the tunnel is busy.
    let there = fixture.lab().pod(2, 1)?.address();
    expect(fixture.lab().pod(1, 1)?.namespace(), &Request::tcp(there.port(Family::V4, 8080)), "pod21")?;
    for node in fixture.lab().nodes() {
        let table = node.appctl("dpctl/dump-conntrack zone=64000")?;
        let tunnel = table.lines().find(|line| line.contains("=6081,") || line.contains("=6081)"));
        ensure!(tunnel.is_none(), "{} tracks a tunnel: {}", node.name(), tunnel.unwrap_or_default());
    }
    Ok(())
}

pub fn tagged_frame(fixture: &Fixture) -> Result<()> {
    let node = fixture.lab().node(1)?;
    let router = fixture.lab().world().router().namespace();
    // A SYN to a NodePort under VLAN 5, from a source port nobody else uses.
    let frame = {
        let mut frame = Vec::new();
        frame.extend(node.mac_bytes());
        frame.extend([0x0a, 0x58, 0xac, 0, 0, 1]);
        frame.extend([0x81, 0, 0, 5, 8, 0]);
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([203, 0, 113, 10]);
        frame.extend(node.address().v4.octets());
        frame.extend([0x17, 0x71]); // source port 6001
        frame.extend(30081_u16.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 16, 0, 0, 0, 0, 0]);
        frame
    };
    let is_it = |frame: &[u8]| frame.windows(4).any(|ports| ports == [0x17, 0x71, 0x75, 0x81]);
    let host = Capture::start(node.namespace(), "breth0")?;
    let before = patch_packets(fixture)?;
    Injector::open(router, "eth0")?.send(&frame)?;
    wait_until("the tagged frame at the host's port", || Ok(host.count(is_it) > 0))?;
    let after = patch_packets(fixture)?;
    ensure!(before == after, "the tagged frame met rules of NodePorts: {before} -> {after}");
    Ok(())
}

/// How often the flows of NodePort 30081 were hit.
fn patch_packets(fixture: &Fixture) -> Result<String> {
    let node = fixture.lab().node(1)?;
    node.appctl("revalidator/wait")?;
    let flows = node.ofctl("dump-flows breth0 tcp,tp_dst=30081")?;
    let counters =
        flows.lines().filter_map(|line| line.split(", ").find(|word| word.starts_with("n_packets=")));
    Ok(counters.collect::<Vec<_>>().join(" "))
}
