//! With real packets: what the node's own accesses, arrivals and odd sources become, and what is never answered.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::netns::Namespace;

use super::wire::{ACK, Outside, SYN, connect_from, exchange, udp_source};
use super::world::{NODE, NODE6, OUTSIDE, OUTSIDE6, World, cluster, direct, inputs, ip, range};
use crate::host_paths::{HostInputs, PodsPorts};
use services::{Reach, ServiceHostRows};

const LONG: Duration = Duration::from_secs(30);

fn with_range() -> PodsPorts {
    PodsPorts::Range(range(40000, 59999))
}

fn settings(pods: PodsPorts) -> HostInputs {
    inputs(pods, &[("default/web", cluster(30080)), ("default/local", direct(30090, 8090))])
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn listen(ns: &Namespace, address: SocketAddr) -> TcpListener {
    ns.run(|| TcpListener::bind(address).unwrap()).unwrap()
}

fn connect(ns: &Namespace, to: SocketAddr) -> TcpStream {
    ns.run(|| TcpStream::connect_timeout(&to, LONG)).unwrap().unwrap_or_else(|e| panic!("{to}: {e}"))
}

/// Connects, and says whom the server sees.
fn seen_by(server: &TcpListener, client: &TcpStream) -> IpAddr {
    let (mut served, peer) = server.accept().unwrap();
    exchange(&mut client.try_clone().unwrap(), &mut served);
    peer.ip().to_canonical()
}

#[test]
fn the_nodes_own_accesses_go_to_the_cluster_address_over_the_management_port() {
    let world = World::new();
    world
        .overlay
        .run(|| {
            ip("addr add 10.96.0.7/32 dev lo");
            ip("addr add fd96::7/128 dev lo nodad");
        })
        .unwrap();
    let mut external = cluster(30080);
    external.own.extend(external.own.clone().into_iter().map(|row| services::Translation {
        reach: Reach::Address(
            if row.target.is_ipv4() { "203.0.113.9" } else { "2001:db8:9::9" }.parse().unwrap(),
        ),
        port: 443,
        ..row
    }));
    world.converge(&inputs(PodsPorts::Any, &[("default/web", external)]));
    world.node.run(|| ip("route add default via 2001:db8::1")).unwrap();
    for (server, starts, management) in [
        (at("10.96.0.7", 80), [at("10.96.0.7", 80), at(NODE, 30080), at("203.0.113.9", 443)], "10.128.0.2"),
        (at("fd96::7", 80), [at("fd96::7", 80), at(NODE6, 30080), at("2001:db8:9::9", 443)], "fd80::2"),
    ] {
        let server = listen(&world.overlay, server);
        for to in starts {
            let client = connect(&world.node, to);
            assert_eq!(seen_by(&server, &client), management.parse::<IpAddr>().unwrap(), "{to}");
        }
    }
}

#[test]
fn what_only_this_host_serves_reaches_its_endpoint_with_the_clients_address() {
    let world = World::new();
    world.converge(&settings(with_range()));
    for (node, outside) in [(NODE, OUTSIDE), (NODE6, OUTSIDE6)] {
        let server = listen(&world.node, at(node, 8090));
        let client = connect(&world.outside, at(node, 30090));
        assert_eq!(seen_by(&server, &client), outside.parse::<IpAddr>().unwrap());
    }
}

#[test]
fn a_server_on_the_nodes_address_answers_for_the_management_address() {
    let world = World::new();
    world.converge(&settings(with_range()));
    for (node, management, pods) in [(NODE, "10.128.0.2", "10.128.0.1"), (NODE6, "fd80::2", "fd80::1")] {
        let server = listen(&world.node, at(node, 8090));
        let client = connect(&world.overlay, at(management, 8090));
        assert_eq!(seen_by(&server, &client), pods.parse::<IpAddr>().unwrap());
    }
}

#[test]
fn a_host_process_on_a_port_that_is_not_its_own_is_given_another() {
    let world = World::new();
    world.converge(&settings(with_range()));
    for (node, outside) in [(NODE, OUTSIDE), (NODE6, OUTSIDE6)] {
        let server = listen(&world.outside, at(outside, 7000));
        let echo = world.outside.run(|| UdpSocket::bind(at(outside, 7001)).unwrap()).unwrap();
        for (port, moved) in [(30080, true), (45000, true), (12345, false)] {
            let mut client = connect_from(&world.node, at(node, port), at(outside, 7000));
            let (mut served, peer) = server.accept().unwrap();
            exchange(&mut client, &mut served);
            let udp = udp_source(&world.node, at(node, port), &echo);
            for seen in [peer.port(), udp] {
                let expected = if moved { 20000..=29999 } else { port..=port };
                assert!(expected.contains(&seen), "{node} port {port} was seen as {seen}");
            }
        }
    }
}

#[test]
fn ports_picked_by_chance_are_never_the_pods() {
    let world = World::new();
    world.converge(&settings(with_range()));
    let picked = || (0..2000).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect::<Vec<_>>();
    for socket in world.node.run(picked).unwrap() {
        let port = socket.local_addr().unwrap().port();
        assert!(!(30000..=32767).contains(&port) && !(40000..=59999).contains(&port), "{port}");
    }
}

#[test]
fn connections_from_before_live_on() {
    for pods in [PodsPorts::Any, with_range()] {
        let world = World::new();
        let inner = listen(&world.node, at("0.0.0.0", 8080));
        let outer = listen(&world.outside, at("0.0.0.0", 7000));
        // From outside; from the node; from the node with a port that will not be its own any more.
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let client = connect(&world.outside, at(NODE, 8080));
            pairs.push((client, inner.accept().unwrap().0));
            let client = connect(&world.node, at(OUTSIDE, 7000));
            pairs.push((client, outer.accept().unwrap().0));
        }
        for port in [45000, 30080] {
            let client = connect_from(&world.node, at(NODE, port), at(OUTSIDE, 7000));
            pairs.push((client, outer.accept().unwrap().0));
        }
        world.converge(&settings(pods));
        // The first segment that connection tracking sees comes from either side.
        for (round, (a, b)) in pairs.iter_mut().enumerate() {
            if round % 2 == 0 {
                exchange(a, b)
            } else {
                exchange(b, a)
            }
            exchange(a, b);
            exchange(b, a);
        }
    }
}

#[test]
fn without_us_the_host_answers_with_resets() {
    let world = World::new();
    let mut outside = Outside::new(&world);
    assert_eq!(outside.tcp(NODE, 45000, ACK).resets, 1);
    assert_eq!(outside.tcp(NODE6, 45000, SYN | ACK).resets, 1);
    assert_eq!(outside.udp(NODE, 45000).unreachable, 1);
}

#[test]
fn frames_for_ovns_range_and_node_ports_get_no_answer() {
    let world = World::new();
    world.converge(&settings(with_range()));
    let mut outside = Outside::new(&world);
    for node in [NODE, NODE6] {
        for port in [40000, 45000, 59999, 30080] {
            for flags in [SYN, ACK, SYN | ACK, 0x01 | ACK, 0x00] {
                assert!(outside.tcp(node, port, flags).is_silent(), "{node} {port} flags {flags:#x}");
            }
            assert!(outside.udp(node, port).is_silent(), "{node} {port} udp");
        }
        // Everything else is the host's, and answers as ever.
        for port in [9, 25000, 39999, 60000, 30081] {
            assert_eq!(outside.tcp(node, port, SYN).resets, 1, "{node} {port}");
            assert_eq!(outside.tcp(node, port, ACK).resets, 1, "{node} {port}");
            assert_eq!(outside.udp(node, port).unreachable, 1, "{node} {port}");
        }
    }
    assert!(outside.sctp(45000).is_silent());
    assert!(!outside.sctp(25000).is_silent());
}

#[test]
fn a_listener_inside_the_ranges_does_not_answer_for_the_pods() {
    let world = World::new();
    world.converge(&settings(with_range()));
    let _held = [45000, 30080].map(|port| listen(&world.node, at("::", port)));
    let mut outside = Outside::new(&world);
    for node in [NODE, NODE6] {
        for port in [45000, 30080] {
            for flags in [ACK, SYN | ACK] {
                assert!(outside.tcp(node, port, flags).is_silent(), "{node} {port} flags {flags:#x}");
            }
        }
        assert!(outside.tcp(node, 30080, SYN).is_silent(), "a NodePort is not a host process's");
    }
}

#[test]
fn without_a_range_only_a_first_segment_is_answered() {
    let world = World::new();
    world.converge(&settings(PodsPorts::Any));
    let _held = listen(&world.node, at("::", 10250));
    let mut outside = Outside::new(&world);
    for node in [NODE, NODE6] {
        for port in [1024, 25000, 45000, 60999] {
            for flags in [ACK, SYN | ACK, 0x01 | ACK] {
                assert!(outside.tcp(node, port, flags).is_silent(), "{node} {port} flags {flags:#x}");
            }
            assert_eq!(outside.tcp(node, port, SYN).resets, 1, "a closed port: {node} {port}");
            assert_eq!(outside.udp(node, port).unreachable, 1, "{node} {port}");
        }
        for port in [22, 10250] {
            assert_eq!(outside.tcp(node, port, ACK).resets, 1, "a server's port: {node} {port}");
        }
        assert!(outside.tcp(node, 10250, SYN | ACK).is_silent(), "never an answer to a listener");
        for flags in [SYN, ACK, SYN | ACK] {
            assert!(outside.tcp(node, 30080, flags).is_silent(), "{node} NodePort flags {flags:#x}");
        }
    }
}

#[test]
fn a_service_that_goes_gives_its_port_back() {
    let world = World::new();
    let mut outside = Outside::new(&world);
    world.converge(&settings(with_range()));
    assert!(outside.tcp(NODE, 30080, SYN).is_silent());
    world.converge(&inputs(with_range(), &[("default/web", ServiceHostRows::default())]));
    assert_eq!(outside.tcp(NODE, 30080, SYN).resets, 1);
}

#[test]
fn sockets_in_range_are_those_on_the_shared_addresses() {
    let world = World::new();
    let shared = settings(with_range()).node.shared;
    let look = || {
        let held = [
            at(NODE, 45000),
            at("0.0.0.0", 45001),
            at("127.0.0.1", 45002),
            at("10.128.0.2", 45003),
            at(NODE, 39999),
        ]
        .map(|address| TcpListener::bind(address).unwrap());
        let found = crate::host_paths::sockets_in_range(&shared, range(40000, 59999)).unwrap();
        drop(held);
        found.iter().map(|socket| socket.local.port()).collect::<Vec<_>>()
    };
    assert_eq!(world.node.run(look).unwrap(), [45001, 45000]);
}
