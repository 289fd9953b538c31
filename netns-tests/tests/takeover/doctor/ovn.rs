//! OVN on the node: none, one that is set up wrong, and one that is well and then dies.

use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{Program, RunningProgram, wait_until};
use netns_tests::takeover::Site;
use nix::sys::signal::Signal;

use super::{comes_to_be_well, comes_to_find, doctor};
use crate::fixture::ATTACH;

/// What nobody sees to here.
const ALONE: &[&str] = &["helper-away"];

fn set(site: &Site, settings: &str) -> Result<()> {
    let words: Vec<String> = settings.split_whitespace().map(|word| format!("external_ids:{word}")).collect();
    site.vsctl(&format!("set Open_vSwitch . {}", words.join(" "))).map(drop)
}

/// A southbound database at tcp:127.0.0.1:6642 of the node.
fn southbound(site: &Site) -> Result<RunningProgram> {
    let (dir, file) = (site.dir().display(), site.dir().join("sb.db"));
    if !file.exists() {
        let schema = "/usr/share/ovn/ovn-sb.ovsschema";
        Program::new("ovsdb-tool").args(["create", &file.display().to_string(), schema]).run()?;
    }
    let socket = site.dir().join("sb.sock");
    drop(std::fs::remove_file(&socket));
    let mut held = site
        .program("ovsdb-server")
        .args([
            file.display().to_string(),
            format!("--remote=punix:{}", socket.display()),
            "--remote=ptcp:6642:127.0.0.1".to_owned(),
            "-vconsole:off".to_owned(),
            format!("--unixctl={dir}/sb.ctl"),
            format!("--log-file={dir}/sb.log"),
            "--no-chdir".to_owned(),
        ])
        .hold(&site.dir().join("sb.out"), &site.register())?;
    wait_until("the southbound database to answer", || {
        held.expect_alive()?;
        Ok(UnixStream::connect(&socket).is_ok())
    })?;
    // The row of settings that northd or a person makes: ovn-controller of 23.03 ends without it.
    Program::new("ovn-sbctl").arg(format!("--db=unix:{}", socket.display())).arg("init").run()?;
    Ok(held)
}

fn controller(site: &Site) -> Result<RunningProgram> {
    let dir = site.dir().display();
    let mut held = site
        .program("ovn-controller")
        .args([
            format!("unix:{dir}/db.sock"),
            "-vconsole:off".to_owned(),
            format!("--pidfile={dir}/ovn-controller.pid"),
            format!("--log-file={dir}/ovn-controller.log"),
            "--no-chdir".to_owned(),
        ])
        .hold(&site.dir().join("ovn-controller.out"), &site.register())?;
    wait_until("ovn-controller to answer", || {
        held.expect_alive()?;
        Ok(UnixStream::connect(site.dir().join(format!("ovn-controller.{}.ctl", held.id()))).is_ok())
    })?;
    Ok(held)
}

#[test]
fn set_up_wrong() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    doctor(&site, "")?.expect("note", "ovn")?;
    set(&site, "ovn-remote=tcp:127.0.0.1:6642 ovn-nb=tcp:127.0.0.1:6641")?;
    site.vsctl("-- add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure")?;
    let said = comes_to_find(&site, "warning", "ovn-flows")?;
    said.expect("note", "ovn-no-way")?;
    for name in ["ovn-controller", "ovn-southbound", "ovn-northbound"] {
        said.expect("warning", name)?;
    }
    let wrong = |about: &str, what: &str| {
        let said = doctor(&site, "")?;
        let found = said.findings.iter().find(|it| it.name == "ovn-settings" && it.about.ends_with(about));
        let found = found.with_context(|| format!("{about}: {said:#?}"))?;
        ensure!(found.what.contains(what), "{found:?}");
        Ok(())
    };
    wrong("ovn-encap-type", "not set")?;
    wrong("ovn-encap-ip", "not set")?;
    set(&site, "ovn-encap-type=gre ovn-encap-ip=192.0.2.99 ovn-remote=127.0.0.1:6642")?;
    wrong("ovn-encap-type", "gre")?;
    wrong("ovn-encap-ip", "not an address of this node")?;
    wrong("ovn-remote", "no OVSDB server")?;
    site.vsctl("remove Open_vSwitch . external_ids system-id")?;
    wrong("system-id", "not set")?;
    set(&site, "system-id=node1 ovn-bridge-mappings=physnet:eth0")?;
    let said = doctor(&site, "")?;
    let found = said.expect("warning", "ovn-bridge-mappings")?;
    ensure!(found.what.contains("its bridge is breth0"), "{found:?}");
    // With pods behind it, the same is an error.
    site.vsctl(
        "-- add-port breth0 there -- set interface there type=patch options:peer=here \
         -- add-port br-int here -- set interface here type=patch options:peer=there",
    )?;
    comes_to_find(&site, "error", "ovn-controller").map(drop)
}

#[test]
fn well_and_dying() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let database = southbound(&site)?;
    let address = site.address().v4;
    set(
        &site,
        &format!(
            "ovn-remote=tcp:127.0.0.1:6642 ovn-encap-type=geneve ovn-encap-ip={address} \
             ovn-bridge-mappings=physnet:breth0"
        ),
    )?;
    let daemon = controller(&site)?;
    comes_to_be_well(&site, ALONE).with_context(|| {
        std::fs::read_to_string(site.dir().join("ovn-controller.log")).unwrap_or_default()
    })?;
    doctor(&site, "")?.expect("ok", "ovn")?;

    daemon.signal(Signal::SIGSTOP)?;
    let said = doctor(&site, "");
    daemon.signal(Signal::SIGCONT)?;
    let said = said?;
    let found = said.expect("warning", "ovn-controller")?;
    ensure!(found.remedy.contains(&format!("kill -CONT {}", daemon.id())), "{found:?}");

    database.signal(Signal::SIGSTOP)?;
    let said = doctor(&site, "");
    database.signal(Signal::SIGCONT)?;
    said?.expect("warning", "ovn-southbound")?;
    database.kill()?;
    comes_to_find(&site, "warning", "ovn-controller")?.expect("warning", "ovn-southbound")?;
    let database = southbound(&site)?;
    comes_to_be_well(&site, ALONE).context("its database is back")?;

    daemon.kill()?;
    let said = doctor(&site, "")?;
    let found = said.expect("warning", "ovn-controller")?;
    ensure!(found.what.contains("does not run"), "{found:?}");
    drop(database);
    Ok(())
}
