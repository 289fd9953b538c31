//! Typed rows, read from what the real tools write into real databases.

use std::collections::BTreeMap;

use super::nb::{
    self, LoadBalancer, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, NatKind,
};
use super::vswitch::{self, Bridge, Interface, OpenVSwitch, Port};
use super::*;
use crate::openflow::flow::OfPort;
use crate::ovsdb::testing::{NB_SCHEMA, Server, VSWITCH_SCHEMA, config, soon, until_db};
use crate::ovsdb::{Datum, Db, Operation};

#[tokio::test]
async fn rows_of_the_switch() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init", "--", "set", "Open_vSwitch", ".", "external_ids:system-id=node-1"]);
    server.ctl("ovs-vsctl", &["add-br", "breth0", "--", "set", "bridge", "breth0", "datapath_type=netdev"]);
    server.ctl(
        "ovs-vsctl",
        &[
            "add-port",
            "breth0",
            "patch-1",
            "tag=7",
            "--",
            "set",
            "interface",
            "patch-1",
            "type=patch",
            "options:peer=patch-2",
            "external_ids:ovn-localnet-port=x",
        ],
    );
    let db = Db::spawn(config(&[server.remote()], vswitch::DATABASE, vswitch::monitors()));
    let snapshot = soon("sync", db.wait_synced()).await;
    let root = OpenVSwitch::of(&snapshot).unwrap();
    assert_eq!(root.external_ids["system-id"], "node-1");
    let bridge = Bridge::named(&snapshot, "breth0").unwrap();
    assert_eq!(root.bridges, [bridge.uuid]);
    assert_eq!((bridge.datapath_type.as_str(), bridge.datapath_id.as_deref()), ("netdev", None));
    assert_eq!(bridge.ports(&snapshot).len(), 2);
    assert_eq!(Port::named(&snapshot, "patch-1").unwrap().tag, Some(7));
    let patch = Interface::named(&snapshot, "patch-1").unwrap();
    assert_eq!(patch.options["peer"], "patch-2");
    assert_eq!((patch.ofport, patch.mac_in_use, patch.admin_up), (None, None, None));
    assert_eq!(Interface::named(&snapshot, "breth0").unwrap().kind, "internal");
    assert_eq!(bridge.interfaces(&snapshot).len(), 2);

    // What vswitchd would write.
    let update = |row: Uuid| Operation::update("Interface").row(row);
    let seen = update(patch.uuid)
        .set("ofport", 5)
        .set("mac_in_use", "0a:00:00:00:00:01")
        .set("admin_state", "up")
        .set("link_state", "down")
        .set("error", "no such thing");
    db.transact(vec![seen]).await.unwrap();
    let patch = Interface::named(&db.snapshot(), "patch-1").unwrap();
    assert_eq!(patch.ofport, Some(OfPort(5)));
    assert_eq!(patch.mac_in_use, Some([0x0a, 0, 0, 0, 0, 1]));
    assert_eq!((patch.admin_up, patch.link_up), (Some(true), Some(false)));
    assert_eq!(patch.error.as_deref(), Some("no such thing"));
    db.transact(vec![update(patch.uuid).set("ofport", -1).set("mac_in_use", "hello")]).await.unwrap();
    let snapshot = db.snapshot();
    assert!(Interface::named(&snapshot, "patch-1").is_none());
    let error = Interface::all(&snapshot).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("mac_in_use") && error.contains("not a MAC address"), "{error}");
    db.transact(vec![update(patch.uuid).set("mac_in_use", Datum::empty_set())]).await.unwrap();
    assert_eq!(Interface::named(&db.snapshot(), "patch-1").unwrap().ofport, None);
}

#[tokio::test]
async fn rows_of_the_logical_network() {
    let server = Server::standalone(NB_SCHEMA);
    let run = |arguments: &str| server.ctl("ovn-nbctl", &arguments.split(' ').collect::<Vec<_>>());
    run("lr-add GR_node-1 -- set logical_router GR_node-1 options:chassis=node-1");
    run("lrp-add GR_node-1 rtoe-GR_node-1 0a:00:00:00:00:02 172.18.0.2/16 fd00::2/64");
    run("ls-add ext_node-1");
    run("lsp-add ext_node-1 etor-GR_node-1 -- lsp-set-type etor-GR_node-1 router");
    run(
        "lsp-set-addresses etor-GR_node-1 router -- lsp-set-options etor-GR_node-1 router-port=rtoe-GR_node-1",
    );
    run("--portrange lr-nat-add GR_node-1 snat 172.18.0.2 10.244.0.0/16 30000-31000");
    run("lb-add svc 10.96.0.1:443 172.18.0.2:6443,172.18.0.3:6443 tcp -- lr-lb-add GR_node-1 svc");
    let mut monitors = nb::monitors();
    monitors.push(LoadBalancer::monitor());
    let db = Db::spawn(config(&[server.remote()], nb::DATABASE, monitors));
    let snapshot = soon("sync", db.wait_synced()).await;

    let port = LogicalSwitchPort::named(&snapshot, "etor-GR_node-1").unwrap();
    assert_eq!((port.kind.as_str(), port.up), ("router", false));
    let router = LogicalRouter::behind(&snapshot, &port).unwrap();
    assert_eq!((router.name.as_str(), router.enabled), ("GR_node-1", true));
    assert_eq!(router.options["chassis"], "node-1");
    assert_eq!(LogicalSwitch::with_port(&snapshot, port.uuid).unwrap().name, "ext_node-1");
    let outer = &router.ports(&snapshot)[0];
    assert_eq!(Some(outer), LogicalRouterPort::named(&snapshot, "rtoe-GR_node-1").as_ref());
    assert_eq!(outer.mac, [0x0a, 0, 0, 0, 0, 2]);
    assert_eq!(outer.networks, ["172.18.0.2/16", "fd00::2/64"]);
    let nats = router.nats(&snapshot);
    assert_eq!((nats.len(), nats[0].kind, nats[0].port_range()), (1, NatKind::Source, Some(30000..=31000)));
    assert_eq!((nats[0].external_ip.as_str(), nats[0].logical_ip.as_str()), ("172.18.0.2", "10.244.0.0/16"));
    let balancer = LoadBalancer::one(&snapshot, router.load_balancer[0]).unwrap();
    assert_eq!(balancer.vips["10.96.0.1:443"], "172.18.0.2:6443,172.18.0.3:6443");
    assert_eq!(balancer.protocol.as_deref(), Some("tcp"));

    run("lr-del GR_node-1");
    until_db(&db, "the router is gone", |db, _| LogicalRouter::named(&db.snapshot(), "GR_node-1").is_none())
        .await;
    assert!(LogicalRouter::behind(&db.snapshot(), &port).is_none());
}

#[test]
fn port_ranges() {
    let nat = |text: &str| nb::Nat {
        uuid: Uuid(0),
        kind: NatKind::Source,
        external_ip: String::new(),
        logical_ip: String::new(),
        external_port_range: Some(text.to_owned()),
        logical_port: None,
        external_mac: None,
        options: BTreeMap::new(),
        external_ids: BTreeMap::new(),
    };
    assert_eq!(nat("1024-65535").port_range(), Some(1024..=65535));
    assert_eq!(nat("80").port_range(), Some(80..=80));
    for text in ["", "-", "0-10", "10-9", "1-70000", "a-b", "1-2-3"] {
        assert_eq!(nat(text).port_range(), None, "{text}");
    }
}

#[test]
fn mac_addresses() {
    assert_eq!(columns::parse_mac("0A:00:00:00:00:ff"), Some([10, 0, 0, 0, 0, 255]));
    for text in ["", "0a:00:00:00:00", "0a:00:00:00:00:01:02", "+a:00:00:00:00:01", "0a00:00:00:00:00:1", "x"]
    {
        assert_eq!(columns::parse_mac(text), None, "{text}");
    }
}
