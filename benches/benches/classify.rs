//! The pure half: frames read, judged by a policy of 10,000 Services, and that policy compared and changed.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use benches::cluster::{MadeUp, SERVICES, policy, split};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use demux::decide::{Ingress, Owner, decide};
use demux::frame::Frame;
use demux::generate::Generator;
use demux::policy::Policy;
use etherparse::PacketBuilder;

criterion_group!(all, parse, judge, change);
criterion_main!(all);

/// One kind of frame, where it comes from, and who owns its connection.
struct Kind {
    name: &'static str,
    ingress: Ingress,
    owner: Option<Owner>,
    bytes: Vec<u8>,
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for kind in kinds() {
        group.bench_function(kind.name, |bencher| bencher.iter(|| Frame::parse(black_box(&kind.bytes))));
    }
    let frames = mixture();
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("1000 generated frames", |bencher| {
        bencher.iter(|| frames.iter().filter(|(_, bytes)| Frame::parse(bytes).ip().is_some()).count());
    });
}

fn judge(criterion: &mut Criterion) {
    let policy = policy(SERVICES);
    let mut group = criterion.benchmark_group("decide, 10000 Services");
    group.throughput(Throughput::Elements(1));
    for kind in kinds() {
        let frame = Frame::parse(&kind.bytes);
        group.bench_function(kind.name, |bencher| {
            bencher.iter(|| decide(&policy, kind.ingress, black_box(&frame), kind.owner));
        });
    }
    let frames = mixture();
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("1000 generated frames, from bytes to verdict", |bencher| {
        bencher.iter(|| {
            for (ingress, bytes) in &frames {
                black_box(decide(&policy, *ingress, &Frame::parse(bytes), None));
            }
        });
    });
}

fn change(criterion: &mut Criterion) {
    let before = policy(SERVICES);
    let moved = MadeUp::new(4000).at_node_port(32_700);
    let mut after = before.clone();
    after.set_service(moved.key(), moved.rules());
    let mut group = criterion.benchmark_group("policy, 10000 Services");
    group.bench_function("diff, one changed, the others shared", |bencher| {
        bencher.iter(|| Policy::diff(black_box(&before), black_box(&after)));
    });
    // As after a reload: equal values that are not the same ones.
    let mut reloaded = policy(SERVICES);
    reloaded.set_service(moved.key(), moved.rules());
    group.bench_function("diff, one changed, nothing shared", |bencher| {
        bencher.iter(|| Policy::diff(black_box(&before), black_box(&reloaded)));
    });
    let (key, home, away) = (moved.key(), MadeUp::new(4000).rules(), moved.rules());
    let mut changing = before.clone();
    group.bench_function("set one Service, and back", |bencher| {
        bencher.iter(|| {
            changing.set_service(key.clone(), Arc::clone(&away));
            changing.set_service(key.clone(), Arc::clone(&home));
        });
    });
    let (there, back) = (Policy::diff(&before, &after), Policy::diff(&after, &before));
    group.bench_function("apply a delta of one, and back", |bencher| {
        bencher.iter_batched(
            || (there.clone(), back.clone()),
            |(there, back)| {
                changing.apply(there);
                changing.apply(back);
            },
            BatchSize::SmallInput,
        );
    });
    group.sample_size(20);
    group.bench_function("built from nothing", |bencher| bencher.iter(|| policy(SERVICES)));
}

/// Frames of every kind from the tests' generator, made for this policy's addresses.
fn mixture() -> Vec<(Ingress, Vec<u8>)> {
    let mut generator = Generator::new(1);
    let policy = policy(200);
    generator.cases(&policy, 1000).into_iter().map(|case| (case.ingress, case.bytes)).collect()
}

fn kinds() -> Vec<Kind> {
    let mac = split().mac.0;
    let (router, node4, node6) = ([0x0a, 0, 0, 0, 0, 0xfe], [172, 18, 0, 11], node6());
    let (far4, far6) = ([203, 0, 113, 10], Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 16).octets());
    let v4 = || PacketBuilder::ethernet2(router, mac).ipv4(far4, node4, 64);
    let v6 = || PacketBuilder::ethernet2(router, mac).ipv6(far6, node6, 64);
    let written = |name, ingress, owner, write: &dyn Fn(&mut Vec<u8>) -> bool| {
        let mut bytes = Vec::new();
        // Writing to a vector does not fail.
        assert!(write(&mut bytes), "{name}");
        Kind { name, ingress, owner, bytes }
    };
    let external = MadeUp::new(1);
    let external_address = match external.external.first() {
        Some(std::net::IpAddr::V4(address)) => address.octets(),
        _ => Ipv4Addr::UNSPECIFIED.octets(),
    };
    let wire = Ingress::Uplink;
    let body = [0_u8; 64];
    vec![
        written("SSH to the host, IPv4", wire, Some(Owner::Host), &|out| {
            v4().tcp(50_000, 22, 1, 8192).ack(1).write(out, &body).is_ok()
        }),
        written("SSH to the host, IPv6", wire, Some(Owner::Host), &|out| {
            v6().tcp(50_000, 22, 1, 8192).ack(1).write(out, &body).is_ok()
        }),
        written("answer to a pod, IPv4", wire, Some(Owner::Pods), &|out| {
            v4().tcp(443, 50_000, 1, 8192).ack(1).write(out, &body).is_ok()
        }),
        written("NodePort, TCP, IPv4", wire, None, &|out| {
            v4().tcp(50_000, 31_000, 1, 8192).syn().write(out, &[]).is_ok()
        }),
        written("NodePort, TCP, IPv6", wire, None, &|out| {
            v6().tcp(50_000, 31_000, 1, 8192).syn().write(out, &[]).is_ok()
        }),
        written("closed port, UDP, IPv4", wire, None, &|out| v4().udp(50_000, 9).write(out, &body).is_ok()),
        written("external address, TCP, IPv4", wire, None, &|out| {
            let packet = PacketBuilder::ethernet2(router, mac).ipv4(far4, external_address, 64);
            packet.tcp(50_000, external.port, 1, 8192).syn().write(out, &[]).is_ok()
        }),
        written("address of another, TCP, IPv4", wire, None, &|out| {
            let packet = PacketBuilder::ethernet2(router, mac).ipv4(far4, [192, 0, 2, 200], 64);
            packet.tcp(50_000, 80, 1, 8192).syn().write(out, &[]).is_ok()
        }),
        written("echo request, IPv4", wire, None, &|out| {
            v4().icmpv4_echo_request(1, 1).write(out, &body).is_ok()
        }),
        written("echo request, IPv6", wire, None, &|out| {
            v6().icmpv6_echo_request(1, 1).write(out, &body).is_ok()
        }),
        written("a pod's TCP out of the overlay", Ingress::Overlay, None, &|out| {
            let packet = PacketBuilder::ethernet2(mac, router).ipv4(node4, far4, 63);
            packet.tcp(50_000, 443, 1, 8192).ack(1).write(out, &body).is_ok()
        }),
        Kind { name: "ARP request", ingress: wire, owner: None, bytes: arp(router, node4) },
        written("VLAN tagged", wire, None, &|out| {
            let tagged =
                PacketBuilder::ethernet2(router, mac).single_vlan(5_u16.try_into().unwrap_or_default());
            tagged.ipv4(far4, node4, 64).udp(50_000, 9).write(out, &body).is_ok()
        }),
    ]
}

fn node6() -> [u8; 16] {
    Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 0x11).octets()
}

/// A broadcast request (RFC 826) for an address.
fn arp(sender: [u8; 6], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
    [&[0xff; 6][..], &sender, &[0x08, 0x06], &head, &sender, &[172, 18, 0, 1], &[0; 6], &target].concat()
}
