//! The part that observes: reads kernel, record and process, and makes one [`Observation`] of it for each pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::ingress_filter::{Accepting, IngressFilter};
use host::link_stats::{LinkMonitor, LinkStats};
use host::neighbour_probe::Question;
use host::rtnl::{Device, Kind, Socket};

use super::address_location;
use super::observation::{AddressLocation, DeviceObservation, Observation, RecordedNic, SwitchProcess};
use super::pass::Memory;
use super::probe_path::ProbePath;
use super::shared::{FailoverConfig, Shared};
use super::vswitchd::Vswitchd;
use crate::device_config::Network;
use crate::error::Result;
use crate::probe_targets::{ProbePurpose, probe_targets};
use crate::{reattach, settings};

/// The sources of an observation, and what stays known from one to the next.
pub(super) struct Observer {
    config: FailoverConfig,
    shared: Arc<Shared>,
    monitor: LinkMonitor,
    pub(super) netlink: Socket,
    pub(super) filter: IngressFilter,
    pub(super) switch: Vswitchd,
    pub(super) bridge: ProbePath,
    pub(super) nic: ProbePath,
    /// The next hops to probe.
    pub(super) probes: Vec<Question>,
    location: AddressLocation,
    /// What the ingress filter accepts; `None` where it is not whole, or accepts nothing.
    pub(super) accepting: Option<Accepting>,
    /// Routes lead over the NIC beside those over the bridge.
    has_stray_routes: bool,
    /// More frames than our own probes passed since the pass before.
    has_traffic: bool,
}

impl Observer {
    pub(super) fn new(config: FailoverConfig, shared: Arc<Shared>) -> Result<Self> {
        Ok(Self {
            monitor: LinkMonitor::open()?,
            netlink: Socket::open()?,
            filter: IngressFilter::new(&config.nic, &config.bridge),
            switch: Vswitchd::of(&config.pidfile),
            config,
            shared,
            bridge: ProbePath::default(),
            nic: ProbePath::default(),
            probes: Vec::new(),
            location: AddressLocation::Nowhere,
            accepting: None,
            has_stray_routes: false,
            has_traffic: false,
        })
    }

    /// Observes what is due. Of `memory` the schedule is kept, and what another device makes void is forgotten.
    pub(super) fn observe(
        &mut self,
        now: Duration,
        memory: &mut Memory,
        reattaching: bool,
    ) -> Result<Observation> {
        if memory.schedule.begin_pass(now) {
            self.bridge.health.discount_missing();
            self.nic.health.discount_missing();
        }
        let is_port = self.shared.is_port.load(Ordering::Relaxed);
        let enabled = self.shared.has_bridge.load(Ordering::Relaxed) && (is_port || self.is_taken());
        let has_to_observe_bridge = enabled || memory.bridge.is_watching();
        let bridge = if has_to_observe_bridge { self.monitor.read(&self.config.bridge)? } else { None };
        let devices = DeviceObservation { enabled, bridge, reattaching, ..DeviceObservation::default() };
        if !enabled {
            let seen = self.observation(now, SwitchProcess::Running, devices);
            return Ok(Observation { location: AddressLocation::Nowhere, ..seen });
        }
        let nic = self.monitor.read(&self.config.nic)?;
        let mut process = self.observe_paths(now, bridge, nic, memory);
        if !is_port {
            process = SwitchProcess::Detached;
        }
        let mut devices = DeviceObservation { nic, ..devices };
        let Some((on_bridge, on_nic)) = devices.both() else {
            self.location = AddressLocation::Nowhere;
            memory.schedule.expire_location();
            return Ok(self.observation(now, process, devices));
        };
        if memory.schedule.is_location_due(now) {
            self.observe_location(now, on_bridge, on_nic, memory)?;
            devices.is_location_fresh = true;
        }
        devices.accepting = self.accepting;
        devices.is_failover = self.location == AddressLocation::Nic && self.is_failover();
        if !reattaching {
            self.observe_attachment(now, process, memory, &mut devices);
        }
        let active = self.location != AddressLocation::Nic || devices.is_failover;
        Ok(Observation { active, ..self.observation(now, process, devices) })
    }

    /// Of an inactive failover.
    fn observation(&self, now: Duration, process: SwitchProcess, devices: DeviceObservation) -> Observation {
        Observation {
            now,
            process,
            location: self.location,
            bridge: self.bridge.health,
            nic: self.nic.health,
            nic_up: self.nic.stats.is_some_and(|stats| stats.up),
            can_probe: !self.probes.is_empty() && self.may_probe(),
            has_traffic: self.has_traffic,
            flows_installed: self.shared.flows_installed.load(Ordering::Relaxed),
            active: false,
            may_leave: self.config.may_leave,
            devices,
        }
    }

    /// A probe tells its receivers at which MAC address the node has its own (RFC 826, RFC 4861): it does no harm where
    /// bridge and NIC have the same one, and the node has an address. A bridge that is just being made has another one
    /// for a moment.
    fn may_probe(&self) -> bool {
        let mac = |path: &ProbePath| path.stats.map(|stats| stats.mac);
        self.location != AddressLocation::Nowhere && mac(&self.bridge) == mac(&self.nic)
    }

    /// Whether management on the NIC is a failover (of this process or an earlier one), not a NIC that was never taken
    /// over or was given back: then the bridge is down, or there is neither ingress filter nor record.
    pub(super) fn is_failover(&self) -> bool {
        let is_up = self.bridge.stats.is_some_and(|stats| stats.up);
        is_up && (self.accepting == Some(Accepting::Nic) || self.is_taken())
    }

    /// Whether this NIC was taken onto the bridge in this boot, by us.
    pub(super) fn is_taken(&self) -> bool {
        match self.config.folder.taken(&self.config.bridge) {
            Ok(Some(taken)) => taken.is_of_this_boot().unwrap_or(false),
            // The record is lost: the mark in the database says that the bridge is ours, a setting that a takeover makes
            // says that it was in this boot.
            Ok(None) | Err(_) => self.shared.is_marked.load(Ordering::Relaxed) && self.is_set_by_takeover(),
        }
    }

    fn is_set_by_takeover(&self) -> bool {
        let (key, value) = settings::MARK;
        let parts: Vec<&str> = key.split('/').collect();
        let [family, kind, name] = parts.as_slice() else { return false };
        let key = host::sysctl::Key::below_net(&[family, kind, &self.config.bridge, name]);
        key.is_some_and(|key| host::sysctl::read(&key).is_ok_and(|found| found.trim() == value))
    }

    /// Whether one of the devices carries addresses at this moment.
    pub(super) fn has_addresses(&mut self) -> Result<bool> {
        let addresses = self.netlink.dump_all(Kind::Address)?;
        for name in [&self.config.bridge, &self.config.nic] {
            let stats = self.monitor.read(name)?;
            if stats.is_some_and(|stats| address_location::carries(&addresses, stats.index)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where management is, as last read.
    pub(super) fn location(&self) -> AddressLocation {
        self.location
    }

    /// The devices, where both are there.
    pub(super) fn devices(&self) -> Option<(Device, Device)> {
        let device = |path: &ProbePath, name: &str| {
            path.stats.map(|stats| Device { index: stats.index, name: name.to_owned() })
        };
        device(&self.bridge, &self.config.bridge).zip(device(&self.nic, &self.config.nic))
    }
}

/// The steps of an observation.
impl Observer {
    fn observe_paths(
        &mut self,
        now: Duration,
        bridge: Option<LinkStats>,
        nic: Option<LinkStats>,
        memory: &mut Memory,
    ) -> SwitchProcess {
        self.bridge.receive_replies(now, &self.probes);
        self.nic.receive_replies(now, &self.probes);
        if self.bridge.is_recreated(bridge) || self.nic.is_recreated(nic) {
            // What is known of the device before does not hold for this one.
            self.location = AddressLocation::Nowhere;
            memory.schedule.expire_location();
            memory.machine.prove_again();
        }
        let through_bridge = self.bridge.take_probes_sent();
        let over_nic = self.nic.take_probes_sent();
        let (received, sent) = self.bridge.update(bridge);
        let (arrived, _) = self.nic.update(nic);
        if received > 0 {
            self.bridge.health.frame_received(now);
        }
        // Every reply to a probe through the bridge arrives at the NIC.
        self.has_traffic = sent > through_bridge || arrived > through_bridge + over_nic;
        let before = self.switch.pid();
        let process = self.switch.observe(bridge.map(|stats| stats.carrier));
        if let (Some(pid), true) = (before, self.switch.pid() != before) {
            tracing::debug!("ovs-vswitchd (pid {pid}) has ended");
            self.bridge.health.reset();
            // The next one starts without flows.
            self.shared.flows_installed.store(false, Ordering::Relaxed);
        }
        process
    }

    /// Which device has the addresses, what the ingress filter accepts, and which next hops can be probed.
    fn observe_location(
        &mut self,
        now: Duration,
        bridge: LinkStats,
        nic: LinkStats,
        memory: &mut Memory,
    ) -> Result<()> {
        memory.schedule.note_location(now);
        let addresses = self.netlink.dump_all(Kind::Address)?;
        // A filter that lacks a chain counts as none, and is made whole.
        self.accepting = self.filter.observe()?.and_then(|state| state.accepting());
        // No probe goes out from an address that is not the node's any more.
        let before = self.probes.len();
        let own = [bridge.index, nic.index];
        self.probes.retain(|probe| address_location::is_own(&addresses, &own, probe.source));
        let has_lost_source = self.probes.len() < before;
        let location = address_location::location(
            address_location::carries(&addresses, bridge.index),
            address_location::carries(&addresses, nic.index),
            std::mem::take(&mut self.has_stray_routes),
            self.accepting,
            || self.is_taken(),
        );
        let has_moved = location != self.location;
        self.location = location;
        if has_moved || has_lost_source || memory.schedule.are_next_hops_due(now) {
            self.observe_next_hops(now, memory)?;
        }
        Ok(())
    }

    fn observe_next_hops(&mut self, now: Duration, memory: &mut Memory) -> Result<()> {
        let network = Network::observe(&self.netlink)?;
        let Some((bridge, nic)) = self.devices() else { return Ok(()) };
        if self.location == AddressLocation::Bridge
            && address_location::has_routes(&network.of(&nic))
            && self.is_taken()
        {
            // Part of the location, which is read again for it.
            self.has_stray_routes = true;
            memory.schedule.note_event();
        }
        let device = if self.location == AddressLocation::Nic { nic } else { bridge };
        let probes = probe_targets(&network.of(&device), ProbePurpose::Watch);
        // Routes that are missing for a moment do not mean that there is no next hop.
        if !probes.is_empty() || self.location == AddressLocation::Bridge {
            memory.schedule.note_next_hops(now);
            self.probes = probes;
        }
        Ok(())
    }

    /// What is needed to decide whether the NIC has to be attached again.
    fn observe_attachment(
        &self,
        now: Duration,
        process: SwitchProcess,
        memory: &Memory,
        devices: &mut DeviceObservation,
    ) {
        let Some((bridge, nic)) = devices.both() else { return };
        let inquiry = memory.reattach.inquiry(now, bridge, nic, process);
        if inquiry.record
            && let Ok(Some(taken)) = self.config.folder.taken(&self.config.bridge)
        {
            devices.record = Some(RecordedNic {
                index: taken.uplink.nic.index,
                has_address: taken.uplink.rows.has_address(),
                of_this_boot: taken.is_of_this_boot().unwrap_or(false),
            });
        }
        devices.is_switch_known = self.switch.pid().is_some();
        if let Some(pid) = self.switch.pid().filter(|_| inquiry.reception) {
            devices.is_reception_checked = true;
            devices.received = reattach::is_received(pid, nic.index);
        }
    }
}
