//! The whole table of one policy on one bridge, and how it follows the policy.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use demux::delta::Delta;
use demux::policy::{Policy, ServiceAddress, ServiceKey, ServicePort, ServiceRules, Split, Transport};
use ovs::openflow::FlowMod;
use ovs::openflow::flow::{Flow, FlowKey, FlowValue};

use super::context::FlowContext;
use super::cookie;
use super::service::{external_address_flows, port_flows};
use super::split::split_flows;

/// The flows that a bridge should hold: those of a policy, kept as the policy's services come and go.
///
/// A change of the split or of the bridge changes most of the table: make a new one then ([`Rendering::new`]), and
/// compare it with what is installed.
#[derive(Clone, Debug)]
pub struct Rendering {
    policy: Policy,
    context: FlowContext,
    flows: Flows,
}

/// Every flow of a policy, in no order.
pub fn render(policy: &Policy, context: &FlowContext) -> Vec<Flow> {
    let mut flows = split_flows(&policy.split, context);
    let mut addresses = BTreeSet::new();
    for (key, rules) in policy.services() {
        for port in &rules.ports {
            if claimed_by(policy, slot(port)).is_some_and(|claim| claim.0 == key) {
                flows.extend(port_flows(&policy.split, context, port));
            }
            if let ServiceAddress::External(address) = port.address {
                addresses.insert(address);
            }
        }
    }
    for address in addresses.into_iter().filter(|address| policy.serves_external(*address)) {
        flows.extend(external_address_flows(&policy.split, context, address));
    }
    flows
}

impl Rendering {
    /// Renders a policy.
    pub fn new(policy: Policy, context: FlowContext) -> Self {
        let flows = render(&policy, &context).into_iter().map(|flow| (flow.key, flow.value)).collect();
        Rendering { policy, context, flows }
    }

    /// What is rendered.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What it is rendered for.
    pub fn context(&self) -> &FlowContext {
        &self.context
    }

    /// The flows, for a comparison with what is installed.
    pub fn flows(&self) -> &HashMap<FlowKey, FlowValue> {
        &self.flows
    }

    /// Applies a change of the policy, and gives what that changes in the bridge: deletions first for each service.
    /// A change of the split renders everything again.
    pub fn apply(&mut self, delta: Delta) -> Vec<FlowMod> {
        if delta.split.is_none() {
            let services = delta.services.into_iter();
            return services.flat_map(|(key, rules)| self.set_service(&key, rules)).collect();
        }
        let mut policy = self.policy.clone();
        policy.apply(delta);
        let next = Rendering::new(policy, self.context);
        let mods = changes(&self.flows, &next.flows);
        *self = next;
        mods
    }

    /// Sets the ports of one service, or removes the service, and gives what that changes in the bridge: deletions
    /// first, nothing for flows that stay as they are. Takes time by the service's ports, not by the policy.
    pub fn set_service(&mut self, key: &ServiceKey, rules: Option<Arc<ServiceRules>>) -> Vec<FlowMod> {
        let before = self.policy.service(key).cloned();
        let ports = || before.iter().chain(rules.iter()).flat_map(|rules| rules.ports.iter());
        let slots: BTreeSet<Slot> = ports().map(slot).collect();
        let addresses: BTreeSet<IpAddr> = ports().filter_map(external).collect();

        let old = self.flows_of(&slots, &addresses);
        match rules.clone() {
            Some(rules) => self.policy.set_service(key.clone(), rules),
            None => self.policy.remove_service(key),
        };
        let new = self.flows_of(&slots, &addresses);
        let mods = changes(&old, &new);
        for key in old.keys().filter(|key| !new.contains_key(key)) {
            self.flows.remove(key);
        }
        self.flows.extend(new);
        mods
    }

    /// The flows of these ports and addresses, whichever service holds them now.
    fn flows_of(&self, slots: &BTreeSet<Slot>, addresses: &BTreeSet<IpAddr>) -> Flows {
        let split: &Split = &self.policy.split;
        let claims = slots.iter().filter_map(|slot| claimed_by(&self.policy, *slot));
        let ports = claims.flat_map(|(_, port)| port_flows(split, &self.context, port));
        let served = addresses.iter().filter(|address| self.policy.serves_external(**address));
        let errors = served.flat_map(|address| external_address_flows(split, &self.context, *address));
        ports.chain(errors).map(|flow| (flow.key, flow.value)).collect()
    }
}

/// Flows by identity.
type Flows = HashMap<FlowKey, FlowValue>;

/// What leads from one set of flows to another, deletions first.
fn changes(old: &Flows, new: &Flows) -> Vec<FlowMod> {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let gone = gone.map(|key| FlowMod::Delete { key: key.clone(), cookies: cookie::cookies() });
    let other = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    let other = other.map(|(key, value)| FlowMod::Add(Flow { key: key.clone(), value: value.clone() }));
    gone.chain(other).collect()
}

/// What services claim, each (address, protocol, port) once.
type Slot = (ServiceAddress, Transport, u16);

fn slot(port: &ServicePort) -> Slot {
    (port.address, port.protocol, port.port)
}

fn external(port: &ServicePort) -> Option<IpAddr> {
    match port.address {
        ServiceAddress::External(address) => Some(address),
        ServiceAddress::Node(_) => None,
    }
}

fn claimed_by(policy: &Policy, slot: Slot) -> Option<(&ServiceKey, &ServicePort)> {
    policy.claim(slot.0, slot.1, slot.2).map(|claim| (claim.service, claim.port))
}
