//! Rows put from one device on another in private namespaces, compared with the output of ip(8).

use std::process::Command;
use std::time::Duration;

use super::address::Address;
use super::link::Link;
use super::route::Route;
use super::*;
use crate::netns::Namespace;

mod addresses;
mod batches;
mod devices;
mod routes;
mod rows;

fn output_of(program: &str, arguments: &str) -> String {
    let done = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

fn ip(arguments: &str) -> String {
    output_of("ip", arguments)
}

/// The lines of ip(8), with single spaces.
fn listed(arguments: &str) -> Vec<String> {
    ip(arguments).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const DEVICES: [&str; 6] = [
    "link add eth0 type veth peer name peer0",
    "link add breth0 type veth peer name peer1",
    "link set eth0 up",
    "link set peer0 up",
    "link set breth0 up",
    "link set peer1 up",
];

/// A namespace with two devices, set up further.
fn inside(setup: &[&str], work: impl FnOnce(&Socket, DeviceMapping) + Send) {
    let run = || {
        for device in ["all", "default"] {
            for key in ["accept_dad", "router_solicitations"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/{key}"), "0").unwrap();
            }
        }
        for line in DEVICES.iter().chain(setup) {
            ip(line);
        }
        let socket = Socket::open().unwrap();
        let (from, to) = (device(&socket, "eth0"), device(&socket, "breth0"));
        work(&socket, DeviceMapping { from, to });
    };
    Namespace::create().unwrap().run(run).unwrap();
}

fn device(socket: &Socket, name: &str) -> Device {
    let links = socket.dump_all(Kind::Link).unwrap();
    links.iter().filter_map(Link::of).map(|link| link.device()).find(|device| device.name == name).unwrap()
}

fn addresses(socket: &Socket, device: &Device) -> Vec<Address> {
    let all = socket.dump_all(Kind::Address).unwrap();
    all.iter().filter_map(Address::of).filter(|address| address.device() == device.index).collect()
}

fn routes(socket: &Socket, device: &Device) -> Vec<Route> {
    let all = socket.dump_all(Kind::Route).unwrap();
    let mut routes: Vec<_> = all.iter().filter_map(Route::of).collect();
    routes.retain(|route| route.names(device.index) && !route.is_local());
    routes
}

fn send(socket: &Socket, requests: &[Request]) {
    let outcomes = socket.batch(requests).unwrap();
    assert_eq!(outcomes.len(), requests.len());
    let refused: Vec<_> = requests
        .iter()
        .zip(outcomes)
        .filter_map(|(request, outcome)| Some((request.to_string(), outcome?)))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Addresses first, then every route that is not the kernel's own.
fn move_all(socket: &Socket, mapping: &DeviceMapping) {
    let rows = addresses(socket, &mapping.from)
        .into_iter()
        .map(|address| Request::replace(address.for_device(mapping)));
    let routes = routes(socket, &mapping.from);
    let (links, gateways): (Vec<_>, Vec<_>) = routes
        .iter()
        .filter(|route| !route.is_connected())
        .partition(|route| route.hops().iter().all(|hop| hop.via.is_none()));
    let routes = links.into_iter().chain(gateways).map(|route| Request::replace(route.for_device(mapping)));
    send(socket, &rows.chain(routes).collect::<Vec<_>>());
}

/// The lines of eth0 must come out as those of breth0.
fn moved_lines(before: &[String]) -> Vec<String> {
    before.iter().map(|line| line.replace("eth0", "breth0")).collect()
}

const PLAIN: [&str; 2] = ["addr add 10.1.0.2/24 dev eth0", "addr add fd01::2/64 dev eth0 nodad"];
