//! Where the policy and the bridge's ports come from: the running helper, or a file.

use std::path::Path;

use demux::decide::Ingress;
use demux::policy::Policy;
use ovs::openflow::flow::OfPort;
use ovs::paths::Paths;

use super::args::ExplainArgs;
use super::error::ExplainError;
use super::input;
use helper::status::Status;

/// The bridge with its ports and conntrack zone, as the helper reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BridgeInfo {
    /// The bridge's name.
    pub name: String,
    /// The uplink's port number.
    pub uplink: Option<OfPort>,
    /// The overlay's port number.
    pub overlay: Option<OfPort>,
    /// Further ports, by name.
    pub others: Vec<String>,
    /// The conntrack zone that holds the owner marks.
    pub zone: u16,
}

/// The policy and its origin.
pub(super) async fn policy(args: &ExplainArgs, paths: &Paths) -> Result<(Policy, String), ExplainError> {
    let (text, origin) = match &args.policy {
        Some(file) => {
            let bytes = input::read(file, "leave out --policy to use that of the running helper")?;
            (String::from_utf8_lossy(&bytes).into_owned(), origin_of(file))
        }
        None => {
            let remedy = "`systemctl start ovn-k8s-gateway-helper`, name another with --target, or give a policy with --policy FILE";
            let text = args.helper.call(paths, "policy", &[]).await;
            let text = text.map_err(|error| ExplainError::Helper { what: "policy", error, remedy })?;
            if text.is_empty() {
                return Err(ExplainError::NoPolicy);
            }
            (text, format!("of the running helper ({})", args.helper.target))
        }
    };
    let policy = serde_json::from_str(&text);
    Ok((policy.map_err(|error| ExplainError::Policy { origin: origin.clone(), error })?, origin))
}

/// The bridge that the running helper programs.
pub(super) async fn bridge(args: &ExplainArgs, paths: &Paths) -> Result<BridgeInfo, ExplainError> {
    let remedy = "--live needs it to know the bridge: `systemctl start ovn-k8s-gateway-helper`, name another with --target, or leave out --live";
    let text = args.helper.call(paths, "status", &["json"]).await;
    let text = text.map_err(|error| ExplainError::Helper { what: "status", error, remedy })?;
    let status: Status = serde_json::from_str(&text).map_err(ExplainError::Status)?;
    let bridge = status.bridge;
    Ok(BridgeInfo {
        name: bridge.name,
        uplink: bridge.uplink_ofport.map(OfPort),
        overlay: bridge.overlay_ofport.map(OfPort),
        others: bridge.other_ports,
        zone: bridge.conntrack_zone,
    })
}

impl BridgeInfo {
    /// The port through which frames of an ingress enter, as `ofproto/trace` reads it.
    pub(super) fn in_port(&self, ingress: Ingress) -> Result<String, ExplainError> {
        let missing = |what| ExplainError::NoPort { bridge: self.name.clone(), what };
        match ingress {
            Ingress::Host => Ok("LOCAL".to_owned()),
            Ingress::Uplink => Ok(self.uplink.ok_or_else(|| missing("port of the uplink"))?.0.to_string()),
            Ingress::Overlay => Ok(self.overlay.ok_or_else(|| missing("port of the overlay"))?.0.to_string()),
            Ingress::Other => {
                let name = self.others.first().ok_or_else(|| missing("further port"))?;
                Ok(format!("\"{name}\""))
            }
        }
    }
}

fn origin_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}
