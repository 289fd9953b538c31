//! One part of the uplink after the other set wrong, found, and set right again.

use std::net::UdpSocket;

use anyhow::{Context, Result};
use netns_tests::takeover::{Site, nic};
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};

use super::{comes_to_be_well, comes_to_find, doctor};
use crate::fixture::ATTACH;

/// What nobody sees to here.
const ALONE: &[&str] = &["helper-away"];

/// One thing set wrong, what is found, and how it is set right.
fn one_wrong(
    site: &Site,
    severity: &str,
    name: &str,
    wrong: impl FnOnce() -> Result<()>,
    right: impl FnOnce() -> Result<()>,
) -> Result<()> {
    wrong().with_context(|| format!("for {name}"))?;
    comes_to_find(site, severity, name)?;
    right().with_context(|| format!("after {name}"))?;
    comes_to_be_well(site, ALONE).with_context(|| format!("after {name}"))
}

#[test]
fn in_the_switch() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let vsctl = |line: String| site.vsctl(&line).map(drop);
    let set = |words: &str| vsctl(format!("set {words}"));
    let hwaddr = |mac: &str| set(&format!("bridge breth0 other_config:hwaddr=\"{mac}\""));
    let mtu = |mtu: u32| set(&format!("interface breth0 mtu_request={mtu}"));
    one_wrong(&site, "warning", "mtu-differs", || mtu(1400), || mtu(1500))?;
    let wait = "Open_vSwitch . other_config";
    one_wrong(
        &site,
        "error",
        "restore-wait",
        || set(&format!("{wait}:flow-restore-wait=true")),
        || vsctl(format!("remove {wait} flow-restore-wait")),
    )?;
    site.vsctl("-- del-port breth0 eth0")?;
    comes_to_find(&site, "error", "port-missing")?;
    // As it says: onto the NIC, and from there again.
    site.run("recover")?.expect_ok()?;
    site.run(ATTACH)?.expect_ok()?;
    comes_to_be_well(&site, ALONE).context("after port-missing")?;
    // ovs-vswitchd sets the device down for another address, and its routes go.
    hwaddr("0a:58:ac:00:00:77")?;
    comes_to_find(&site, "error", "mac-differs")?;
    hwaddr(nic::MAC)?;
    comes_to_find(&site, "error", "no-route")?;
    site.vsctl("--no-wait set interface eth0 type=nosuchtype")?;
    comes_to_find(&site, "error", "port-broken").map(drop)
}

#[test]
fn in_the_kernel() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let ip = |line: &str| site.ip(&format!("{line}\n"));
    let gro = |word: &str| site.program("ethtool").args(["-K", "eth0", "gro", word]).run().map(drop);
    let settle = || site.run("recover")?.expect_ok().map(drop);
    let route = "198.18.5.0/24 via 172.18.0.1 dev eth0";
    one_wrong(&site, "error", "link-down", || ip("link set eth0 down"), || ip("link set eth0 up"))?;
    one_wrong(
        &site,
        "warning",
        "route-on-nic",
        || ip(&format!("route add {route} onlink")),
        || ip(&format!("route del {route}")),
    )?;
    one_wrong(&site, "warning", "offloads", || gro("on"), || gro("off"))?;
    let open = || site.node().nft("flush chain netdev ovn_k8s_breth0 at_nic\n");
    one_wrong(&site, "error", "guard-wrong", open, settle)?;
    let proxy = |word: &str| site.node().nft(format!("{word} table ip kube-proxy\n"));
    one_wrong(&site, "warning", "node-ports", || proxy("add"), || proxy("delete"))?;
    let leased = |left: u32| {
        let ends = format!("valid_lft {left} preferred_lft {left}");
        ip(&format!("addr replace 172.18.0.77/24 dev breth0 {ends}"))
    };
    leased(7200)?;
    comes_to_find(&site, "warning", "lease")?;
    one_wrong(&site, "error", "lease", || leased(300), || ip("addr del 172.18.0.77/24 dev breth0"))?;
    let bound = site.node().enter(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        setsockopt(&socket, BindToDevice, &"eth0".into())?;
        Ok(socket)
    })??;
    comes_to_find(&site, "warning", "bound-socket")?;
    drop(bound);
    for (key, value, name) in [
        ("ipv4/conf/breth0/rp_filter", "1", "rp-filter"),
        ("ipv4/conf/breth0/arp_evict_nocarrier", "1", "evict-nocarrier"),
        ("ipv6/conf/breth0/disable_ipv6", "1", "ipv6-off"),
    ] {
        site.node().sysctl(&format!("net/{key}"), value)?;
        doctor(&site, "")?.expect("note", name)?;
    }
    ip("addr flush dev breth0")?;
    comes_to_find(&site, "error", "no-address").map(drop)
}
