//! What a NIC carries, row by row, attached and detached.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::wait_until,
    takeover::{
        Load, Meter, Site, SiteOptions, State,
        meter::Kind,
        nic::{self, BRIDGE, NIC, SECOND},
        state::{MOVED, Subject},
    },
};

use crate::fixture::{ATTACH, DETACH, attach_and_detach};

/// What is configured beyond a plain NIC: `ip -batch` lines.
const ROWS: &[(&str, &str)] = &[
    ("four addresses, ten routes, a rule", ""),
    (
        "secondary addresses keep their order",
        "addr add 172.18.0.112/24 dev eth0\naddr add 172.18.0.113/24 dev eth0\n",
    ),
    (
        "addresses of every kind",
        "addr add 10.77.0.1 peer 10.77.0.2/32 dev eth0\n\
         addr add 10.78.0.1/24 dev eth0 noprefixroute\n\
         addr add 10.79.0.1/24 dev eth0 metric 50\n\
         addr add 10.80.0.1/24 brd 10.80.0.255 dev eth0 label eth0:x\n\
         addr add 10.81.0.1/32 dev eth0\n\
         addr add fd00:18:0:b::1/64 dev eth0 home nodad\n\
         addr add fd00:18:0:c::1/64 dev eth0 noprefixroute nodad\n\
         addr add fd00:18:0:d::1/128 dev eth0 nodad\n",
    ),
    (
        "lifetimes",
        "addr add 10.82.0.1/24 dev eth0 valid_lft 3600 preferred_lft 1800\n\
         addr add fd00:18:0:a::5/64 dev eth0 valid_lft 3600 preferred_lft 1800 mngtmpaddr nodad\n\
         addr add fd00:18:0:e::5/64 dev eth0 valid_lft 3600 preferred_lft 0 nodad\n",
    ),
    (
        "nexthop objects, single and in groups",
        "nexthop add id 10 via 172.18.0.1 dev eth0\n\
         nexthop add id 11 via 172.18.0.3 dev eth0\n\
         nexthop add id 20 group 10/11\n\
         nexthop add id 30 via fd00:18::1 dev eth0\n\
         route add 10.50.0.0/16 nhid 20\n\
         route add 10.51.0.0/16 nhid 10\n\
         route add 2001:db8:50::/48 nhid 30\n",
    ),
    (
        "routes learnt from routers, with their expiry",
        "route add 2001:db8:77::/64 via fd00:18::1 dev eth0 proto ra expires 600\n\
         route add 2001:db8:78::/64 dev eth0 proto ra expires 600\n",
    ),
    (
        "IPv4 by way of an IPv6 next hop",
        "route add 10.52.0.0/16 via inet6 fd00:18::1 dev eth0\nroute add 10.53.0.0/16 dev eth0 scope link\n",
    ),
    (
        "routes with options",
        "route add 10.54.0.0/16 via 172.18.0.1 dev eth0 initcwnd 20 quickack 1 tos 0x10\n\
         route add 10.54.0.0/16 via 172.18.0.3 dev eth0 metric 5\n\
         route add 10.55.0.0/16 via 172.18.0.1 dev eth0 proto static realm 7\n\
         route add blackhole 10.56.0.0/16\n\
         route add 10.57.0.0/16 via 172.18.0.1 dev eth0 table 4000\n\
         route add 2001:db8:54::/48 via fd00:18::1 dev eth0 metric 5\n\
         route add 2001:db8:54::/48 via fd00:18::3 dev eth0 metric 6\n",
    ),
    (
        "permanent and proxied neighbours",
        "neigh add 172.18.0.50 lladdr 0a:58:ac:00:00:50 dev eth0 nud permanent\n\
         neigh add fd00:18::50 lladdr 0a:58:ac:00:00:50 dev eth0 nud permanent\n\
         neigh add proxy 172.18.0.60 dev eth0\n\
         neigh add proxy fd00:18::60 dev eth0\n",
    ),
    ("an MTU below the usual", "link set eth0 mtu 1400\n"),
];

#[test]
fn row_by_row() -> Result<()> {
    let mut failures = Vec::new();
    for (name, lines) in ROWS {
        let outcome = (|| {
            let site =
                Site::up(SiteOptions { configuration: nic::usual() + lines, ..SiteOptions::default() })?;
            attach_and_detach(&site, |before, there| {
                let mtu = [Subject::Link];
                let words = |state: &State, device| state.says(Subject::Link, &[device, "mtu 1400"]);
                ensure!(
                    words(before, NIC) == words(there, BRIDGE),
                    "another MTU: {:?}",
                    there.about(BRIDGE, &mtu)
                );
                Ok(())
            })
        })();
        println!("{:6} {name}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if let Err(error) = outcome {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Rules that name the NIC get twins that name the bridge, and the twins go again.
#[test]
fn rules_that_name_the_nic() -> Result<()> {
    let rules = "rule add iif eth0 lookup 100 priority 1001\nrule add oif eth0 lookup 100 priority 1002\n";
    let site = Site::up(SiteOptions { configuration: nic::usual() + rules, ..SiteOptions::default() })?;
    attach_and_detach(&site, |_, there| {
        for word in ["\"iif\":\"breth0\"", "\"oif\":\"breth0\""] {
            ensure!(there.says(Subject::Rule, &[word]), "no rule with {word}");
        }
        Ok(())
    })
}

/// A route whose gateway is on-link no more stays in the kernel, and cannot be made again as it was.
#[test]
fn a_gateway_that_is_on_link_no_more() -> Result<()> {
    let lines = "addr add 172.20.0.2/24 dev eth0\nroute add 10.60.0.0/16 via 172.20.0.1 dev eth0\naddr del 172.20.0.2/24 dev eth0\n";
    let site = Site::up(SiteOptions { configuration: nic::usual() + lines, ..SiteOptions::default() })?;
    let before = State::of(&site)?;
    ensure!(before.says(Subject::Route, &["10.60.0.0/16"]), "the kernel did not keep the route");
    let outcome = site.run(ATTACH)?;
    if outcome.ok {
        let there = State::of(&site)?;
        ensure!(there.says(Subject::Route, &["10.60.0.0/16", BRIDGE]), "the route is lost");
        site.run(DETACH)?.expect_ok()?;
        ensure!(
            State::of(&site)?.says(Subject::Route, &["10.60.0.0/16", NIC]),
            "the route is lost on the way back"
        );
        return site.wait_until_reachable();
    }
    ensure!(outcome.said.contains("10.60.0.0/16"), "{}", outcome.said);
    // Where it was turned back it could only be made again as an on-link one.
    ensure!(State::of(&site)?.says(Subject::Route, &["10.60.0.0/16", NIC]), "the route is lost in undo");
    site.wait_until_reachable()
}

/// The root qdisc stays on the NIC, whatever the switch does to its ports.
#[test]
fn a_root_qdisc() -> Result<()> {
    let site = Site::usual()?;
    site.program("tc").line("qdisc add dev eth0 root handle 7: htb default 1").run()?;
    site.program("tc").line("class add dev eth0 parent 7: classid 7:1 htb rate 10gbit").run()?;
    let before = State::of(&site)?;
    attach_and_detach(&site, |_, there| {
        there.about(NIC, &[Subject::Qdisc]).expect(&before.about(NIC, &[Subject::Qdisc]))
    })
}

/// Sysctls of the NIC are the bridge's, and the NIC's own are what they were.
#[test]
fn sysctls() -> Result<()> {
    let site = Site::usual()?;
    let wanted = [
        ("ipv4/conf", "rp_filter", "2"),
        ("ipv4/conf", "arp_ignore", "1"),
        ("ipv4/conf", "arp_announce", "2"),
        ("ipv4/conf", "promote_secondaries", "1"),
        ("ipv4/conf", "log_martians", "1"),
        ("ipv6/conf", "accept_ra", "2"),
        ("ipv6/conf", "accept_ra_rt_info_max_plen", "64"),
        ("ipv6/conf", "use_tempaddr", "0"),
        ("ipv4/neigh", "gc_stale_time", "120"),
        ("ipv6/neigh", "gc_stale_time", "130"),
    ];
    for (folder, name, value) in wanted {
        site.node().sysctl(&format!("net/{folder}/{NIC}/{name}"), value)?;
    }
    attach_and_detach(&site, |_, there| {
        for (folder, name, value) in wanted {
            let fact = format!("{folder} {name} = {value}");
            ensure!(there.says(Subject::Sysctl, &[BRIDGE, &fact]), "{BRIDGE}: not {fact}");
        }
        Ok(())
    })
}

/// Receive offload merges segments into frames that a port of the userspace datapath cannot send on.
#[test]
fn receive_offload() -> Result<()> {
    let site = Site::usual()?;
    site.program("ethtool").line("-K eth0 gro on").run()?;
    let before = State::of(&site)?;
    ensure!(
        before.says(Subject::Offload, &[NIC, "generic-receive-offload: on"]),
        "GRO cannot be turned on here"
    );
    let meter = Meter::start(&site, &Load::of(Kind::Tcp).slowed(2))?;
    attach_and_detach(&site, |_, there| {
        ensure!(there.says(Subject::Offload, &[NIC, "generic-receive-offload: off"]), "GRO is still on");
        transfer(&site)
    })?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    Ok(())
}

/// A few megabytes to the node, in full segments.
fn transfer(site: &Site) -> Result<()> {
    use std::io::{Read as _, Write as _};
    const BYTES: usize = 4 << 20;
    let listener = site.node().enter(|| std::net::TcpListener::bind("0.0.0.0:7400"))??;
    let to = (site.address().v4, 7400);
    let mut client = site.outside().enter(|| std::net::TcpStream::connect(to))??;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    let sender = std::thread::spawn(move || client.write_all(&vec![7; BYTES]));
    let mut bytes = vec![0; BYTES];
    server.read_exact(&mut bytes).context("a transfer to the node stands still")?;
    sender.join().map_err(|_| anyhow::anyhow!("the sender broke"))??;
    Ok(())
}

/// Two NICs in one call: both, or none.
#[test]
fn several_nics() -> Result<()> {
    let site = Site::up(SiteOptions { second: true, ..SiteOptions::default() })?;
    let before = State::of(&site)?;
    let half = site.run("nics-to-bridge eth0 nosuch0")?;
    crate::fixture::is_refused(&site, &half, &before, &["nosuch0"])?;
    site.run("nics-to-bridge eth0 eth1")?.expect_ok()?;
    let there = State::of(&site)?;
    for (nic, bridge) in [(NIC, BRIDGE), (SECOND, "breth1")] {
        there.about(bridge, MOVED).expect(&before.about(nic, MOVED)).with_context(|| bridge.to_owned())?;
    }
    site.wait_until_reachable()?;
    site.run("bridge-to-nics breth0 breth1")?.expect_ok()?;
    site.wait_for_state(&before)?;
    // Turned, both, and then killed.
    let halted = site.run_until_held("nics-to-bridge eth0 eth1", "old-off", "")?;
    halted.kill()?;
    site.wait_until_reachable()?;
    site.wait_for_state(&before)
}

/// Ten thousand routes go over and come back.
#[test]
fn ten_thousand_routes() -> Result<()> {
    let configuration = nic::usual() + &nic::many_routes(10_000);
    let site = Site::up(SiteOptions { configuration, ..SiteOptions::default() })?;
    attach_and_detach(&site, |_, _| Ok(()))?;
    // And by undo.
    let before = State::of(&site)?;
    let outcome = site.run_with_fault(ATTACH, "old-off:kill")?;
    ensure!(!outcome.ok, "{outcome:?}");
    wait_until("the routes to be back", || State::of(&site)?.expect(&before).map(|()| true))
}
