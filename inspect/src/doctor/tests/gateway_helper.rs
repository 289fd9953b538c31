//! The helper, and kube-proxy beside it.

use super::*;

#[test]
fn the_helper() {
    finds(&with(|node| node.helper = None), "helper-away", Severity::Warning);
    let patched = with(|node| {
        node.flows.clear();
        node.helper = None;
        let patch = Port { name: "p".into(), kind: "patch".into(), ..Port::default() };
        node.observed.switch.bridges[0].ports.push(patch);
    });
    finds(&patched, "helper-away", Severity::Error);
    let silent =
        HelperSnapshot { status: Err("no answer in 3 s".into()), flows: None, repaired_during_check: 0 };
    finds(&with(|node| node.helper = Some(silent)), "helper-silent", Severity::Warning);
    let reporting = |change: fn(&mut Status)| {
        with(|node| {
            if let Some(HelperSnapshot { status: Ok(status), .. }) = &mut node.helper {
                change(status);
            }
        })
    };
    finds(&reporting(|status| status.flows.connected = false), "flows", Severity::Error);
    let mut unseen = reporting(|status| status.flows.wanted = 7);
    unseen.flows.clear();
    finds(&unseen, "flows", Severity::Warning);
    finds(&reporting(|status| status.flows.conflicts = vec!["a flow".into()]), "flows", Severity::Warning);
    finds(&reporting(|status| status.host.error = Some("nft says no".into())), "host-paths", Severity::Error);
    let source = |status: &mut Status| {
        let name = "northbound".to_owned();
        status.sources =
            vec![SourceStatus { name, error: Some("refused".into()), ..SourceStatus::default() }];
    };
    finds(&reporting(source), "source", Severity::Warning);
    finds(&reporting(|status| status.ready = false), "helper", Severity::Warning);
}

#[test]
fn kube_proxy_beside_the_gateway() {
    let kube_proxy = |node: &mut NodeSnapshot| node.kube_proxy = vec!["kube-proxy runs (pid 9)".to_owned()];
    finds(&with(kube_proxy), "node-ports", Severity::Warning);
    let mut alone = NodeSnapshot::default();
    alone.observed.switch = well().observed.switch;
    alone.ovn = ovn::well();
    kube_proxy(&mut alone);
    assert_eq!(report(&alone).worst, Severity::Note);
}
