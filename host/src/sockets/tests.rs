//! Sockets in private namespaces, and how they are listed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::netns::Namespace;

#[test]
fn sockets_are_found_by_port_with_their_process() {
    let work = || {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let range: PortSet = "40000-59999".parse().unwrap();
        assert_eq!(on_ports(&range).unwrap(), []);
        let listener = TcpListener::bind("127.0.0.1:40000").unwrap();
        let _outside = TcpListener::bind("127.0.0.1:39999").unwrap();
        let client = TcpStream::connect("127.0.0.1:40000").unwrap();
        let _udp = UdpSocket::bind("[::]:59999").unwrap();
        let found = on_ports(&range).unwrap();
        let me = std::process::id();
        let listening: Vec<_> = found.iter().filter(|socket| socket.state == State::Accepting).collect();
        assert_eq!(listening.len(), 2, "{found:?}");
        assert_eq!(listening[0].local, listener.local_addr().unwrap());
        assert_eq!(listening[1].local, "[::]:59999".parse().unwrap());
        assert!(
            listening.iter().all(|socket| socket.process.as_ref().is_some_and(|holder| holder.pid == me))
        );
        let peer = client.local_addr().unwrap();
        assert!(found.iter().any(|socket| socket.remote == Some(peer) && socket.state == State::Connected));
        assert!(found.iter().all(|socket| range.contains(socket.local.port())));
        let error = listening[0].to_string();
        assert!(error.contains("tcp 127.0.0.1:40000 of ") && error.contains(&format!("pid {me}")), "{error}");
    };
    Namespace::create().unwrap().run(work).unwrap();
}

#[test]
fn thousands_are_listed_whole() {
    let work = || {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let held: Vec<_> = (41000..41900).map(|port| UdpSocket::bind(("127.0.0.1", port)).unwrap()).collect();
        assert_eq!(on_ports(&"41000-41899".parse().unwrap()).unwrap().len(), held.len());
    };
    Namespace::create().unwrap().run(work).unwrap();
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {done:?}");
}

fn inside(work: impl FnOnce(u32) + Send) {
    let run = || {
        for line in [
            "link set lo up",
            "link add eth0 type veth peer name peer0",
            "link set peer0 up",
            "link set eth0 up",
            "addr add 10.1.0.2/24 dev eth0",
            "addr add fe80::7/64 dev eth0 nodad",
        ] {
            ip(line);
        }
        work(crate::devices::index_of("eth0").unwrap());
    };
    Namespace::create().unwrap().run(run).unwrap();
}

fn bind_to(socket: &impl AsFd, device: &str) {
    setsockopt(socket, sockopt::BindToDevice, &device.into()).unwrap();
}

#[test]
fn what_is_bound_to_a_device_is_found_with_its_process() {
    inside(|eth0| {
        let _free = TcpListener::bind("10.1.0.2:100").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:68").unwrap();
        bind_to(&udp, "eth0");
        let tcp = TcpListener::bind("[::]:101").unwrap();
        bind_to(&tcp, "eth0");
        let elsewhere = UdpSocket::bind("0.0.0.0:69").unwrap();
        bind_to(&elsewhere, "lo");
        let scope = |port| std::net::SocketAddrV6::new("fe80::7".parse().unwrap(), port, 0, eth0);
        let listener = TcpListener::bind(scope(102)).unwrap();
        let client = TcpStream::connect(scope(102)).unwrap();
        let found = bound_to(eth0).unwrap();
        let me = std::process::id();
        let of = |port: u16| {
            let mut of: Vec<_> = found.iter().filter(|socket| socket.local.port() == port).collect();
            of.retain(|socket| socket.process.as_ref().is_some_and(|holder| holder.pid == me));
            of.first().copied().unwrap_or_else(|| panic!("{port} is not among {found:?}"))
        };
        assert_eq!((of(68).protocol, of(68).is_link_local()), (Protocol::Udp, false));
        assert_eq!((of(101).protocol, of(101).state), (Protocol::Tcp, State::Accepting));
        assert!(of(102).is_link_local());
        let client = of(client.local_addr().unwrap().port());
        assert!(client.is_link_local() && client.remote.is_some());
        assert!(found.iter().all(|socket| ![100, 69].contains(&socket.local.port())), "{found:?}");
        drop(listener);
    });
}

#[test]
fn packet_sockets_are_found_by_their_device() {
    inside(|eth0| {
        let packet = |device: &str| {
            let index = crate::devices::index_of(device).unwrap();
            crate::neighbour_probe::Prober::open(index, crate::Mac([2, 0, 0, 0, 0, 1])).unwrap()
        };
        assert_eq!(packet_sockets_on(eth0).unwrap(), []);
        let _here = packet("eth0");
        let _there = packet("peer0");
        let found = packet_sockets_on(eth0).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].device, found[0].protocol), (Some(eth0), libc::ETH_P_ALL as u16));
        assert_eq!(found[0].process.as_ref().unwrap().pid, std::process::id());
        assert_eq!(xdp_sockets(eth0).unwrap(), []);
    });
}

#[test]
fn groups_of_programs_differ_from_the_kernels() {
    inside(|eth0| {
        assert_eq!(memberships(eth0).unwrap(), []);
        let v4 = UdpSocket::bind("0.0.0.0:5353").unwrap();
        v4.join_multicast_v4(&"224.0.0.251".parse().unwrap(), &"10.1.0.2".parse().unwrap()).unwrap();
        let v6 = UdpSocket::bind("[::]:5355").unwrap();
        v6.join_multicast_v6(&"ff02::fb".parse().unwrap(), eth0).unwrap();
        let groups: Vec<_> = memberships(eth0).unwrap().into_iter().map(|found| found.group).collect();
        assert_eq!(groups, ["224.0.0.251".parse::<IpAddr>().unwrap(), "ff02::fb".parse().unwrap()]);
        assert_eq!(memberships(crate::devices::index_of("peer0").unwrap()).unwrap(), []);
    });
}

#[test]
fn connections_report_their_progress() {
    inside(|_| {
        let listener = TcpListener::bind("10.1.0.2:100").unwrap();
        let mut client = TcpStream::connect("10.1.0.2:100").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let port = client.local_addr().unwrap().port();
        let sent = |all: &[Connection]| {
            all.iter().find(|connection| connection.socket.local.port() == port).unwrap().clone()
        };
        let before = connections().unwrap();
        assert_eq!(before.len(), 2, "{before:?}");
        client.write_all(&[7; 5000]).unwrap();
        server.read_exact(&mut [0; 5000]).unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let now = connections().unwrap();
            let moved = sent(&now);
            if moved.progress.acknowledged >= sent(&before).progress.acknowledged + 5000 {
                assert!(moved.has_moved_since(&sent(&before)));
                assert!(stalled(&before, &now).is_empty());
                break;
            }
            assert!(Instant::now() < limit, "{moved:?}");
        }
    });
}

#[test]
fn only_a_waiting_connection_can_stall() {
    let connection = |cookie: u64, unacknowledged: u32, acknowledged: u64| Connection {
        socket: Socket {
            protocol: Protocol::Tcp,
            local: "10.0.0.1:22".parse().unwrap(),
            remote: None,
            state: State::Connected,
            device: None,
            inode: 0,
            process: None,
        },
        cookie,
        progress: Progress { unacknowledged, acknowledged, ..Progress::default() },
    };
    let before = [connection(1, 3, 10), connection(2, 0, 10), connection(3, 3, 10), connection(4, 3, 10)];
    let now = [connection(1, 3, 10), connection(2, 3, 10), connection(3, 3, 11), connection(5, 3, 10)];
    let cookies: Vec<_> = stalled(&before, &now).iter().map(|found| found.cookie).collect();
    assert_eq!(cookies, [1]);
}
