//! A port whose device was made anew under ovs-vswitchd, which goes on listening to the one that is gone.
//!
//! ovs-vswitchd (seen with 3.1) opens a port's device once. A port of the same name that goes and comes within one
//! transaction it takes for the same; one that goes and comes in two is lost when we are killed between them. But a port
//! that is to have another number is closed and opened again, so it gets another number for a moment, then its own: one
//! row, one column, and whatever happens in between the port stays where it is.

use std::time::{Duration, Instant};

use ovs::ovsdb::{Datum, Operation, Uuid};

use super::{OvsDb, OvsSnapshot, PendingChange};
use crate::error::Result;

/// The highest number that may be asked for (`OFPP_MAX` - 1).
const HIGHEST: i64 = 0xfeff;
/// From here on numbers are taken for such that were asked for in passing, and stayed behind.
const PASSING: i64 = 0xfe00;
/// How long the database may take to get back what was asked for before.
const BACK: Duration = Duration::from_secs(1);

/// What is to be asked for, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers {
    interface: Uuid,
    /// Each is waited for.
    steps: Vec<i64>,
    /// What was asked for before.
    before: Option<i64>,
}

impl OvsDb {
    /// Has ovs-vswitchd open the NIC of a bridge anew; all that the port has stays as it is. `false`: it is no port of
    /// that bridge, of another kind than a plain device, or not ours (unless `known` says that it was taken over).
    pub fn reopen(&mut self, bridge: &str, nic: &str, known: bool, deadline: Instant) -> Result<bool> {
        let Some(numbers) = Numbers::of(&self.observe(deadline)?, bridge, nic, known) else {
            return Ok(false);
        };
        let asked = numbers.steps.iter().try_for_each(|step| {
            let written = self.ask_for(nic, numbers.interface, Some(*step), deadline)?;
            self.wait(&written, deadline, |_, interface| interface.ofport == Some(*step))
        });
        // Also when it did not come out, and when the time is over: it must not stay behind.
        let back = self.ask_for(nic, numbers.interface, numbers.before, deadline.max(Instant::now() + BACK));
        asked.and(back).map(|_| true)
    }

    fn ask_for(
        &mut self,
        nic: &str,
        interface: Uuid,
        port: Option<i64>,
        deadline: Instant,
    ) -> Result<PendingChange> {
        let attempted = format!("have {nic} opened anew");
        let value = port.map_or_else(Datum::empty_set, Datum::from);
        let operations = vec![
            Operation::comment(&format!("ovn-k8s: {nic} was made anew")),
            Operation::update("Interface").row(interface).set("ofport_request", value),
        ];
        self.write(operations, &attempted, deadline)?;
        Ok(PendingChange { interfaces: vec![(nic.to_owned(), interface)] })
    }
}

impl Numbers {
    fn of(seen: &OvsSnapshot, bridge: &str, nic: &str, known: bool) -> Option<Self> {
        let row = seen.bridge(bridge)?;
        let port = row.port(nic)?;
        if !(port.is_ours || known) || !matches!(port.kind.as_str(), "" | "system") {
            return None;
        }
        let used = |number: &i64| {
            row.ports.iter().any(|port| [port.ofport, port.ofport_request].contains(&Some(*number)))
        };
        let other = (1..=HIGHEST).rev().find(|number| !used(number))?;
        let own = port.ofport.filter(|number| *number > 0);
        Some(Self {
            interface: port.interface,
            steps: std::iter::once(other).chain(own).collect(),
            before: port.ofport_request.filter(|number| *number < PASSING),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BridgeSnapshot, Owner, PortSnapshot};
    use super::*;

    fn uuid(number: u8) -> Uuid {
        format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap()
    }

    fn port(name: &str, number: u8, ofport: Option<i64>) -> PortSnapshot {
        PortSnapshot {
            uuid: uuid(number),
            interface: uuid(number + 1),
            name: name.to_owned(),
            port: name.to_owned(),
            kind: String::new(),
            peer: None,
            ofport,
            ofport_request: None,
            error: None,
            is_transient: true,
            mtu_request: None,
            is_ours: true,
            qos: None,
        }
    }

    fn seen(ports: Vec<PortSnapshot>) -> OvsSnapshot {
        let bridge = BridgeSnapshot {
            uuid: uuid(1),
            name: "breth0".to_owned(),
            owner: Owner::Uplink,
            datapath_type: "netdev".to_owned(),
            fail_mode: None,
            hwaddr: None,
            ports,
        };
        OvsSnapshot { bridges: vec![bridge], ..OvsSnapshot::default() }
    }

    #[test]
    fn another_number_for_a_moment_and_then_its_own() {
        let numbers = |ports: Vec<PortSnapshot>, known| Numbers::of(&seen(ports), "breth0", "eth0", known);
        let own = port("eth0", 2, Some(1));
        assert_eq!(numbers(vec![own.clone()], false).unwrap().steps, [HIGHEST, 1]);
        let high = PortSnapshot { ofport_request: Some(HIGHEST), ..port("veth9", 4, Some(HIGHEST - 1)) };
        assert_eq!(numbers(vec![own.clone(), high], false).unwrap().steps, [HIGHEST - 2, 1]);
        let failed = PortSnapshot { ofport: Some(-1), ofport_request: Some(5), ..own.clone() };
        let found = numbers(vec![failed], false).unwrap();
        assert_eq!((found.steps, found.before), (vec![HIGHEST], Some(5)));
        let left = PortSnapshot { ofport_request: Some(HIGHEST), ..own.clone() };
        let found = numbers(vec![left], false).unwrap();
        assert_eq!((found.steps, found.before), (vec![HIGHEST - 1, 1], None), "of a try that was cut off");
        let foreign = PortSnapshot { is_ours: false, ..own.clone() };
        assert_eq!(numbers(vec![foreign.clone()], false), None);
        assert!(numbers(vec![foreign], true).is_some());
        let afxdp = PortSnapshot { kind: "afxdp".to_owned(), ..own };
        assert_eq!(numbers(vec![afxdp], true), None);
        assert_eq!(numbers(Vec::new(), true), None);
    }
}
