//! Devices that stand on a NIC or that a NIC is a part of: VLANs, bonds, teams, VRFs, macvlan, ipvlan, tunnels. Most
//! machines' kernels have them, the lab's own need not, so they are tried here, on both datapaths.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{
    lab::{
        machine::{Datapath, scaled},
        process::{Program, patience, wait_until},
    },
    takeover::{
        Load, Meter, Site, SiteOptions, State,
        meter::Kind,
        nic::{self, NIC},
        product::Outcome,
        state::{MOVED, Subject},
    },
};
use serde_json::Value;

use crate::on_the_kernel_datapath;

const BOTH: [Datapath; 2] = [Datapath::Kernel, Datapath::Userspace];

/// The router's end of VLAN 100, and the node's.
const VLAN_ROUTER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const VLAN_NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 11);

/// The VLAN beside the NIC's own network.
const VLAN_BESIDE: [&str; 2] = [
    "link add link node name node.100 type vlan id 100\nlink set node.100 up\naddr add 172.20.0.1/24 dev node.100\n",
    "link add link eth0 name eth0.100 type vlan id 100\nlink set eth0.100 up\naddr add 172.20.0.11/24 dev eth0.100\n",
];

/// `ip` lines that put the NIC into something or something on it, and what its takeover is refused for then.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "bond-slave",
        "bond0",
        "link add bond0 type bond mode active-backup miimon 100\nlink set eth0 down\nlink set eth0 master bond0\nlink set bond0 up\n",
    ),
    (
        "bond-slave",
        "team0",
        "link add team0 type team\nlink set eth0 down\nlink set eth0 master team0\nlink set team0 up\n",
    ),
    (
        "nic-has-master",
        "vrf10",
        "link add vrf10 type vrf table 10\nlink set vrf10 up\nlink set eth0 master vrf10\n",
    ),
    ("nic-has-master", "br0", "link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n"),
    ("nic-is-lower-device", "mv0", "link add link eth0 name mv0 type macvlan mode bridge\nlink set mv0 up\n"),
    ("nic-is-lower-device", "mvtap0", "link add link eth0 name mvtap0 type macvtap\nlink set mvtap0 up\n"),
    ("nic-is-lower-device", "iv0", "link add link eth0 name iv0 type ipvlan mode l2\nlink set iv0 up\n"),
    ("nic-is-lower-device", "vx0", "link add vx0 type vxlan id 7 dev eth0 dstport 8472\nlink set vx0 up\n"),
    (
        "nic-is-lower-device",
        "gre1",
        "link add gre1 type gretap local 172.18.0.11 remote 172.18.0.1 dev eth0\nlink set gre1 up\n",
    ),
    ("nic-is-lower-device", "ms0", "link add link eth0 name ms0 type macsec\nlink set ms0 up\n"),
];

fn plain(datapath: Datapath) -> SiteOptions {
    SiteOptions { configuration: nic::plain(), datapath, ..SiteOptions::default() }
}

/// An emulated machine needs longer than the usual fifteen seconds when it has other things to do.
fn there(nic: &str) -> String {
    format!("nics-to-bridge --verify-timeout=120 {nic}")
}

fn back(bridge: &str) -> String {
    format!("bridge-to-nics --verify-timeout=120 {bridge}")
}

/// The node's state when new devices have their carriers and link-local addresses.
fn settled(site: &Site) -> Result<State> {
    let mut last = State::of(site)?;
    wait_until("the devices to come to rest", || {
        thread::sleep(scaled(Duration::from_millis(400)));
        let now = State::of(site)?;
        let tentative = site.program("ip").line("-6 -o addr show tentative").run()?;
        let rests = tentative.is_empty() && now == last;
        last = now;
        Ok(rests)
    })?;
    Ok(last)
}

/// The names of a plan's refusals or warnings.
fn names(site: &Site, nic: &str, which: &str) -> Result<Vec<String>> {
    let plan = site.run(&format!("nics-to-bridge --dry-run --output=json {nic}"))?.json()?;
    let list = plan.get(which).and_then(Value::as_array).with_context(|| format!("no {which} in {plan}"))?;
    Ok(list.iter().filter_map(|one| Some(one.get("name")?.as_str()?.to_owned())).collect())
}

fn refuses(site: &Site, outcome: &Outcome, before: &State, name: &str, words: &[&str]) -> Result<()> {
    ensure!(!outcome.ok, "it was done: {outcome:?}");
    let said = &outcome.said;
    ensure!(said.contains(&format!("[{name}]")), "not [{name}]: {said}");
    ensure!(words.iter().all(|word| said.contains(word)), "no word of {words:?}: {said}");
    State::of(site)?.expect(before).context("the refusal changed something")
}

#[test]
#[ignore = "needs a kernel with these devices: make test-kernel"]
fn what_a_nic_is_a_part_of_and_what_stands_on_it() -> Result<()> {
    on_the_kernel_datapath()?;
    for datapath in BOTH {
        for (name, device, lines) in REFUSED {
            let run = || {
                let site = Site::up(plain(datapath))?;
                site.ip(lines)?;
                let before = settled(&site)?;
                let shown = names(&site, NIC, "refusals")?;
                ensure!(shown.iter().any(|one| one == name), "the plan refuses for {shown:?}");
                refuses(&site, &site.run(&there(NIC))?, &before, name, &[device])?;
                println!("{datapath:?}: {device}: {name}");
                Ok(())
            };
            run().with_context(|| format!("{name}, {device}, {datapath:?}"))?;
        }
    }
    Ok(())
}

/// A connection beside: a byte is sent and echoed on request.
struct Beside {
    node: TcpStream,
    router: TcpStream,
}

impl Beside {
    /// Over the VLAN.
    fn start(site: &Site) -> Result<Self> {
        let listener = site.router().enter(|| TcpListener::bind((VLAN_ROUTER, 7400)))??;
        let to = SocketAddr::from((VLAN_ROUTER, 7400));
        let node =
            site.node().enter(|| TcpStream::connect_timeout(&to, patience()))?.context("over the VLAN")?;
        let (router, _) = listener.accept()?;
        for end in [&node, &router] {
            end.set_read_timeout(Some(patience()))?;
        }
        Ok(Self { node, router })
    }

    fn moves(&mut self) -> Result<()> {
        let mut byte = [0];
        self.node.write_all(b"a")?;
        self.router.read_exact(&mut byte).context("from the node")?;
        self.router.write_all(b"b")?;
        self.node.read_exact(&mut byte).context("to the node")
    }
}

/// How many of five echo requests over the VLAN are answered, from the node and to it.
fn pings(site: &Site) -> Result<[usize; 2]> {
    let request = |program: Program<'_>, to: Ipv4Addr| -> Result<usize> {
        let line = format!("-q -n -c 5 -i 0.2 -W 3 {}", to);
        let (_, printed, said) = program.line(&line).outcome()?;
        let count = printed.split(", ").find_map(|part| part.strip_suffix(" received")?.parse().ok());
        count.with_context(|| format!("{printed}{said}"))
    };
    let router = Program::new("ping").inside(site.router());
    Ok([request(site.program("ping"), VLAN_ROUTER)?, request(router, VLAN_NODE)?])
}

/// The kernel's datapath leaves a VLAN's frames to the VLAN.
#[test]
#[ignore = "needs a kernel with these devices: make test-kernel"]
fn a_vlan_on_the_nic_goes_on() -> Result<()> {
    on_the_kernel_datapath()?;
    let site = Site::up(plain(Datapath::Kernel))?;
    let run = || -> Result<()> {
        site.router().ip(VLAN_BESIDE[0])?;
        site.ip(VLAN_BESIDE[1])?;
        let mut beside = Beside::start(&site)?;
        beside.moves()?;
        let before = settled(&site)?;
        ensure!(names(&site, NIC, "warnings")?.iter().any(|name| name == "vlan-child"), "no warning");
        taken_and_given_back(&site, NIC, &before, || {
            let answered = pings(&site)?;
            println!("over eth0.100 while eth0 is on the bridge: {answered:?} of 5 answered");
            ensure!(answered == [5, 5], "{answered:?} of 5 answered over the VLAN");
            beside.moves().context("the VLAN's connection")
        })?;
        ensure!(pings(&site)? == [5, 5], "the VLAN is deaf after the way back");
        beside.moves()
    };
    run().with_context(|| site.diagnosis())
}

/// On the userspace datapath the ingress filter is below it: refused, and what is said of it is true.
#[test]
#[ignore = "needs a kernel with these devices: make test-kernel"]
fn a_vlan_on_the_nic_would_be_deaf() -> Result<()> {
    on_the_kernel_datapath()?;
    let site = Site::up(plain(Datapath::Userspace))?;
    let run = || -> Result<()> {
        site.router().ip(VLAN_BESIDE[0])?;
        site.ip(VLAN_BESIDE[1])?;
        ensure!(pings(&site)? == [5, 5], "the VLAN does not work before anything was done");
        let before = settled(&site)?;
        refuses(&site, &site.run(&there(NIC))?, &before, "vlan-child", &["eth0.100", "--force"])?;
        site.run(&format!("{} --force", there(NIC)))?.expect_ok()?;
        site.wait_until_reachable()?;
        let answered = pings(&site)?;
        println!("over eth0.100, forced: {answered:?} of 5 answered");
        ensure!(answered == [0, 0], "a VLAN that is refused as deaf hears: {answered:?}");
        site.run(&back("breth0"))?.expect_ok()?;
        is_as_before(&site, "breth0", &before)?;
        ensure!(pings(&site)? == [5, 5], "the VLAN is deaf after the way back");
        Ok(())
    };
    run().with_context(|| site.diagnosis())
}

#[test]
#[ignore = "needs a kernel with these devices: make test-kernel"]
fn a_tagged_uplink() -> Result<()> {
    on_the_kernel_datapath()?;
    for datapath in BOTH {
        let site = Site::up(plain(datapath))?;
        let run = || -> Result<()> {
            // What the NIC had is on its VLAN, in the network behind the router's.
            site.router().ip(
                "link add link node name node.100 type vlan id 100\nlink set node nomaster\nlink set node up\n\
                 link set node.100 master fabric up\n",
            )?;
            let flush = "addr flush dev eth0 scope global\n";
            let lines = nic::plain().replace("eth0", "eth0.100");
            let vlan = "link add link eth0 name eth0.100 type vlan id 100\nlink set eth0.100 up\n";
            site.ip(&format!("{flush}route del default via fd00:18::1 dev eth0\n{vlan}{lines}"))?;
            moved(&site, "eth0.100", "tagged-uplink", datapath, || Ok(()))
        };
        run().with_context(|| format!("{datapath:?}\n{}", site.diagnosis()))?;
    }
    Ok(())
}

/// How a bond is set, its slaves and MAC.
fn bond(site: &Site) -> Result<Vec<String>> {
    let links: Value = serde_json::from_str(&site.program("ip").line("-d -j link show").run()?)?;
    let mut found = Vec::new();
    for link in links.as_array().context("no list of links")? {
        let kind = link.pointer("/linkinfo/info_kind").and_then(Value::as_str);
        let slave = link.get("master").and_then(Value::as_str) == Some("bond0");
        if kind != Some("bond") && !slave {
            continue;
        }
        let mut data = link.pointer("/linkinfo/info_data").cloned().unwrap_or_default();
        if let Some(data) = data.as_object_mut().filter(|_| !slave) {
            // Whichever carries at the moment, and what LACP counts.
            data.retain(|name, _| !["active_slave", "ad_info"].contains(&name.as_str()));
        }
        let data = if slave { Value::Null } else { data };
        found.push(format!("{} {} {data}", link["ifname"], link["address"]));
    }
    found.sort();
    Ok(found)
}

/// Two links to the same switch. Returns when the node is reached by them.
fn make_bond(site: &Site, mode: &str) -> Result<()> {
    let enslave = |first: &str, second: &str, bond: &str| {
        format!(
            "link add {bond} type bond mode {mode} miimon 100\n\
             link set {first} nomaster\nlink set {second} nomaster\nlink set {first} down\nlink set {second} down\n\
             link set {first} master {bond}\nlink set {second} master {bond}\nlink set {bond} up\n"
        )
    };
    let flush = "addr flush dev node2\n";
    site.router().ip(match mode {
        // Both ends have to speak LACP.
        "802.3ad" => format!("{flush}{}link set lag master fabric\n", enslave("node", "node2", "lag")),
        _ => format!("{flush}link set node2 master fabric\n"),
    })?;
    site.ip(&format!(
        "addr flush dev eth0 scope global\naddr flush dev eth1\n{}",
        enslave("eth0", "eth1", "bond0")
    ))?;
    site.ip(&nic::plain().replace("eth0", "bond0"))?;
    if site.program("ethtool").line("-K bond0 tx off").outcome()?.0 { Ok(()) } else { bail!("tx of bond0") }
}

#[test]
#[ignore = "needs a kernel with these devices: make test-kernel"]
fn a_bond_itself() -> Result<()> {
    on_the_kernel_datapath()?;
    for datapath in BOTH {
        for mode in ["active-backup", "802.3ad"] {
            let site = Site::up(SiteOptions { second: true, ..plain(datapath) })?;
            let run = || -> Result<()> {
                make_bond(&site, mode)?;
                site.wait_until_reachable()?;
                let before = settled(&site)?;
                refuses(&site, &site.run(&there(NIC))?, &before, "bond-slave", &["nics-to-bridge bond0"])?;
                let as_it_is = bond(&site)?;
                ensure!(as_it_is.len() == 3, "{as_it_is:?}");
                moved(&site, "bond0", "bond", datapath, || {
                    let now = bond(&site)?;
                    ensure!(now == as_it_is, "the bond is another: {now:?}, it was {as_it_is:?}");
                    let mac = |device: &str| {
                        let path = format!("/sys/class/net/{device}/address");
                        site.program("cat").arg(path).run()
                    };
                    ensure!(mac("bond0")? == mac("brbond0")?, "the bridge has another MAC");
                    // A link lost while on the bridge: the other carries on.
                    site.router().ip("link set node down\n")?;
                    site.wait_until_reachable().context("over the second link")?;
                    site.router().ip("link set node up\n")?;
                    site.wait_until_reachable().context("over both again")
                })?;
                let left = site.program("tc").line("qdisc show ingress").run()?;
                println!("{datapath:?}, {mode}: Open vSwitch has left {left:?}");
                ensure!(bond(&site)? == as_it_is, "the bond is another after the way back");
                Ok(())
            };
            run().with_context(|| format!("{mode}, {datapath:?}\n{}", site.diagnosis()))?;
        }
    }
    Ok(())
}

/// A device that is no NIC is taken over and given back under pings and TCP, and said to be what it is.
fn moved(
    site: &Site,
    nic: &str,
    said: &str,
    datapath: Datapath,
    meanwhile: impl FnMut() -> Result<()>,
) -> Result<()> {
    site.wait_until_reachable()?;
    let before = settled(site)?;
    let warnings = names(site, nic, "warnings")?;
    ensure!(warnings.iter().any(|name| name == said), "no word of {said}: {warnings:?}");
    taken_and_given_back(site, nic, &before, meanwhile).with_context(|| format!("{nic} on {datapath:?}"))
}

fn taken_and_given_back(
    site: &Site,
    nic: &str,
    before: &State,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<()> {
    let bridge = format!("br{nic}");
    let load = Load { kinds: vec![Kind::Ping, Kind::Tcp], ..Load::full() };
    let meter = Meter::start(site, &load.slowed(10))?;
    site.run(&there(nic))?.expect_ok()?;
    site.wait_until_reachable()?;
    let now = State::of(site)?;
    now.about(&bridge, MOVED).expect(&before.about(nic, MOVED)).context("what the bridge has")?;
    let left = now.about(nic, &[Subject::Address, Subject::Route]);
    left.expect(&now.about("no such device", MOVED)).with_context(|| format!("what {nic} still has"))?;
    site.connect_anew()?;
    meanwhile()?;
    meter.wait_until_all_move()?;
    site.run(&back(&bridge))?.expect_ok()?;
    is_as_before(site, &bridge, before)?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    println!("{nic} there and back\n{report}");
    ensure!(report.dead().is_empty(), "connections died: {:?}", report.dead());
    Ok(())
}

fn is_as_before(site: &Site, bridge: &str, before: &State) -> Result<()> {
    site.wait_until_reachable()?;
    site.wait_until_closed()?;
    if site.journal_state()? == "undone-ovsdb-pending" {
        site.run("recover")?.expect_ok()?;
    }
    // Open vSwitch hangs an empty ingress qdisc on each slave of a bond that is its port, and leaves it there.
    wait_until("the state of before", || {
        State::of(site)?.without_lines("ingress_block").expect(before).map(|()| true)
    })?;
    site.wait_until_disarmed()?;
    wait_until("the bridge to leave the database", || Ok(!site.has_bridge(bridge)?))
}
