//! The switch: its daemons, its database, and the key that makes it wait.

use super::super::snapshot::{Answers, Seen};
use super::Finding;
use helper::restore_wait;

/// Daemons and database.
pub(super) fn check(seen: &Seen) -> Vec<Finding> {
    let (name, switch) = ("Open vSwitch", &seen.observed.switch);
    let needed = seen.uplinks.iter().any(|uplink| uplink.taken);
    if !switch.answers {
        let why = switch.said.clone().unwrap_or_default();
        let what = format!("its database does not answer: {why}");
        let remedy = match seen.daemons.stopped_database {
            Some(pid) => format!("ovsdb-server was stopped by a signal or a debugger: `kill -CONT {pid}`"),
            None if seen.unprivileged => "run this as root".to_owned(),
            None => "start ovsdb-server (`systemctl start openvswitch-switch`), or name its socket with --db"
                .to_owned(),
        };
        let mut findings = vec![if needed {
            Finding::error(
                "switch-away",
                name,
                what,
                "nothing can be changed or repaired in the switch",
                remedy,
            )
        } else {
            Finding::warning("switch-away", name, what, "no NIC can be taken over", remedy)
        }];
        findings.extend(seen.silent_switch().map(|answers| silent(answers, needed)));
        return findings;
    }
    let silent = seen.silent_switch().map(|answers| silent(answers, needed));
    let is_silent = silent.is_some();
    let mut findings = vec![match switch.vswitchd {
        Some(true) if is_silent => Finding::ok("switch", name, "ovsdb-server answers"),
        Some(true) => Finding::ok("switch", name, "ovsdb-server and ovs-vswitchd run"),
        None => Finding::note(
            "switch",
            name,
            "its database answers; whether ovs-vswitchd runs cannot be told from here",
            "there is no pidfile beside the database's socket",
            "`ovs-appctl -t ovs-vswitchd version`",
        ),
        Some(false) => vswitchd_is_away(seen, needed),
    }];
    findings.extend(silent);
    if switch.vswitchd != Some(false) && !is_silent && !switch.up_to_date {
        findings.push(Finding::warning(
            "switch-behind",
            name,
            "ovs-vswitchd has not carried out the last change of its database",
            "it may be stuck, or have just been started",
            "look again; its log says what it waits for (ovs-vswitchd.log)",
        ));
    }
    findings.extend(restore_wait(seen));
    findings
}

/// It is there, and says nothing.
fn silent(answers: &Answers, needed: bool) -> Finding {
    let Answers { pid, stopped, said } = answers;
    let why =
        "on the userspace datapath nothing passes a bridge meanwhile; on the kernel's nothing new is handled";
    let (what, remedy) = match said {
        _ if *stopped => (
            format!("was stopped by a signal or a debugger (pid {pid})"),
            format!("`kill -CONT {pid}`; if nobody knows why, restart it"),
        ),
        said => (
            format!("runs (pid {pid}) and does not answer: {}", said.as_ref().err().map_or("", String::as_str)),
            "it may wait for ovsdb-server, or be stuck: ovs-vswitchd.log says more; restart it if it stays so"
                .to_owned(),
        ),
    };
    if needed {
        Finding::error("switch-silent", "ovs-vswitchd", what, why, remedy)
    } else {
        Finding::warning("switch-silent", "ovs-vswitchd", what, why, remedy)
    }
}

fn vswitchd_is_away(seen: &Seen, needed: bool) -> Finding {
    const REMEDY: &str = "start it (`systemctl start openvswitch-switch`), its log says why it ended; without a helper `ovn-k8s-util recover` puts management on the NIC meanwhile (userspace datapath)";
    let name = "ovs-vswitchd";
    if !needed {
        return Finding::warning("switch-away", name, "does not run", "no NIC can be taken over", REMEDY);
    }
    let userspace = seen
        .uplinks
        .iter()
        .filter_map(|uplink| seen.observed.switch.bridge(&uplink.bridge))
        .any(|bridge| bridge.datapath_type() == "netdev");
    let why = if userspace {
        "on the userspace datapath nothing passes a bridge without it: management is on the NIC if the helper runs, or cut; the pods are cut"
    } else {
        "cached flows go on, but ARP runs out after about a minute: then all that passes the bridge is cut; nothing new is handled"
    };
    Finding::error("switch-away", name, "does not run", why, REMEDY)
}

/// The key that has a starting vswitchd wait for flows: armed by a helper it is a cure, forgotten it is a trap.
fn restore_wait(seen: &Seen) -> Option<Finding> {
    let switch = &seen.observed.switch;
    if switch.other_config.get(restore_wait::KEY).map(String::as_str) != Some("true") {
        return None;
    }
    let ours = switch.external_ids.contains_key(restore_wait::MARK);
    if ours && seen.helper.is_some() {
        return Some(Finding::ok(
            "restore-wait",
            "Open vSwitch",
            "flow-restore-wait stands armed by the running helper",
        ));
    }
    Some(Finding::error(
        "restore-wait",
        "Open vSwitch",
        format!("other_config:{} is set and no helper is there to take it away", restore_wait::KEY),
        "after the next start of ovs-vswitchd no new flow is ever handled",
        format!(
            "start ovn-k8s-gateway-helper, or `ovs-vsctl remove Open_vSwitch . other_config {}`",
            restore_wait::KEY
        ),
    ))
}
