//! The end of the demo: the table once more, what the helper itself counted, and the verdict.

use std::fmt;

use serde_json::Value;

use super::{
    events::Outcome,
    meter::{Meter, Owner},
    traffic::Traffic,
    view::table,
};

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    table: Vec<String>,
    status: Value,
    /// The pods' frames that the host got: while the switch had no flows yet, and at all.
    strays: [u64; 2],
    reopened: u64,
    complaints: Vec<String>,
}

impl Summary {
    /// Judges what came of the script.
    pub fn of(traffic: &Traffic, outcome: Outcome) -> Self {
        let Outcome { strays: [restarting, strays], status, silent } = outcome;
        let mut complaints: Vec<String> = traffic.meters().iter().flat_map(|meter| faults(meter)).collect();
        complaints.extend(silent.into_iter().map(|title| format!("{title}: did not come back")));
        if status.get("ready") != Some(&Value::Bool(true)) {
            complaints.push("the helper of node1 is not ready".to_owned());
        }
        if strays > restarting {
            complaints.push(format!("{} of the pods' frames were handed to the host", strays - restarting));
        }
        let reopened = Owner::ALL.into_iter().map(|owner| traffic.sum(owner).reopened).sum();
        let table = table(traffic.meters());
        Self { table, status, strays: [restarting, strays], reopened, complaints }
    }

    /// What was not as it should be.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.clone()
    }
}

/// What a way must not have seen: a wrong owner, and for management a dead session.
fn faults(meter: &Meter) -> Vec<String> {
    let reading = meter.read();
    let mut faults = Vec::new();
    if reading.wrong > 0 {
        let (title, wrong, who) = (&meter.title, reading.wrong, reading.strangers.join(", "));
        faults.push(format!("{title}: {wrong} went to the wrong owner: {who}"));
    }
    if let (Owner::Management, Some(why)) = (meter.owner, reading.died) {
        faults.push(format!("{}: the session died: {why}", meter.title));
    }
    faults
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSUMMARY\n")?;
        self.table.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        rules(f, &self.status)?;
        let [restarting, all] = self.strays;
        writeln!(
            f,
            "\nframes of the pods that the bridge handed to the host: {}\n\
             (and {restarting} while a switch that has just started had no flows yet, and switched by learning)",
            all - restarting
        )?;
        if self.reopened > 0 {
            writeln!(
                f,
                "(a pod's session can end with a killed vswitchd: on the userspace datapath NAT state is its own)"
            )?;
        }
        if self.complaints.is_empty() {
            return writeln!(
                f,
                "all is well: every answer came from its owner, every management session lived"
            );
        }
        writeln!(f, "\nNOT WELL")?;
        self.complaints.iter().try_for_each(|line| writeln!(f, "  - {line}"))
    }
}

/// The rules of the helper on node1 that frames have met, as it counts them itself.
fn rules(f: &mut fmt::Formatter<'_>, status: &Value) -> fmt::Result {
    let text = |path: &str| status.pointer(path).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    writeln!(
        f,
        "\nthe helper of node1 itself: {}, {} flows, reply rule {}, {} switch restarts seen; packets since the flows came",
        text("/bridge/name"),
        number("/flows/installed"),
        text("/owners/reply_rule"),
        number("/flows/switch_restarts"),
    )?;
    let rules = status.pointer("/flows/rules").and_then(Value::as_array).into_iter().flatten();
    for rule in rules {
        let count = |key: &str| rule.get(key).and_then(Value::as_u64).unwrap_or_default();
        if count("packets") > 0 {
            let name = rule.get("rule").and_then(Value::as_str).unwrap_or_default();
            writeln!(f, "  {name:<42}{:>6} flows{:>12} packets", count("flows"), count("packets"))?;
        }
    }
    Ok(())
}
