//! The lab itself: it comes up, and goes without a trace, also when its owner panics or is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{Lab, LabOptions, address::Family, identity, process::Register},
    probe::{Listen, Request, Responder},
};

/// What a lab leaves on the machine while it is up.
fn traces(lab: &Lab) -> Result<Vec<PathBuf>> {
    let register = fs::read_to_string(lab.dir().join("processes"))?;
    let processes =
        register.lines().filter_map(|line| line.split(' ').next()).map(|id| Path::new("/proc").join(id));
    let mut traces: Vec<_> = processes.collect();
    ensure!(traces.len() >= 6, "only {} processes are noted", traces.len());
    traces.push(lab.dir().to_owned());
    traces.push(lab.node(1)?.namespace().path().to_owned());
    traces.push(lab.pod(1, 1)?.namespace().path().to_owned());
    traces.push(lab.world().fabric().path().to_owned());
    for trace in &traces {
        ensure!(trace.exists(), "{} is missing while the lab is up; noted: {register}", trace.display());
    }
    Ok(traces)
}

fn all_gone(traces: &[PathBuf]) -> Result<()> {
    for trace in traces.iter().filter(|trace| trace.exists()) {
        // Folders stay when a person asked for them.
        let kept = std::env::var_os("LAB_KEEP").is_some() && trace.join("processes").exists();
        ensure!(kept, "{} is left", trace.display());
    }
    Ok(())
}

#[test]
fn goes_without_a_trace() -> Result<()> {
    let lab = Lab::up(LabOptions::default())?;
    let traces = traces(&lab)?;
    drop(lab);
    all_gone(&traces)
}

#[test]
fn goes_when_its_owner_panics() -> Result<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let owner = thread::spawn(move || {
        let options = LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() };
        let lab = Lab::start(options).unwrap();
        send.send(traces(&lab).unwrap()).unwrap();
        panic!("on purpose");
    });
    let traces = receive.recv().context("the lab did not come up")?;
    ensure!(owner.join().is_err(), "the owner should have panicked");
    all_gone(&traces)
}

/// Nodes as they come from the installer: the address on the NIC, no bridge.
#[test]
fn bare_nodes_are_reachable_by_their_nic() -> Result<()> {
    let lab =
        Lab::up(LabOptions { nodes: 1, pods_per_node: 1, bare_uplinks: true, ..LabOptions::default() })?;
    let node = lab.node(1)?;
    ensure!(!node.vsctl("list-br")?.contains("breth0"), "there is a breth0 already");
    let responder = Responder::start(node.namespace(), node.name(), &Listen::everywhere(2222))?;
    for family in Family::ALL {
        let answer =
            Request::tcp(node.address().port(family, 2222)).send(lab.world().administrator().namespace())?;
        ensure!(answer.name == "node1", "{} answers", answer.name);
    }
    drop(responder);
    Ok(())
}

/// What a killed owner leaves is ended and removed by the next: here, a folder with a process, under a dead owner's id.
#[test]
fn what_a_killed_owner_left_is_swept() -> Result<()> {
    let mut owner = Command::new("true").spawn()?;
    let id = owner.id();
    owner.wait()?;
    let mut left = Command::new("sleep").arg("1000").spawn()?;
    let dir = std::env::temp_dir().join(format!("k8gw-{id}-0"));
    fs::create_dir_all(&dir)?;
    Register::of(&dir).note(left.id())?;
    identity::sweep();
    ensure!(!dir.exists() || std::env::var_os("LAB_KEEP").is_some(), "{} is left", dir.display());
    ensure!(!left.wait()?.success(), "the process was not ended");
    Ok(())
}
