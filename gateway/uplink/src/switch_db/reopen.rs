//! Has ovs-vswitchd reopen a port whose device was recreated: it still uses the old device.
//!
//! ovs-vswitchd (observed with 3.1) opens a port's device once. A port that is removed and added in one transaction is
//! the same port for it; in two transactions the port is lost if this process is killed in between. A port whose number
//! changes is closed and opened again, so the port gets another number for a moment, then its own: one column of one
//! row, and the port stays in the database throughout.

use std::time::{Duration, Instant};

use ovs::ovsdb::{Datum, Operation, Uuid};

use super::{OvsDb, OvsSnapshot, PendingChange};
use crate::error::Result;

/// The highest number that can be requested (`OFPP_MAX` - 1).
const HIGHEST: i64 = 0xfeff;
/// Requested numbers from here on are remains of an interrupted reopen.
const TEMPORARY: i64 = 0xfe00;
/// How long restoring the requested number may take.
const RESTORE: Duration = Duration::from_secs(1);

/// The numbers to request, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers {
    interface: Uuid,
    /// Each is requested and waited for.
    steps: Vec<i64>,
    /// The number requested before.
    before: Option<i64>,
}

impl OvsDb {
    /// Has ovs-vswitchd reopen the NIC of a bridge; the port's other settings stay. `false`: it is no port of that bridge,
    /// has another type than a plain device, or was not made by a takeover (unless `known` says that it was).
    pub(crate) fn reopen(&mut self, bridge: &str, nic: &str, known: bool, deadline: Instant) -> Result<bool> {
        let Some(numbers) = Numbers::of(&self.observe(deadline)?, bridge, nic, known) else {
            return Ok(false);
        };
        let outcome = numbers.steps.iter().try_for_each(|step| {
            let written = self.request_number(nic, numbers.interface, Some(*step), deadline)?;
            self.wait(&written, deadline, |_, interface| interface.ofport == Some(*step))
        });
        // Also after a failure and after the deadline: the temporary number must not stay.
        let restored = self.request_number(
            nic,
            numbers.interface,
            numbers.before,
            deadline.max(Instant::now() + RESTORE),
        );
        outcome.and(restored).map(|_| true)
    }

    fn request_number(
        &mut self,
        nic: &str,
        interface: Uuid,
        port: Option<i64>,
        deadline: Instant,
    ) -> Result<PendingChange> {
        let attempted = format!("have ovs-vswitchd reopen {nic}");
        let value = port.map_or_else(Datum::empty_set, Datum::from);
        let operations = vec![
            Operation::comment(&format!("ovn-k8s: reopen {nic}, which was recreated")),
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
            before: port.ofport_request.filter(|number| *number < TEMPORARY),
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
    fn a_port_gets_an_unused_number_and_then_its_own() {
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
        assert_eq!(
            (found.steps, found.before),
            (vec![HIGHEST - 1, 1], None),
            "left by an interrupted reopen"
        );
        let foreign = PortSnapshot { is_ours: false, ..own.clone() };
        assert_eq!(numbers(vec![foreign.clone()], false), None);
        assert!(numbers(vec![foreign], true).is_some());
        let afxdp = PortSnapshot { kind: "afxdp".to_owned(), ..own };
        assert_eq!(numbers(vec![afxdp], true), None);
        assert_eq!(numbers(Vec::new(), true), None);
    }
}
