//! A lab with a helper on each node.

use anyhow::{Context, Result};

use super::{
    Lab, LabOptions,
    helper::{Daemon, Helper, HelperOptions, uses_reference_helper},
    reference_helper::ReferenceHelper,
    service::ServiceSpec,
};

/// A lab whose nodes all have a helper.
#[derive(Debug)]
pub struct Cluster {
    // Helpers end before their nodes go.
    helpers: Vec<Box<dyn Helper>>,
    lab: Lab,
}

impl Cluster {
    /// Brings a lab up and starts a helper on each node: the product's, or the reference helper when the environment says so.
    pub fn up(lab: LabOptions, helper: &HelperOptions) -> Result<Self> {
        let lab = Lab::start(lab)?;
        let helpers = lab
            .nodes()
            .iter()
            .map(|node| -> Result<Box<dyn Helper>> {
                if uses_reference_helper() {
                    Ok(Box::new(ReferenceHelper::start(node, helper)?))
                } else {
                    Ok(Box::new(Daemon::start(&lab, node, helper)?))
                }
            })
            .collect::<Result<_>>()?;
        // Only now: with plain MAC learning on the bridge a bring-up may never get this far.
        lab.wait_until_bound()?;
        Ok(Self { helpers, lab })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The helper of a node, from 1.
    pub fn helper(&self, node: usize) -> Result<&dyn Helper> {
        let helper = node.checked_sub(1).and_then(|index| self.helpers.get(index));
        Ok(helper.with_context(|| format!("the lab has no node {node}"))?.as_ref())
    }

    /// Waits until every bridge serves these Services, which the manifests say already.
    pub fn follow(&self, services: &[ServiceSpec]) -> Result<()> {
        self.helpers.iter().try_for_each(|helper| helper.follow(services))
    }

    /// Makes these the Services; returns when OVN and every node's bridge serve them.
    pub fn apply(&self, services: &[ServiceSpec]) -> Result<()> {
        self.lab.apply(services)?;
        self.follow(services)
    }
}
