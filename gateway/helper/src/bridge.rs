//! The bridge as the local database describes it, and the patch pair it should have. Pure.

use std::collections::BTreeMap;

use demux::mac::Mac;
use ovs::openflow::flow::OfPort;
use ovs::ovsdb::{Atom, Condition, Datum, Operation, Snapshot};
use ovs::rows::TypedRow;
use ovs::rows::vswitch::{Bridge, Interface, OpenVSwitch, Port};

/// The integration bridge, as everywhere in OVN.
pub const INTEGRATION_BRIDGE: &str = "br-int";
/// Key and value in `external_ids` that mark what this helper added to the database.
pub(crate) const OWNER_MARK: (&str, &str) = ("ovn-k8s-owner", "gateway-helper");

/// What the local database holds of the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BridgeView {
    /// The bridge's name.
    pub(crate) name: String,
    /// It exists.
    pub(crate) present: bool,
    /// It runs on OVS's userspace datapath (`netdev`).
    pub(crate) userspace: bool,
    /// It carries the mark of a takeover.
    pub(crate) taken: bool,
    /// The MAC of its own device, which host and gateway router share.
    pub(crate) mac: Option<Mac>,
    /// The NIC's port number; unset while it is no port of the bridge, or vswitchd has not made it.
    pub(crate) uplink: Option<OfPort>,
    /// The NIC is listed as a port, whether or not it works.
    pub(crate) uplink_listed: bool,
    /// What is wrong with the NIC, according to vswitchd.
    pub(crate) uplink_error: Option<String>,
    /// Port number of the patch to the integration bridge.
    pub(crate) overlay: Option<OfPort>,
    /// Ports besides uplink, overlay and the bridge's own.
    pub(crate) other_ports: Vec<String>,
    /// The logical port that the integration bridge's end of the patch is bound to.
    pub(crate) iface_id: Option<String>,
    /// Which ends of the patch pair are missing or wrong.
    pub(crate) patch: PatchState,
    /// The integration bridge exists.
    pub(crate) integration: bool,
    /// The management port on the integration bridge: device name by logical port.
    pub(crate) internal_ports: BTreeMap<String, String>,
    /// `external_ids` of the switch.
    pub(crate) external_ids: BTreeMap<String, String>,
    /// `other_config` of the switch.
    pub(crate) other_config: BTreeMap<String, String>,
    /// vswitchd has carried out all that the database says.
    pub(crate) carried_out: bool,
}

/// The patch pair as found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PatchState {
    /// Both ends exist and name each other.
    Whole,
    /// Something is missing or wrong.
    #[default]
    Broken,
    /// A port of one of the names exists and is not a patch port: it is left as it is.
    NameInUse,
}

/// Names of both ends of the patch pair of a bridge.
pub(crate) fn patch_names(bridge: &str) -> (String, String) {
    (format!("k8s-patch-{bridge}-{INTEGRATION_BRIDGE}"), format!("k8s-patch-{INTEGRATION_BRIDGE}-{bridge}"))
}

impl BridgeView {
    /// Reads the snapshot.
    pub(crate) fn of(snapshot: &Snapshot, bridge: &str, uplink: &str) -> Self {
        let mut view = BridgeView { name: bridge.to_owned(), ..BridgeView::default() };
        if let Some(switch) = OpenVSwitch::of(snapshot) {
            view.carried_out = switch.cur_cfg >= switch.next_cfg;
            view.external_ids = switch.external_ids;
            view.other_config = switch.other_config;
        }
        let (near, far) = patch_names(bridge);
        let mut ends = (None, None);
        if let Some(row) = Bridge::named(snapshot, bridge) {
            view.present = true;
            view.userspace = row.datapath_type == "netdev";
            let (key, value) = uplink::OWNER;
            view.taken = row.external_ids.get(key).is_some_and(|owner| owner == value);
            for interface in row.interfaces(snapshot) {
                if interface.name == bridge {
                    view.mac = interface.mac_in_use.map(Mac);
                } else if interface.name == uplink {
                    view.uplink_listed = true;
                    view.uplink = interface.ofport;
                    view.uplink_error = interface.error;
                } else if interface.name == near {
                    view.overlay = interface.ofport;
                    ends.0 = Some(interface);
                } else {
                    view.other_ports.push(interface.name);
                }
            }
            view.other_ports.sort();
            view.mac = view.mac.or_else(|| row.other_config.get("hwaddr").and_then(|mac| mac.parse().ok()));
        }
        if let Some(row) = Bridge::named(snapshot, INTEGRATION_BRIDGE) {
            view.integration = true;
            for interface in row.interfaces(snapshot) {
                let logical = interface.external_ids.get("iface-id").cloned();
                if interface.name == far {
                    view.iface_id = logical;
                    ends.1 = Some(interface);
                } else if let (Some(logical), "internal") = (logical, interface.kind.as_str()) {
                    view.internal_ports.insert(logical, interface.name);
                }
            }
        }
        view.patch = patch_state(snapshot, &ends, (&near, &far));
        if view.patch != PatchState::Whole {
            view.overlay = None;
        }
        view
    }

    /// The operations that complete the patch pair, if it is incomplete and may be completed. Ends that exist keep
    /// their `iface-id`: the overlay's set-up owns it.
    pub(crate) fn patch_operations(&self, snapshot: &Snapshot) -> Vec<Operation> {
        if !self.present || !self.integration || self.patch != PatchState::Broken {
            return Vec::new();
        }
        let (near, far) = patch_names(&self.name);
        let mut operations = Vec::new();
        for (bridge, name, peer) in [(self.name.as_str(), &near, &far), (INTEGRATION_BRIDGE, &far, &near)] {
            end_operations(snapshot, bridge, name, peer, &mut operations);
        }
        if !operations.is_empty() {
            // vswitchd acts on the changed bridge rows; other programs may wait for the counter.
            operations.push(Operation::mutate("Open_vSwitch").add("next_cfg", 1));
            operations.push(Operation::comment("ovn-k8s-gateway-helper: patch pair"));
        }
        operations
    }
}

fn patch_state(
    snapshot: &Snapshot,
    ends: &(Option<Interface>, Option<Interface>),
    (near, far): (&str, &str),
) -> PatchState {
    let foreign = |name: &str| Interface::named(snapshot, name).is_some_and(|one| one.kind != "patch");
    if foreign(near) || foreign(far) {
        return PatchState::NameInUse;
    }
    let names = |end: &Option<Interface>, peer: &str| {
        end.as_ref().is_some_and(|end| end.options.get("peer").map(String::as_str) == Some(peer))
    };
    if names(&ends.0, far) && names(&ends.1, near) { PatchState::Whole } else { PatchState::Broken }
}

fn end_operations(
    snapshot: &Snapshot,
    bridge: &str,
    name: &str,
    peer: &str,
    operations: &mut Vec<Operation>,
) {
    let Some(row) = Bridge::named(snapshot, bridge) else { return };
    let peer_option = Datum::map([("peer", peer)]);
    let here = row.interfaces(snapshot).into_iter().find(|interface| interface.name == name);
    if let Some(interface) = here {
        if interface.options.get("peer").map(String::as_str) != Some(peer) {
            operations.push(Operation::update("Interface").row(interface.uuid).set("options", peer_option));
        }
        return;
    }
    // A port of that name on another bridge makes the whole transaction fail, as it should: it is not ours.
    let (port, interface) = (symbol("port", name), symbol("interface", name));
    operations.push(Operation::wait_absent("Port").filter(Condition::equal("name", name)));
    operations.push(
        Operation::insert("Interface")
            .named(&interface)
            .set("name", name)
            .set("type", "patch")
            .set("options", peer_option)
            .set("external_ids", Datum::map([OWNER_MARK])),
    );
    operations.push(
        Operation::insert("Port")
            .named(&port)
            .set("name", name)
            .set("interfaces", Atom::named(&interface))
            .set("external_ids", Datum::map([OWNER_MARK])),
    );
    operations.push(Operation::mutate("Bridge").row(row.uuid).put("ports", Datum::set([Atom::named(&port)])));
}

/// A name for a row within one transaction: letters, digits and underscores only.
fn symbol(kind: &str, name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{kind}_{clean}")
}

/// The operations that remove the patch pair, as far as this helper made it.
pub(crate) fn remove_patch(snapshot: &Snapshot, bridge: &str) -> Vec<Operation> {
    let (near, far) = patch_names(bridge);
    let mut operations = Vec::new();
    for (bridge, name) in [(bridge, near.as_str()), (INTEGRATION_BRIDGE, far.as_str())] {
        let Some(row) = Bridge::named(snapshot, bridge) else { continue };
        let ours =
            |port: &Port| port.external_ids.get(OWNER_MARK.0).map(String::as_str) == Some(OWNER_MARK.1);
        if let Some(port) = row.ports(snapshot).into_iter().find(|port| port.name == name && ours(port)) {
            operations.push(
                Operation::mutate("Bridge").row(row.uuid).take("ports", Datum::set([Atom::Uuid(port.uuid)])),
            );
        }
    }
    if !operations.is_empty() {
        operations.push(Operation::mutate("Open_vSwitch").add("next_cfg", 1));
        operations.push(Operation::comment("ovn-k8s-gateway-helper: patch pair removed"));
    }
    operations
}
