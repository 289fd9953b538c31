//! A DHCP client that somebody starts again whenever it ends: refused, and what happens where that is overruled.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::{Program, RunningProgram, wait_until},
    takeover::{
        Load, Meter, Site, SiteOptions, State,
        meter::Kind,
        nic::{self, BRIDGE, NIC},
        switch::Daemon,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::fixture::{ATTACH, DETACH, is_refused};

/// What a client's own script does with a lease, as far as it matters here: udhcpc says the reason by an argument, dhclient
/// by the environment. Writes down what it did.
const SCRIPT: &str = r#"#!/bin/sh
case ${reason:-$1} in
deconfig) ip -4 addr flush dev $interface; ip link set $interface up ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    for_seconds=${lease:-$new_dhcp_lease_time}
    ip -4 addr replace ${ip:-$new_ip_address}/24 dev $interface valid_lft $for_seconds preferred_lft $for_seconds
    ip route replace default via ${router:-$new_routers} dev $interface
    echo "bound $interface" >>"$0.log" ;;
esac
"#;

/// A client that stays in the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Udhcpc,
    Dhclient,
}

impl Client {
    /// Its program's name, and a word of its command line.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Udhcpc => ["busybox", "udhcpc"],
            Self::Dhclient => ["dhclient", "dhclient"],
        }
    }

    fn line(self, dir: &Path) -> String {
        let dir = dir.display();
        match self {
            Self::Udhcpc => format!("busybox udhcpc -f -t 5 -T 1 -A 1 -i {NIC} -s {dir}/script"),
            Self::Dhclient => format!(
                "dhclient -4 -d -cf /dev/null -sf {dir}/script -pf {dir}/dhclient.pid -lf {dir}/dhclient.leases {NIC}"
            ),
        }
    }
}

/// A server with one address, and a loop that keeps a client running on the NIC.
struct Clients<'s> {
    site: &'s Site,
    client: Client,
    /// The loop ends before its clients do.
    held: Vec<RunningProgram>,
}

impl<'s> Clients<'s> {
    fn start(site: &'s Site, client: Client) -> Result<Self> {
        let (dir, register) = (site.dir().to_owned(), site.register());
        let script = dir.join("script");
        fs::write(&script, SCRIPT).context("writing the client's script")?;
        Program::new("chmod").args(["755", &script.display().to_string()]).run()?;
        let server = Program::new("dnsmasq")
            .line("--no-daemon --port=0 --conf-file=/dev/null --interface=fabric --bind-dynamic --no-ping --user=root --pid-file=")
            .line("--dhcp-authoritative --dhcp-range=172.18.0.11,172.18.0.11,120 --dhcp-option=option:router,172.18.0.1")
            .arg(format!("--dhcp-leasefile={}", dir.join("leases").display()))
            .inside(site.router())
            .hold(&dir.join("server.out"), &register)?;
        let mut clients = Self { site, client, held: vec![server] };
        let again = format!("while :; do {}; sleep 0.3; done", client.line(&dir));
        let held = site.program("sh").args(["-c", &again]).hold(&dir.join("clients.out"), &register)?;
        clients.held.push(held);
        wait_until("a lease on the NIC", || Ok(addresses(site, NIC)?.contains("dynamic")))?;
        site.wait_until_reachable()?;
        Ok(clients)
    }

    fn on(&self, device: &str) -> Result<Vec<u32>> {
        let [program, word] = self.client.names();
        let is_client = |id: &u32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut words = line.split('\0');
            words.next().is_some_and(|first| first.ends_with(program)) && words.any(|word| word == device)
        };
        Ok(self.site.processes(word)?.into_iter().filter(is_client).collect())
    }

    /// How often the script has put the address on the NIC.
    fn bound(&self) -> usize {
        let log = fs::read_to_string(self.site.dir().join("script.log")).unwrap_or_default();
        log.lines().filter(|line| *line == format!("bound {NIC}")).count()
    }

    /// The next of the loop's clients has its lease.
    fn wait_for_the_next(&self, so_far: usize) -> Result<()> {
        wait_until("the next client to have its lease", || Ok(self.bound() > so_far))
    }

    fn kill_on(&self, device: &str) {
        for id in self.on(device).unwrap_or_default() {
            let _ = i32::try_from(id).map(|id| kill(Pid::from_raw(id), Signal::SIGKILL));
        }
    }

    /// Nothing but the bridge has the address and the way out.
    fn wait_until_on_the_bridge(&self) -> Result<()> {
        let site = self.site;
        wait_until("address and routes to be the bridge's alone", || {
            let route = site.program("ip").line("route show default").run()?;
            Ok(addresses(site, NIC)?.is_empty()
                && addresses(site, BRIDGE)?.contains("172.18.0.11/24")
                && route.contains(BRIDGE)
                && !route.contains(&format!("dev {NIC} ")))
        })?;
        site.wait_until_reachable()
    }
}

impl Drop for Clients<'_> {
    fn drop(&mut self) {
        self.held.clear();
        for device in [NIC, BRIDGE] {
            self.kill_on(device);
        }
    }
}

fn addresses(site: &Site, device: &str) -> Result<String> {
    site.program("ip").line(&format!("-4 -o addr show dev {device}")).run()
}

/// Refused by name; with `--force` onto the bridge; `meanwhile` there; and back, where the loop has its client.
fn refused_and_forced(
    client: Client,
    meanwhile: impl FnOnce(&Site, &Clients<'_>) -> Result<()>,
) -> Result<()> {
    let site = Site::up(SiteOptions { configuration: nic::plain(), ..SiteOptions::default() })?;
    let clients = Clients::start(&site, client)?;
    let before = State::of(&site)?;
    let first = clients.on(NIC)?;
    ensure!(first.len() == 1, "{first:?} are not one client");
    let [_, name] = client.names();
    let outcome = site.run(ATTACH)?;
    is_refused(&site, &outcome, &before, &["[dhcp-supervised]", name, "sh (pid", "kill -9", "--force"])?;
    ensure!(clients.on(NIC)? == first, "the client was ended");

    let meter = Meter::start(&site, &Load::of(Kind::Tcp).slowed(4))?;
    site.run(&format!("{ATTACH} --force"))?.expect_ok()?;
    let helper = site.start_helper(&[])?;
    meanwhile(&site, &clients)?;
    clients.wait_until_on_the_bridge()?;
    meter.wait_until_all_move()?;
    ensure!(clients.on(BRIDGE)?.len() == 1, "the bridge has no client of its own");

    helper.terminate()?;
    site.clean_up_helper()?;
    site.run(DETACH)?.expect_ok()?;
    site.wait_until_reachable()?;
    wait_until("the loop's client alone", || {
        Ok(clients.on(BRIDGE)?.is_empty() && clients.on(NIC)?.len() == 1)
    })?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    Ok(())
}

/// It receives frames before the ingress filter, and puts the address back each time.
#[test]
fn dhclient_is_started_again() -> Result<()> {
    if Program::new("sh").args(["-c", "command -v dhclient"]).run().is_err() {
        eprintln!("skipped: dhclient (isc-dhcp-client) is needed");
        return Ok(());
    }
    refused_and_forced(Client::Dhclient, |_, clients| {
        clients.wait_until_on_the_bridge()?;
        for _ in 0..2 {
            let so_far = clients.bound();
            clients.kill_on(NIC);
            clients.wait_for_the_next(so_far)?;
            clients.wait_until_on_the_bridge()?;
        }
        Ok(())
    })
}

/// The ingress filter blocks it, and it gets no lease until management is on the NIC while the switch is dead.
#[test]
fn udhcpc_is_started_again() -> Result<()> {
    refused_and_forced(Client::Udhcpc, |site, clients| {
        clients.wait_until_on_the_bridge()?;
        wait_until("the next client", || Ok(clients.on(NIC)?.len() == 1))?;
        let so_far = clients.bound();
        site.kill(Daemon::Switch)?;
        clients.wait_for_the_next(so_far)?;
        site.wait_until_reachable().context("while the switch is dead")?;
        site.restart_daemons()
    })
}
