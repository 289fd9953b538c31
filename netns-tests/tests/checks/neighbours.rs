//! ARP and neighbour discovery with two owners of one address and one MAC.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use netns_tests::{
    lab::{
        address::{self, Family},
        process::wait_until,
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::{Injector, Request, ping},
};

use crate::fixture::{Fixture, expect};

pub fn absent_neighbour(fixture: &Fixture) -> Result<()> {
    let lab = fixture.lab();
    let (node, pod) = (lab.node(1)?, lab.pod(1, 1)?);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        // Each echo request makes the gateway router ask for the absent neighbour.
        let storm = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for absent in address::fabric(99).both() {
                    drop(ping(pod.namespace(), absent, 10, 8));
                }
            }
        });
        let asked = (0..10).try_for_each(|_| {
            for family in Family::ALL {
                let far = lab.world().internet().address().port(family, POD_PORT);
                expect(node.namespace(), &Request::tcp(far), "internet")?;
                let own = node.address().port(family, HOST_PORT);
                expect(fixture.internet(), &Request::tcp(own), node.name())?;
            }
            thread::sleep(Duration::from_millis(20));
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        storm.join().map_err(|_| anyhow!("the storm's thread broke"))?;
        asked
    })
}

/// Leaves the router with another MAC address, so it is the last check.
pub fn router_moves(fixture: &Fixture) -> Result<()> {
    let lab = fixture.lab();
    let router = lab.world().router();
    let new = [0x0a, 0x58, 0xac, 0, 9, 9];
    router.namespace().ip(format!("link set eth0 address {}\n", address::mac_text(new)))?;
    let wire = Injector::open(router.namespace(), "eth0")?;
    let own = address::router();
    wire.send(&gratuitous_arp(new, own.v4.octets()))?;
    wire.send(&unsolicited_advertisement(new, own.v6.octets()))?;
    for family in Family::ALL {
        let far = Request::tcp(lab.world().internet().address().port(family, POD_PORT))
            .within(Duration::from_millis(500));
        for node in lab.nodes() {
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                wait_until(&format!("{family} from {} after the router's move", start.name()), || {
                    Ok(far.send(start)?.name == "internet")
                })?;
            }
            // Moved means moved: nothing may still go to the old address.
            ensure!(far.send(node.namespace()).is_ok(), "{family} from {} a second time", node.name());
        }
    }
    Ok(())
}

fn gratuitous_arp(mac: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(mac);
    frame.extend(address);
    frame.extend([0xff; 6]);
    frame.extend(address);
    frame
}

/// RFC 4861, 4.4: override set, target link-layer address option, hop limit 255, to all nodes.
fn unsolicited_advertisement(mac: [u8; 6], address: [u8; 16]) -> Vec<u8> {
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut body = vec![136, 0, 0, 0, 0xa0, 0, 0, 0];
    body.extend(address);
    body.extend([2, 1]);
    body.extend(mac);
    let length = u16::try_from(body.len()).unwrap_or_default();
    let mut pseudo = [address, all_nodes].concat();
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(&body);
    let sum = checksum(&pseudo);
    if let Some(field) = body.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(address);
    frame.extend(all_nodes);
    frame.extend(body);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
