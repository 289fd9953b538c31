//! The switch: its daemons, its database, and the key flow-restore-wait.

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{DaemonSnapshot, NodeSnapshot};
use helper::restore_wait;

/// Daemons and database.
pub(super) fn check(node: &NodeSnapshot) -> Vec<Finding> {
    let (name, switch) = ("Open vSwitch", &node.observed.switch);
    let needed = node.uplinks.iter().any(|uplink| uplink.taken_over);
    if !switch.answers {
        let error = switch.error.clone().unwrap_or_default();
        let what = format!("its database does not answer: {error}");
        let remedy = match node.daemons.stopped_database {
            Some(pid) => format!("a signal or a debugger stopped ovsdb-server: `kill -CONT {pid}`"),
            None if node.unprivileged => "run doctor as root".to_owned(),
            None => {
                "`systemctl start openvswitch-switch`, or name the socket of a running ovsdb-server with --db"
                    .to_owned()
            }
        };
        let mut findings = vec![if needed {
            Finding::error("switch-away", name, what, "no change or repair in the switch is possible", remedy)
        } else {
            Finding::warning("switch-away", name, what, "no NIC can be taken over", remedy)
        }];
        findings.extend(node.unresponsive_vswitchd().map(|daemon| silent(daemon, needed)));
        return findings;
    }
    let silent = node.unresponsive_vswitchd().map(|daemon| silent(daemon, needed));
    let is_silent = silent.is_some();
    let mut findings = vec![match switch.vswitchd {
        Some(true) if is_silent => Finding::ok("switch", name, "ovsdb-server answers"),
        Some(true) => Finding::ok("switch", name, "ovsdb-server and ovs-vswitchd run"),
        None => Finding::note(
            "switch",
            name,
            "its database answers; whether ovs-vswitchd runs is not known",
            "no pidfile of ovs-vswitchd is beside the database's socket",
            "`ovs-appctl -t ovs-vswitchd version`",
        ),
        Some(false) => no_vswitchd(node, needed),
    }];
    findings.extend(silent);
    if switch.vswitchd != Some(false) && !is_silent && !switch.up_to_date {
        findings.push(Finding::warning(
            "switch-behind",
            name,
            "ovs-vswitchd has not applied the last change of its database",
            "it hangs, or has just started",
            "run doctor again; if it stays, ovs-vswitchd.log says what it waits for",
        ));
    }
    findings.extend(restore_wait(node));
    findings
}

/// ovs-vswitchd runs and does not answer.
fn silent(daemon: &DaemonSnapshot, needed: bool) -> Finding {
    let DaemonSnapshot { pid, stopped, answer } = daemon;
    let why = "until it answers: on the userspace datapath no frame passes a bridge; on the kernel datapath no new flow is handled";
    let (what, remedy) = if *stopped {
        (format!("a signal or a debugger stopped it (pid {pid})"), format!("`kill -CONT {pid}`"))
    } else {
        let error = answer.as_ref().err().map_or("", String::as_str);
        (
            format!("runs (pid {pid}) and does not answer: {error}"),
            "ovs-vswitchd.log says what it waits for (often ovsdb-server); if it stays, restart it: `systemctl restart openvswitch-switch`"
                .to_owned(),
        )
    };
    if needed {
        Finding::error("switch-silent", "ovs-vswitchd", what, why, remedy)
    } else {
        Finding::warning("switch-silent", "ovs-vswitchd", what, why, remedy)
    }
}

fn no_vswitchd(node: &NodeSnapshot, needed: bool) -> Finding {
    const REMEDY: &str = "`systemctl start openvswitch-switch`; ovs-vswitchd.log says why it ended. Without a helper, on the userspace datapath: `ovn-k8s-util recover` puts management on the NIC meanwhile";
    let name = "ovs-vswitchd";
    if !needed {
        return Finding::warning("switch-away", name, "does not run", "no NIC can be taken over", REMEDY);
    }
    let userspace = node
        .uplinks
        .iter()
        .filter_map(|uplink| node.observed.switch.bridge(&uplink.bridge))
        .any(|bridge| bridge.datapath_type() == "netdev");
    let why = if userspace {
        "on the userspace datapath no frame passes a bridge without it: pods are cut off, and so is management unless the helper has moved it to the NIC"
    } else {
        "cached flows go on, but ARP entries expire after about a minute, and then nothing passes the bridge; new flows are not handled"
    };
    Finding::error("switch-away", name, "does not run", why, REMEDY)
}

/// The key with which a starting ovs-vswitchd waits for flows. Only a running helper removes it in time.
fn restore_wait(node: &NodeSnapshot) -> Option<Finding> {
    let switch = &node.observed.switch;
    if switch.other_config.get(restore_wait::KEY).map(String::as_str) != Some("true") {
        return None;
    }
    let ours = switch.external_ids.contains_key(restore_wait::MARK);
    if ours && node.helper.is_some() {
        return Some(Finding::ok(
            "restore-wait",
            "Open vSwitch",
            "flow-restore-wait is set by the running helper",
        ));
    }
    Some(Finding::error(
        "restore-wait",
        "Open vSwitch",
        format!("other_config:{} is set, and no running helper removes it", restore_wait::KEY),
        "after the next start of ovs-vswitchd no new flow is handled",
        format!(
            "`systemctl start ovn-k8s-gateway-helper`, or `ovs-vsctl remove Open_vSwitch . other_config {}`",
            restore_wait::KEY
        ),
    ))
}
