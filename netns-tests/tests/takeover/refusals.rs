//! What is refused or warned of, by name and with the remedy, before anything is touched.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::wait_until,
    takeover::{Site, SiteOptions, State, nic, product::Outcome},
};
use nix::sys::socket::{setsockopt, sockopt};

use crate::fixture::{ATTACH, is_refused};

/// A site configured like this must be refused, in words that hold these.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("a master", "link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n", &["eth0", "br0"]),
    ("a macvlan on top", "link add mv0 link eth0 type macvlan\n", &["eth0", "mv0"]),
    ("a VXLAN on top", "link add vx0 type vxlan id 7 dev eth0 dstport 8472\n", &["eth0", "vx0"]),
    (
        "a lease about to end",
        "addr add 172.18.0.99/24 dev eth0 valid_lft 40 preferred_lft 30\n",
        &["172.18.0.99"],
    ),
];

fn site_with(lines: &str) -> Result<Site> {
    Site::up(SiteOptions { configuration: nic::usual() + lines, ..SiteOptions::default() })
}

/// The plan, which is printed and nothing else.
fn plan(site: &Site) -> Result<Outcome> {
    site.run("nics-to-bridge --dry-run --output=json eth0")
}

#[test]
fn configurations_that_cannot_move() -> Result<()> {
    for (name, lines, words) in REFUSED {
        let last = lines.lines().last().unwrap_or_default();
        let site = site_with(if last.contains("master") { "" } else { lines })?;
        if last.contains("master") {
            // With a master the NIC itself answers nobody, so it is enslaved after the site is up.
            site.ip(lines)?;
        }
        let before = State::of(&site)?;
        let shown = plan(&site)?;
        ensure!(!shown.ok && shown.said.trim().lines().count() == 1, "{name}: {}", shown.said);
        shown.json().with_context(|| format!("{name}: the plan is not whole"))?;
        for word in *words {
            ensure!(
                shown.printed.contains(word) || shown.said.contains(word),
                "{name}: the plan has no word of {word}: {} {}",
                shown.printed,
                shown.said
            );
        }
        State::of(&site)?.expect(&before).with_context(|| format!("{name}: the plan changed something"))?;
        let outcome = site.run(ATTACH)?;
        ensure!(!outcome.ok, "{name}: it was done");
        let said = outcome.said.trim();
        ensure!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        State::of(&site)?
            .expect(&before)
            .with_context(|| format!("{name}: the refusal changed something"))?;
    }
    Ok(())
}

#[test]
fn names_that_mean_nothing() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    for (line, words) in [
        ("nics-to-bridge nosuch0", &["nosuch0"][..]),
        ("nics-to-bridge lo", &["lo"]),
        ("nics-to-bridge eth0/1", &["eth0/1"]),
        ("nics-to-bridge averyveryverylongname", &["15"]),
        ("bridge-to-nics nosuch0", &["nosuch0"]),
        ("bridge-to-nics breth0", &["breth0"]),
        ("bridge-to-nics eth0", &["eth0"]),
        ("nics-to-bridge --datapath-type=dpdk eth0", &["netdev"]),
        ("nics-to-bridge --verify-timeout=never eth0", &["never"]),
    ] {
        let outcome = site.run(line)?;
        is_refused(&site, &outcome, &before, words).with_context(|| line.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_port_of_another_bridge() -> Result<()> {
    let site = Site::usual()?;
    site.vsctl(
        "-- add-br other -- set bridge other datapath_type=netdev fail-mode=secure -- add-port other eth0",
    )?;
    let before = State::of(&site)?;
    let outcome = site.run(ATTACH)?;
    is_refused(&site, &outcome, &before, &["eth0", "other"])
}

/// The guard's table is another program's.
#[test]
fn a_table_of_the_guards_name() -> Result<()> {
    let site = Site::usual()?;
    site.node().nft("table netdev ovn_k8s_breth0 {\n chain mine {\n type filter hook ingress device \"eth0\" priority 0;\n accept\n }\n}\n")?;
    let before = State::of(&site)?;
    let outcome = site.run(ATTACH)?;
    is_refused(&site, &outcome, &before, &["ovn_k8s_breth0"])?;
    let left = site.program("nft").line("list table netdev ovn_k8s_breth0").run()?;
    ensure!(left.contains("chain mine"), "{left}");
    Ok(())
}

/// Nobody answers behind the only next hop: nothing to prove the way with, unless nobody wants proof.
#[test]
fn no_next_hop_that_answers() -> Result<()> {
    let site = Site::usual()?;
    let plain = "addr add 172.18.0.11/24 dev eth0\nroute add default via 172.18.0.250 dev eth0\n";
    for family in ["-4", "-6"] {
        for table in ["main", "100"] {
            site.program("ip").line(&format!("{family} route flush dev eth0 table {table}")).run()?;
        }
    }
    // What names no device of its own has several hops.
    site.ip(&format!("route del 2001:db8:203::/64\naddr flush dev eth0\n{plain}"))?;
    let before = State::of(&site)?;
    let outcome = site.run(ATTACH)?;
    ensure!(!outcome.ok, "it was done: {outcome:?}");
    ensure!(
        outcome.said.contains("cannot get a reply through breth0") && outcome.said.contains("--no-probe"),
        "{}",
        outcome.said
    );
    site.wait_for_state(&before)?;
    ensure!(!site.has_bridge(nic::BRIDGE)?, "the bridge is left behind");
    Ok(())
}

/// Sockets bound to the NIC hear nothing any more: they are named, with who holds them.
#[test]
fn sockets_bound_to_the_nic() -> Result<()> {
    let site = Site::usual()?;
    let socket = site.node().enter(|| std::net::UdpSocket::bind("0.0.0.0:7500"))??;
    setsockopt(&socket, sockopt::BindToDevice, &"eth0".into())?;
    let before = State::of(&site)?;
    let shown = plan(&site)?;
    let text = format!("{}{}", shown.printed, shown.said);
    ensure!(text.contains("7500") || text.contains(&std::process::id().to_string()), "{text}");
    State::of(&site)?.expect(&before)
}

/// Members of a multicast group by this NIC have to join again.
#[test]
fn multicast_memberships() -> Result<()> {
    let site = Site::usual()?;
    let socket = site.node().enter(|| std::net::UdpSocket::bind("0.0.0.0:7501"))??;
    socket.join_multicast_v4(&Ipv4Addr::new(239, 1, 2, 3), &site.address().v4)?;
    let shown = plan(&site)?;
    ensure!(shown.printed.contains("239.1.2.3"), "{}{}", shown.printed, shown.said);
    Ok(())
}

/// Firewall rules that name the NIC stop matching: the rule is quoted.
#[test]
fn firewall_rules_that_name_the_nic() -> Result<()> {
    let site = Site::usual()?;
    site.node().nft(
        "table inet host {\n chain input {\n type filter hook input priority 0; policy accept;\n iifname \"eth0\" tcp dport 22 accept\n }\n}\n",
    )?;
    let shown = plan(&site)?;
    ensure!(
        shown.printed.contains("iifname") && shown.printed.contains("22"),
        "{}{}",
        shown.printed,
        shown.said
    );
    Ok(())
}

/// Filters on the NIC's own ingress go on, but the switch sees what they drop.
#[test]
fn filters_on_the_nic() -> Result<()> {
    let site = Site::usual()?;
    site.program("tc").line("qdisc add dev eth0 clsact").run()?;
    let shown = plan(&site)?;
    ensure!(shown.printed.contains("clsact"), "{}{}", shown.printed, shown.said);
    Ok(())
}

/// A DHCP client that was not handed over would put its address back, or lose it.
#[test]
fn a_dhcp_client() -> Result<()> {
    let site = Site::usual()?;
    let client = site.dir().join("udhcpc");
    std::os::unix::fs::symlink("/usr/bin/busybox", &client).context("calling busybox by another name")?;
    let before = State::of(&site)?;
    // Nobody answers it here, and it goes on asking.
    let held = site
        .program(&client)
        .line("-f -i eth0 -s /bin/true -t 1000 -T 1")
        .hold(&site.dir().join("dhcp.out"), &site.register())?;
    wait_until("the client to run", || Ok(!site.processes("udhcpc")?.is_empty()))?;
    let shown = plan(&site)?;
    let text = format!("{}{}", shown.printed, shown.said);
    drop(held);
    ensure!(text.contains("udhcpc"), "{text}");
    State::of(&site)?.expect(&before)
}

/// The plan of a healthy NIC names what will be done, as a table and as JSON.
#[test]
fn the_plan_of_a_healthy_nic() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let json = plan(&site)?.expect_ok()?;
    json.json()?;
    let table = site.run("nics-to-bridge --dry-run eth0")?.expect_ok()?;
    for word in ["eth0", "breth0", "172.18.0.11", "fd00:18::11"] {
        ensure!(table.printed.contains(word), "no word of {word}: {}", table.printed);
        ensure!(json.printed.contains(word), "no word of {word}: {}", json.printed);
    }
    State::of(&site)?.expect(&before)?;
    ensure!(site.journal_state()? == "none", "a plan wrote a journal");
    ensure!(!site.has_bridge(nic::BRIDGE)?, "a plan made a bridge");
    Ok(())
}

/// What is only dangerous stands against it, until somebody forces it.
#[test]
fn a_plan_that_is_forced() -> Result<()> {
    let site = site_with("addr add 172.18.0.99/24 dev eth0 valid_lft 40 preferred_lft 30\n")?;
    let shown = site.run("nics-to-bridge --dry-run eth0")?;
    ensure!(!shown.ok && shown.said.contains("lifetime-too-short"), "{shown:?}");
    ensure!(shown.printed.contains("lifetime-too-short"), "{shown:?}");
    site.run("nics-to-bridge --dry-run --force eth0")?.expect_ok()?;
    let back = site.run("bridge-to-nics --dry-run breth0")?;
    ensure!(!back.ok && back.said.contains("not-found"), "{back:?}");
    Ok(())
}

/// The plan that is printed is the one that runs: its steps are those of the report, in that order, there and back.
#[test]
fn the_printed_steps_are_the_executed_ones() -> Result<()> {
    let site = Site::usual()?;
    for line in ["nics-to-bridge --output=json eth0", "bridge-to-nics --output=json breth0"] {
        let planned = site.run(&format!("{line} --dry-run"))?.expect_ok()?.json()?;
        let report = site.run(line)?.expect_ok()?.json()?;
        let names: Vec<_> =
            report["steps"].as_array().context("no steps")?.iter().map(|step| &step[0]).collect();
        let sequence: Vec<_> = planned["sequence"].as_array().context("no sequence")?.iter().collect();
        ensure!(
            !names.is_empty() && names == sequence,
            "{line}: {sequence:?} was planned, {names:?} was done"
        );
    }
    Ok(())
}

/// A node that changes between the plan and the lock is refused, with what changed, and nothing else is changed.
#[test]
fn a_node_that_changed_after_the_plan() -> Result<()> {
    let site = Site::usual()?;
    let script = site.dir().join("change");
    std::fs::write(&script, "#!/bin/sh\nexec ip addr add 172.18.0.77/24 dev eth0\n")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let outcome = site.run_with_fault(ATTACH, &format!("plan:run={}", script.display()))?;
    ensure!(
        !outcome.ok
            && outcome.said.contains("the node changed meanwhile")
            && outcome.said.contains("eth0 got address 172.18.0.77/24"),
        "{outcome:?}"
    );
    ensure!(site.journal_state()? == "none", "a refused run wrote a journal");
    ensure!(!site.has_bridge(nic::BRIDGE)?, "a refused run made a bridge");
    site.run(ATTACH)?.expect_ok()?;
    Ok(())
}
