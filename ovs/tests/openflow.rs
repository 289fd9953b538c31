//! OpenFlow against a real ovs-vswitchd: what is sent comes back equal, and reads as ovs-ofctl would print it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own helpers may fail it"
)]

mod switch;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use ovs::openflow::flow::{Action, Field, Flow, FlowKey, Match, OfPort, ipv4};
use ovs::openflow::{Connection, Cookies, Disconnect, Dumped, Error, FlowMod, Ours, diff, set_no_flood};
use switch::Switch;

const COOKIE: u64 = 0x6f76_6e38_0000_0000;
const OURS: Cookies = Cookies { value: COOKIE, mask: 0xffff_ffff_0000_0000 };

fn adds(flows: &[Flow]) -> Vec<FlowMod> {
    flows.iter().cloned().map(FlowMod::Add).collect()
}

async fn dumped(connection: &Connection, cookies: Cookies) -> BTreeSet<String> {
    let flows = connection.dump(cookies).await.unwrap();
    flows.into_iter().map(|dumped| dumped.flow.unwrap().to_string()).collect()
}

#[tokio::test]
async fn every_shape_of_the_table_comes_back_equal_and_reads_as_ovs_prints_it() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let flows = table::shapes(COOKIE);
    connection.bundle(&adds(&flows)).await.unwrap();

    let back = connection.dump(OURS).await.unwrap();
    assert_eq!(back.len(), flows.len());
    for flow in &flows {
        assert!(
            back.iter().any(|dumped| dumped.flow.as_ref() == Ok(flow)),
            "{flow} came back otherwise: {back:#?}"
        );
    }

    let printed = switch.ofctl(&["--no-stats", "--no-names", "dump-flows", "br0"]);
    let printed: BTreeSet<&str> = printed.lines().map(str::trim).collect();
    let ours: Vec<String> = flows.iter().map(Flow::to_string).collect();
    let ours: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
    for text in &ours {
        assert!(printed.contains(text), "{text}\nis not among\n{printed:#?}");
    }
    assert_eq!(ours, printed);
}

#[tokio::test]
async fn a_refused_flow_is_named_and_nothing_is_committed() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let mut flows = table::shapes(COOKIE);
    // A port without its protocol, and a jump backwards.
    let matches = Match::any().with(Field::TcpDst, 80_u16);
    flows.insert(3, Flow::new(0, 1, matches, COOKIE, vec![]));
    flows.push(Flow::new(5, 7, Match::any(), COOKIE, vec![Action::GotoTable(2)]));
    let last = flows.len() - 1;
    let error = connection.bundle(&adds(&flows)).await.unwrap_err();
    let Error::Refused { refused, of } = &error else { panic!("{error}") };
    assert_eq!(*of, flows.len());
    let named: Vec<_> = refused.iter().map(|one| (one.index, one.error.name())).collect();
    assert_eq!(named, [(3, Some("OFPBMC_BAD_PREREQ")), (last, Some("OFPBIC_BAD_TABLE_ID"))]);
    assert!(error.to_string().contains("tp_dst=80"), "{error}");
    assert_eq!(connection.dump_all().await.unwrap(), []);

    // The same for a single one, and the connection is still good.
    let single = connection.apply(&[FlowMod::Add(flows[3].clone())]).await.unwrap_err();
    assert!(matches!(&single, Error::Refused { refused, of: 1 } if refused.len() == 1), "{single}");
    let sound: Vec<_> =
        flows.iter().enumerate().filter(|(at, _)| *at != 3 && *at != last).map(|(_, f)| f.clone()).collect();
    let report = connection.bundle(&adds(&sound)).await.unwrap();
    assert_eq!(report.mods, sound.len());
    assert_eq!(connection.aggregate(OURS).await.unwrap().flows as usize, sound.len());
}

#[tokio::test]
async fn changes_touch_only_the_cookies_they_name() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let ours = Flow::new(0, 10, Match::any().with(Field::InPort, 1_u8), COOKIE | 1, vec![]);
    switch.ofctl(&["add-flow", "br0", "cookie=0x77,priority=10,in_port=2 actions=LOCAL"]);
    connection.apply(&[FlowMod::Add(ours.clone())]).await.unwrap();
    assert_eq!(dumped(&connection, OURS).await, BTreeSet::from([ours.to_string()]));
    assert_eq!(connection.dump_all().await.unwrap().len(), 2);

    // Strictly deleting the foreign flow as ours does nothing; so does deleting all of ours in another table.
    let foreign = Flow::new(0, 10, Match::any().with(Field::InPort, 2_u8), 0x77, vec![]);
    let deletions = [
        FlowMod::Delete { key: foreign.key.clone(), cookies: OURS },
        FlowMod::DeleteAll { cookies: OURS, table: Some(3) },
    ];
    connection.apply(&deletions).await.unwrap();
    assert_eq!(connection.dump_all().await.unwrap().len(), 2);

    // New actions, the old cookie.
    let mut other = ours.clone();
    other.value.actions = vec![Action::Output(OfPort(2))];
    connection.apply(&[FlowMod::Modify(other.clone())]).await.unwrap();
    assert_eq!(dumped(&connection, OURS).await, BTreeSet::from([other.to_string()]));
    // The same key again replaces.
    connection.apply(&[FlowMod::Add(ours.clone())]).await.unwrap();
    assert_eq!(dumped(&connection, OURS).await, BTreeSet::from([ours.to_string()]));

    connection.apply(&[FlowMod::DeleteAll { cookies: OURS, table: None }]).await.unwrap();
    let left = connection.dump_all().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].cookie, 0x77);
    connection.apply(&[FlowMod::Delete { key: foreign.key, cookies: Cookies::exactly(0x77) }]).await.unwrap();
    assert_eq!(connection.dump_all().await.unwrap(), []);
}

#[tokio::test]
async fn flows_of_others_are_listed_even_when_they_have_no_words_here() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    // Unknown actions: the identity is known all the same. Unknown matches: only table and priority.
    let actions = [
        "ct(commit,nat(src=192.0.2.1))",
        "ct(zone=NXM_NX_REG0[0..15])",
        "ct(commit,exec(set_field:1->ct_label))",
        "ct(commit,exec(set_field:1/1->ct_mark))",
        "ct(force,commit)",
        "controller",
        "set_field:1->reg3",
        "mod_dl_src:0a:00:00:00:00:09,LOCAL",
        "resubmit:2",
        "resubmit(2,3)",
        "push_vlan:0x8100,set_field:4101->vlan_vid,output:2",
        "enqueue:1:2",
        "group:1",
        "note:01.02",
        "learn(table=3,hard_timeout=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15])",
        "learn(table=3,NXM_OF_VLAN_TCI[0..11],output:NXM_OF_IN_PORT[])",
        "write_metadata:0x7/0x7,goto_table:3",
        "clear_actions",
        "write_actions(output:1)",
        "bundle(eth_src,50,hrw,ofport,slaves:1,2)",
        "dec_ttl,output:2",
        "clone(output:1)",
        "conjunction(7,1/2)",
        "output(port=1,max_len=100)",
        "output:NXM_NX_REG0[16..31]",
        "multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[])",
        "fin_timeout(idle_timeout=1)",
    ];
    switch.ofctl(&["add-group", "br0", "group_id=1,type=all,bucket=output:1"]);
    for (priority, action) in (1..).zip(actions) {
        switch.ofctl(&["add-flow", "br0", &format!("priority={priority},tcp,in_port=1,actions={action}")]);
    }
    let matches = [
        "reg0=5",
        "tun_id=7",
        "dl_src=0a:00:00:00:00:01,conj_id=4",
        "ipv6,ipv6_label=7",
        "ct_label=1",
        "ip,nw_tos=4",
        "ip,nw_ttl=3",
        "arp,arp_sha=0a:00:00:00:00:01",
        "mpls,mpls_label=3",
        "ct_state=+trk-inv,ct_nw_src=192.0.2.1,ip",
        "icmp6,icmp_type=135,nd_sll=0a:00:00:00:00:01",
        "pkt_mark=1",
    ];
    for (priority, text) in (1..).zip(matches) {
        switch.ofctl(&["add-flow", "br0", &format!("table=1,priority={priority},{text},actions=drop")]);
    }
    let flows = connection.dump_all().await.unwrap();
    let known =
        Match::any().with(Field::InPort, 1_u8).with(Field::EthType, 0x0800_u16).with(Field::IpProto, 6_u8);
    for (priority, action) in (1..).zip(actions) {
        let flow = flows.iter().map(|dumped| dumped.flow.as_ref().unwrap_err());
        let opaque = flow.filter(|opaque| opaque.table == 0).find(|opaque| opaque.priority == priority);
        let opaque = opaque.unwrap_or_else(|| panic!("{action} was understood"));
        assert_eq!(opaque.key, Some(FlowKey { table: 0, priority, matches: known.clone() }), "{action}");
        assert!(!opaque.unknown.is_empty());
    }
    for (priority, text) in (1..).zip(matches) {
        let opaque = flows.iter().map(|dumped| dumped.flow.as_ref().unwrap_err());
        let opaque = opaque.filter(|opaque| opaque.table == 1).find(|opaque| opaque.priority == priority);
        assert_eq!(opaque.unwrap_or_else(|| panic!("{text} was understood")).key, None, "{text}");
    }
    assert_eq!(flows.len(), actions.len() + matches.len());
}

#[tokio::test]
async fn a_learned_flow_is_dumped_with_what_it_learned_and_goes_with_its_teacher() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let flows = table::shapes(COOKIE);
    connection.bundle(&adds(&flows)).await.unwrap();
    // From the overlay, to a server: the answer's way is learned.
    let packet = "in_port(2),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),eth_type(0x0800),\
        ipv4(src=192.0.2.10,dst=198.51.100.7,proto=132,tos=0,ttl=64,frag=no),sctp(src=5000,dst=9000)";
    switch.vswitchd_ctl(&["netdev-dummy/receive", "p2", packet]);
    let learned = Cookies::exactly(COOKIE | 0xfffe);
    let mut found = Vec::new();
    for _ in 0..2000 {
        found = connection.dump(learned).await.unwrap();
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let [Dumped { flow: Ok(flow), .. }] = &found[..] else { panic!("{found:?}") };
    let expected = Match::any()
        .with(Field::EthType, 0x0800_u16)
        .with(Field::IpProto, 132_u8)
        .with(Field::Ipv4Src, ipv4("198.51.100.7".parse().unwrap()))
        .with(Field::Ipv4Dst, ipv4("192.0.2.10".parse().unwrap()))
        .with(Field::SctpSrc, 9000_u16)
        .with(Field::SctpDst, 5000_u16);
    let mut expected = Flow::new(6, 10, expected, COOKIE | 0xfffe, vec![Action::Output(OfPort(2))]);
    expected.value.idle_timeout = 300;
    assert_eq!(*flow, expected);

    // Restoring the same table by comparison leaves it alone.
    let desired = flows.iter().map(|flow| (flow.key.clone(), flow.value.clone())).collect();
    let ours = Ours { cookies: OURS, learned: vec![COOKIE | 0xfffe] };
    let plan = diff(&desired, &connection.dump_all().await.unwrap(), &ours);
    assert_eq!((plan.mods.len(), plan.conflicts.len(), plan.same), (0, 0, flows.len()));

    let teacher = flows.iter().find(|flow| matches!(flow.value.actions[..], [Action::Learn(_), _])).unwrap();
    let teachers =
        flows.iter().filter(|flow| flow.key.table == 4 && flow.key.priority == teacher.key.priority);
    let deletions: Vec<_> =
        teachers.map(|flow| FlowMod::Delete { key: flow.key.clone(), cookies: OURS }).collect();
    connection.apply(&deletions).await.unwrap();
    assert_eq!(connection.dump(learned).await.unwrap(), []);
}

#[tokio::test]
async fn ports_are_listed_with_number_name_and_mac() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let ports = connection.ports().await.unwrap();
    let names: BTreeSet<_> = ports.iter().map(|port| (port.number, port.name.as_str())).collect();
    assert_eq!(names, BTreeSet::from([(OfPort(1), "p1"), (OfPort(2), "p2"), (OfPort::LOCAL, "br0")]));
    assert!(ports.iter().all(|port| port.mac != [0; 6]));
}

#[tokio::test]
async fn a_killed_switch_is_noticed_and_a_new_one_starts_empty() {
    let mut switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    connection.bundle(&adds(&table::shapes(COOKIE))).await.unwrap();
    switch.kill_vswitchd();
    assert_eq!(connection.closed().await, Disconnect::Eof);
    let error = connection.dump_all().await.unwrap_err();
    assert!(matches!(error, Error::Closed(Disconnect::Eof)), "{error}");
    let error = Connection::connect(&switch.address()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");

    switch.start_vswitchd();
    let connection = loop {
        match Connection::connect(&switch.address()).await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(connection.dump(OURS).await.unwrap(), []);
}

#[tokio::test]
async fn a_bundle_given_up_half_way_leaves_nothing_and_the_connection_goes_on() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let many: Vec<_> = (0..20_000_u32)
        .map(|n| {
            Flow::new(1, 1, Match::any().with(Field::Metadata, n), COOKIE, vec![Action::Output(OfPort(1))])
        })
        .collect();
    let mods = adds(&many);
    // Dropped at various depths: before the first piece, between pieces, while the close is awaited.
    for polls in [1, 2, 5, 9, 30] {
        let mut bundle = Box::pin(connection.bundle(&mods));
        let mut finished = false;
        for _ in 0..polls {
            tokio::select! {
                biased;
                done = &mut bundle => { done.unwrap(); finished = true; break }
                () = tokio::task::yield_now() => {}
            }
        }
        drop(bundle);
        connection.barrier().await.unwrap();
        if !finished {
            assert_eq!(connection.aggregate(OURS).await.unwrap().flows, 0);
        }
        connection.apply(&[FlowMod::DeleteAll { cookies: OURS, table: None }]).await.unwrap();
    }
    assert_eq!(connection.bundle(&mods).await.unwrap().mods, many.len());
    assert_eq!(connection.dump(OURS).await.unwrap().len(), many.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_one_connection() {
    let switch = Switch::start();
    let connection = Arc::new(Connection::connect(&switch.address()).await.unwrap());
    let tasks: Vec<_> = (0..16_u8)
        .map(|task| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                let matches = Match::any().with(Field::InPort, task);
                let flows: Vec<_> = (0..200)
                    .map(|n| Flow::new(task, n, matches.clone(), COOKIE | u64::from(task), vec![]))
                    .collect();
                connection.bundle(&adds(&flows)).await.unwrap();
                connection.echo().await.unwrap();
                let own = connection.dump(Cookies::exactly(COOKIE | u64::from(task))).await.unwrap();
                assert_eq!(own.len(), flows.len());
                let unsound = Flow::new(9, 9, Match::any().with(Field::UdpDst, 1_u8), COOKIE, vec![]);
                let refused = connection.apply(&[FlowMod::Add(unsound)]).await;
                assert!(matches!(refused, Err(Error::Refused { .. })));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(connection.aggregate(OURS).await.unwrap().flows, 16 * 200);
}

#[tokio::test]
async fn a_switch_is_reached_over_tcp_too() {
    let switch = Switch::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    switch.vsctl(&["set-controller", "br0", &format!("ptcp:{free}:127.0.0.1")]);
    let address = format!("tcp:127.0.0.1:{free}");
    switch.until("the bridge to listen", |_| std::net::TcpStream::connect(("127.0.0.1", free)).is_ok());
    let connection = Connection::connect(&address).await.unwrap();
    connection.bundle(&adds(&table::shapes(COOKIE))).await.unwrap();
    assert_eq!(connection.dump(OURS).await.unwrap().len(), table::shapes(COOKIE).len());
}

#[tokio::test]
async fn a_bridge_without_openflow_1_4_says_how_to_allow_it() {
    let switch = Switch::start();
    switch.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow10,OpenFlow13"]);
    let error = Connection::connect(&switch.address()).await.unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
    assert!(error.to_string().contains("OpenFlow14"), "{error}");
}

#[tokio::test]
async fn our_text_is_taken_by_ovs_ofctl_and_means_the_same() {
    let switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let flows = table::shapes(COOKIE);
    let file = switch.path().join("flows");
    let text: Vec<_> = flows.iter().map(Flow::to_string).collect();
    std::fs::write(&file, text.join("\n")).unwrap();
    switch.ofctl(&["--bundle", "add-flows", "br0", file.to_str().unwrap()]);
    let desired = flows.iter().map(|flow| (flow.key.clone(), flow.value.clone())).collect();
    let ours = Ours { cookies: OURS, learned: vec![] };
    let plan = diff(&desired, &connection.dump_all().await.unwrap(), &ours);
    assert_eq!((plan.mods, plan.same), (vec![], flows.len()));
}

#[tokio::test]
async fn what_others_do_to_the_flows_is_told_and_what_we_do_is_not() {
    let mut switch = Switch::start();
    let connection = Connection::connect(&switch.address()).await.unwrap();
    let mut changes = connection.watch(vec![0x99]).await.unwrap();
    let own = Flow::new(0, 10, Match::any().with(Field::InPort, 1_u8), COOKIE | 1, vec![]);
    connection.apply(&[FlowMod::Add(own.clone())]).await.unwrap();
    connection.bundle(&[FlowMod::Delete { key: own.key.clone(), cookies: OURS }]).await.unwrap();
    connection.bundle(&adds(&table::shapes(COOKIE))).await.unwrap();
    switch.ofctl(&["add-flow", "br0", "cookie=0x99,table=20,actions=drop"]);
    switch.ofctl(&["del-flows", "br0", "table=20"]);
    // All of that goes without a word; the next three do not.
    connection.barrier().await.unwrap();
    switch.ofctl(&["add-flow", "br0", "cookie=0x77,table=20,actions=drop"]);
    assert_eq!(changes.next().await, Some(1));
    switch.ofctl(&["mod-flows", "br0", "table=20,actions=LOCAL"]);
    assert_eq!(changes.next().await, Some(2));
    switch.ofctl(&["del-flows", "br0", "table=20"]);
    assert_eq!(changes.next().await, Some(3));
    // Someone else's flow in the place of ours.
    switch.ofctl(&[
        "add-flow",
        "br0",
        "cookie=0x77,priority=1000,in_port=1,vlan_tci=0x1000/0x1000,actions=LOCAL",
    ]);
    assert_eq!(changes.next().await, Some(4));
    // Watching anew counts anew.
    changes = connection.watch(vec![]).await.unwrap();
    switch.ofctl(&["add-flow", "br0", "cookie=0x99,table=20,actions=drop"]);
    assert_eq!(changes.next().await, Some(1));
    switch.kill_vswitchd();
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_port_is_left_out_of_floods_and_put_back() {
    let switch = Switch::start();
    let address = switch.address();
    let shown = || switch.ofctl_1_0(&["show", "br0"]).contains("NO_FLOOD");
    assert_eq!(set_no_flood(&address, "p2", true).await.unwrap(), Some(true));
    assert!(shown());
    assert_eq!(set_no_flood(&address, "p2", true).await.unwrap(), Some(false));
    assert_eq!(set_no_flood(&address, "p2", false).await.unwrap(), Some(true));
    assert!(!shown());
    assert_eq!(set_no_flood(&address, "p9", true).await.unwrap(), None);
    switch.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow14"]);
    assert!(set_no_flood(&address, "p2", true).await.is_err());
}
