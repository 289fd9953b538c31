//! Bad input and faults beyond a kill: disks, journals, databases, devices, neighbours, checks.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::wait_until,
    takeover::{
        Site, SiteOptions, State,
        nic::{BRIDGE, NIC},
        product::outcome,
        state::Subject,
    },
};
use nix::mount::{MsFlags, mount};

use crate::{
    fixture::{ATTACH, DETACH, Fixture, is_refused},
    ovsdb_proxy::{Manner, Proxy},
};

/// A file system of the node's own on a new folder.
fn mounted(site: &Site, name: &str, options: &str) -> Result<PathBuf> {
    let folder = site.dir().join(name);
    fs::create_dir(&folder)?;
    let at = folder.clone();
    let options = options.to_owned();
    site.node().enter(move || {
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
    })??;
    Ok(folder)
}

/// A program for a fault point.
fn script(site: &Site, name: &str, text: &str) -> Result<PathBuf> {
    let path = site.dir().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn the_disk_is_full() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let folder = mounted(&site, "full", "size=16k")?;
    let filler = folder.join("filler");
    // Until nothing more fits.
    site.node().enter(|| drop(fs::write(&filler, vec![0; 64 << 10])))?;
    let said = outcome(site.util_in(&folder, ATTACH)?)?;
    is_refused(&site, &said, &before, &[&folder.display().to_string()])?;
    ensure!(!site.has_bridge(BRIDGE)?, "a bridge without a journal");
    Ok(())
}

#[test]
fn the_journals_folder_is_read_only() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let folder = mounted(&site, "fixed", "ro")?;
    let said = outcome(site.util_in(&folder, ATTACH)?)?;
    is_refused(&site, &said, &before, &[&folder.display().to_string()])?;
    ensure!(!site.has_bridge(BRIDGE)?, "a bridge without a journal");
    Ok(())
}

/// Journals that cannot be taken at their word: nothing is replayed from them, and the node stays reachable.
#[test]
fn journals_that_mean_nothing_here() -> Result<()> {
    for (name, change) in [
        (
            "cut short",
            (|text: &str| text.get(..text.len() / 2).unwrap_or_default().to_owned()) as fn(&str) -> String,
        ),
        ("empty", |_| String::new()),
        ("of another version", |text| {
            text.replacen("\"version\":1", "\"version\":4711", 1).replacen(
                "\"version\": 1",
                "\"version\": 4711",
                1,
            )
        }),
        ("not JSON", |_| "once upon a time".to_owned()),
    ] {
        let site = Site::usual()?;
        let before = State::of(&site)?;
        // An open journal of a takeover that is undone long since: written, kept aside, put back.
        let halted = site.run_until_held(ATTACH, "journal", "")?;
        let path = site.journal_path();
        let open = fs::read_to_string(&path)?;
        halted.kill()?;
        site.wait_until_closed()?;
        site.wait_until_disarmed()?;
        let changed = change(&open);
        ensure!(changed != open, "{name}: the journal was not changed: {open}");
        fs::write(&path, changed)?;
        let outcome = site.run(ATTACH)?;
        ensure!(!outcome.said.contains("panicked"), "{name}: {}", outcome.said);
        if outcome.ok {
            // Set aside, and begun again: then it has to be whole.
            crate::fixture::is_on_the_bridge(&site, &before).context(name)?;
        } else {
            is_refused(&site, &outcome, &before, &[&path.display().to_string()]).context(name)?;
            let settled = site.run("recover")?;
            ensure!(!settled.said.contains("panicked"), "{name}: {}", settled.said);
        }
        site.wait_until_reachable().context(name)?;
    }
    Ok(())
}

/// An open journal of another boot: interface numbers in it mean nothing, the bridge's remains are cleared.
#[test]
fn a_journal_of_another_boot() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let halted = site.run_until_held(ATTACH, "ofport", "")?;
    let path = site.journal_path();
    let open = fs::read_to_string(&path)?;
    let ours = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    // The machine goes down with the bridge in the database; everything else is gone with it.
    halted.kill()?;
    site.wait_until_closed()?;
    site.wait_until_disarmed()?;
    fs::write(&path, open.replace(ours.trim(), "00000000-0000-4000-8000-000000000000"))?;
    site.run("recover")?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

#[test]
fn a_database_that_answers_late() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let proxy = Proxy::start(&fixture.site, Manner::Late(Duration::from_millis(200)))?;
    through(&fixture.site, &proxy, ATTACH)?.expect_ok()?;
    fixture.is_on_the_bridge()?;
    through(&fixture.site, &proxy, DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

#[test]
fn a_database_that_refuses_or_is_silent() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    for manner in [Manner::Never, Manner::Error, Manner::SilentAfter(0), Manner::SilentAfter(1)] {
        let proxy = Proxy::start(&fixture.site, manner)?;
        let outcome = through(&fixture.site, &proxy, "nics-to-bridge --verify-timeout=3 eth0")?;
        ensure!(!outcome.ok, "{manner:?}: it was done");
        ensure!(
            !outcome.said.trim().is_empty() && !outcome.said.contains("panicked"),
            "{manner:?}: {}",
            outcome.said
        );
        drop(proxy);
        fixture.site.wait_until_reachable()?;
        fixture.site.wait_until_closed().with_context(|| format!("{manner:?}"))?;
        fixture.site.wait_until_disarmed()?;
        // What could not be told to the database is told to it now.
        fixture.site.run("recover")?.expect_ok().with_context(|| format!("{manner:?}"))?;
        fixture.is_unchanged().with_context(|| format!("{manner:?}"))?;
    }
    fixture.finish()
}

/// The same with `--db` at the proxy's socket.
fn through(site: &Site, proxy: &Proxy, line: &str) -> Result<netns_tests::takeover::product::Outcome> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    outcome(
        site.program(site.called("ovn-k8s-util")?)
            .arg(command)
            .arg(format!("--db=unix:{}", proxy.path().display()))
            .arg(format!("--state-dir={}", site.state_dir().display()))
            .line(rest),
    )
}

/// The NIC goes away under way, at several steps: an error, nothing left behind, no endless work.
#[test]
fn the_nic_disappears() -> Result<()> {
    for step in ["journal", "neighbours", "ofport", "proven", "ears", "old-off"] {
        let site = Site::usual()?;
        let remove = script(&site, "remove", "ip link del eth0")?;
        let outcome = site.run_with_fault(
            "nics-to-bridge --verify-timeout=5 eth0",
            &format!("{step}:run={}", remove.display()),
        )?;
        ensure!(!outcome.ok && !outcome.said.contains("panicked"), "{step}: {outcome:?}");
        site.wait_until_closed().context(step)?;
        site.wait_until_disarmed().context(step)?;
        wait_until("the bridge to be gone", || Ok(!site.has_bridge(BRIDGE)?)).context(step)?;
        let left = State::of(&site)?;
        ensure!(!left.says(Subject::Link, &[BRIDGE]), "{step}: {left:?}");
        ensure!(!left.says(Subject::Table, &["ovn_k8s"]), "{step}: {left:?}");
    }
    Ok(())
}

/// What another program adds between plan and turn is not forgotten on the NIC.
#[test]
fn addresses_and_routes_added_under_way() -> Result<()> {
    for step in ["addresses", "proven", "routes"] {
        let fixture = Fixture::set_up(Site::usual()?)?;
        let site = &fixture.site;
        let add = script(
            site,
            "add",
            "ip addr add 172.18.0.77/24 dev eth0\nip -6 addr add fd00:18::77/64 dev eth0 nodad\n\
             ip route add 198.51.99.0/24 via 172.18.0.1 dev eth0",
        )?;
        site.run_with_fault(ATTACH, &format!("{step}:run={}", add.display()))?.expect_ok().context(step)?;
        let now = State::of(site)?;
        let route = (Subject::Route, ["198.51.99.0/24", BRIDGE]);
        let mut wanted =
            vec![(Subject::Address, ["172.18.0.77", BRIDGE]), (Subject::Address, ["fd00:18::77", BRIDGE])];
        // Later the NIC has no connected route any more, and the kernel refuses one with a gateway.
        wanted.extend((step != "routes").then_some(route));
        for (subject, words) in wanted {
            ensure!(now.says(subject, &words), "{step}: not carried: {words:?}: {:?}", now.lines(words[0]));
        }
        let left = now.about(NIC, &[Subject::Address, Subject::Route]);
        left.expect(&now.about("no such device", &[])).with_context(|| format!("{step}: left on the NIC"))?;
        site.wait_until_reachable()?;
        fixture.finish()?;
    }
    Ok(())
}

#[test]
fn checks_of_the_operator() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let with = |check: &str, timeout: u32| {
        let program = site.util(&format!("nics-to-bridge --verify-timeout={timeout} eth0"))?;
        outcome(program.arg(format!("--verify-cmd={check}")))
    };
    for (check, timeout) in
        [("false", 15), ("exit 3", 15), ("kill -9 $$", 15), ("sleep 20", 2), ("no-such-program", 15)]
    {
        let said = with(check, timeout)?;
        ensure!(!said.ok && said.said.contains("--verify-cmd"), "{check}: {said:?}");
        fixture.is_unchanged().with_context(|| check.to_owned())?;
    }
    // Children that hold on to the descriptors of a check that is done hold up nobody.
    for check in [
        "true",
        "sleep 20 & exit 0",
        "setsid sleep 20 & exit 0",
        "yes | head -c 300000; yes | head -c 300000 >&2",
    ] {
        with(check, 15)?.expect_ok().with_context(|| check.to_owned())?;
        fixture.is_on_the_bridge().with_context(|| check.to_owned())?;
        site.run(DETACH)?.expect_ok()?;
        fixture.is_unchanged()?;
    }
    fixture.finish()
}

/// The second of two does nothing and says why; the first is not disturbed.
#[test]
fn two_at_once() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let halted = site.run_until_held(ATTACH, "addresses", "")?;
    let held = State::of(site)?;
    for line in [ATTACH, DETACH, "recover"] {
        let second = site.run(line)?;
        ensure!(!second.ok, "{line} was done: {second:?}");
        ensure!(second.said.trim().lines().count() == 1, "{line}: {}", second.said);
        State::of(site)?.expect(&held).context(line)?;
    }
    halted.kill()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// Whoever starts a second run at the same moment: one of them is it, and the node is whole.
#[test]
fn many_at_once() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let outcomes = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| site.run(ATTACH))).collect();
        let joined = runs.into_iter().map(|run| run.join().map_err(|_| anyhow::anyhow!("a run broke"))?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    ensure!(outcomes.iter().any(|outcome| outcome.ok), "{outcomes:?}");
    fixture.is_on_the_bridge()?;
    site.run(DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// A folder that is a file.
#[test]
fn the_journals_folder_is_no_folder() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let file = site.dir().join("file");
    fs::write(&file, "")?;
    let said = outcome(site.util_in(Path::new(&file), ATTACH)?)?;
    is_refused(&site, &said, &before, &[&file.display().to_string()])
}

/// Two runs with two folders: one at a time in a network namespace, and its rollback watchdog after it.
#[test]
fn another_state_dir_is_no_way_around_the_lock() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let elsewhere = site.dir().join("elsewhere");
    let halted = site.run_until_held(ATTACH, "ears", "")?;
    for line in [ATTACH, "recover"] {
        let second = outcome(site.util_in(&elsewhere, line)?)?;
        ensure!(!second.ok && second.said.contains(&format!("pid {}", halted.id())), "{line}: {second:?}");
    }
    halted.kill()?;
    // Now the rollback watchdog has it, and then nobody.
    fixture.is_unchanged()?;
    site.wait_until_disarmed()?;
    outcome(site.util_in(&elsewhere, ATTACH)?)?.expect_ok()?;
    fixture.is_on_the_bridge()?;
    outcome(site.util_in(&elsewhere, DETACH)?)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// udev renames the NIC during the run: it is found by its number.
#[test]
fn the_nic_is_renamed() -> Result<()> {
    // With a device's name the kernel gives new labels to all addresses but the first.
    let configuration = netns_tests::takeover::nic::plain();
    for step in ["neighbours", "ofport", "old-off"] {
        let options = SiteOptions { configuration: configuration.clone(), ..SiteOptions::default() };
        let fixture = Fixture::set_up(Site::up(options)?)?;
        let site = &fixture.site;
        let halted = site.run_until_held(ATTACH, step, "")?;
        site.ip("link set eth0 name lan0\n")?;
        halted.kill()?;
        site.wait_until_reachable().with_context(|| format!("{step}: {}", site.diagnosis()))?;
        site.wait_until_closed()?;
        site.wait_until_disarmed()?;
        site.ip("link set lan0 name eth0\n")?;
        fixture.is_unchanged().context(step)?;
        fixture.finish()?;
    }
    Ok(())
}

/// A journal that somebody edited: no device is stripped or set down that no switch made.
#[test]
fn a_journal_that_names_others_devices() -> Result<()> {
    let site = Site::up(SiteOptions { second: true, ..SiteOptions::default() })?;
    let before = State::of(&site)?;
    let halted = site.run_until_held(ATTACH, "journal", "")?;
    let path = site.journal_path();
    let open = fs::read_to_string(&path)?;
    halted.kill()?;
    site.wait_until_closed()?;
    site.wait_until_disarmed()?;
    for (bridge, way) in [("eth1", "there"), ("eth1", "back"), ("eth0", "there"), ("lo", "back")] {
        let edited = open.replacen("\"breth0\"", &format!("\"{bridge}\""), 1).replacen(
            "\"there\"",
            &format!("\"{way}\""),
            1,
        );
        ensure!(edited.contains(&format!("\"bridge\":\"{bridge}\"")), "{edited}");
        fs::write(&path, edited)?;
        let outcome = site.run("recover")?;
        ensure!(!outcome.said.contains("panicked"), "{bridge}: {outcome:?}");
        State::of(&site)?.expect(&before).with_context(|| format!("{bridge}, {way}: {outcome:?}"))?;
        site.wait_until_reachable()?;
    }
    Ok(())
}
