//! The switch and its daemons.

use super::*;

#[test]
fn the_switch_is_away() {
    let dead = with(|node| node.observed.switch.vswitchd = Some(false));
    assert!(finds(&dead, "switch-away", Severity::Error).why.contains("userspace"));
    let kernel = with(|node| {
        node.observed.switch.vswitchd = Some(false);
        node.observed.switch.bridges[0].datapath_type = "system".to_owned();
    });
    let why = finds(&kernel, "switch-away", Severity::Error).why;
    assert!(why.contains("cached flows go on, but ARP entries expire after about a minute"), "{why}");
    finds(&with(|node| node.observed.switch = SwitchSnapshot::default()), "switch-away", Severity::Error);
    finds(&with(|node| node.observed.switch.up_to_date = false), "switch-behind", Severity::Warning);
    let silent = |stopped, answer: Result<String, String>| {
        with(|node| node.daemons.vswitchd = Some(DaemonSnapshot { pid: 7, stopped, answer }))
    };
    let stopped = finds(&silent(true, Err("no answer in 2 s".into())), "switch-silent", Severity::Error);
    assert!(stopped.remedy.contains("kill -CONT 7"), "{stopped:?}");
    let late = finds(&silent(false, Err("no answer in 2 s".into())), "switch-silent", Severity::Error);
    assert!(late.what.contains("no answer in 2 s"), "{late:?}");
    let database = with(|node| {
        node.observed.switch = SwitchSnapshot::default();
        node.daemons.stopped_database = Some(9);
    });
    assert!(finds(&database, "switch-away", Severity::Error).remedy.contains("kill -CONT 9"));
}

#[test]
fn flow_restore_wait() {
    let armed = |ours: bool, helper: bool| {
        with(|node| {
            let key = restore_wait::KEY.to_owned();
            node.observed.switch.other_config.insert(key, "true".to_owned());
            if ours {
                node.observed.switch.external_ids.insert(restore_wait::MARK.to_owned(), "true".to_owned());
            }
            if !helper {
                node.helper = None;
            }
        })
    };
    finds(&armed(true, true), "restore-wait", Severity::Ok);
    finds(&armed(true, false), "restore-wait", Severity::Error);
    finds(&armed(false, true), "restore-wait", Severity::Error);
}
