//! In whose name the helper asks whether management gets through: what a question says of the node is true whenever it is
//! asked, or neighbours would send the node's frames to where nobody takes them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{Program, wait_until};
use netns_tests::takeover::{Site, nic};

use crate::survival::{Survival, helper_log};

/// Longer than three questions take that nobody has a reason to hurry with.
const A_WHILE: Duration = Duration::from_millis(3500);
/// Another owner's.
const OTHER: &str = "0e:00:00:00:00:99";

/// At which MAC address the router believes an address to be.
fn believed(site: &Site, address: &str) -> Result<Option<String>> {
    let line = format!("-n {} neigh show {address} dev fabric", site.router().name());
    let printed = Program::new("ip").line(&line).run()?;
    let mut words = printed.split_whitespace().skip_while(|word| *word != "lladdr").skip(1);
    Ok(words.next().map(str::to_owned))
}

/// The router goes on believing it, whoever asks meanwhile.
fn stays_believed(site: &Site, addresses: &[String], mac: &str) -> Result<()> {
    let end = Instant::now() + A_WHILE;
    while Instant::now() < end {
        for address in addresses {
            let now = believed(site, address)?;
            ensure!(now.as_deref() == Some(mac), "the router believes {address} at {now:?}, not at {mac}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// An address for a service goes to another node (VRRP, RFC 9568): from then on it is that one's.
#[test]
fn an_address_that_moves_on() -> Result<()> {
    let mut survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    if let Some(helper) = survival.helper.take() {
        helper.terminate()?;
    }
    let site = &survival.site;
    let service = "fd00:18::aa".to_owned();
    // The kernel lists the newest of a family first (IPv6), so it is what is asked by.
    site.ip(&format!("addr add {service}/64 dev breth0 nodad\n"))?;
    survival.helper = Some(site.launch_helper(&["-vuplink:file:dbg"], "")?);
    wait_until("the router to know the node by it", || {
        Ok(believed(site, &service)?.as_deref() == Some(nic::MAC))
    })
    .with_context(|| helper_log(site))?;
    site.ip(&format!("addr del {service}/64 dev breth0\n"))?;
    // A question that was under way.
    thread::sleep(Duration::from_millis(200));
    site.router().ip(format!("neigh replace {service} lladdr {OTHER} dev fabric nud stale\n"))?;
    stays_believed(site, &[service], OTHER).with_context(|| helper_log(site))?;
    survival.ends_well()
}
