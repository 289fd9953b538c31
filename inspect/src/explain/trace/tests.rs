//! Traces as Open vSwitch 3.1 prints them.

use super::*;

fn port(number: u32) -> Output {
    Output::Port(OfPort(number))
}

fn tables(trace: &Trace) -> Vec<u8> {
    trace.lookups.iter().map(|met| met.table).collect()
}

#[test]
fn a_frame_that_stays_on_one_bridge() {
    let text = r#"Flow: sctp,in_port=2,nw_src=1.1.1.1,tp_src=4,tp_dst=5

bridge("breth0")
----------------
 0. ip,in_port=2, priority 800, cookie 0x6f766e380000003f
    goto_table:4
 4. sctp, priority 90, cookie 0x6f766e3800000044
    learn(table=6,idle_timeout=300,priority=10,cookie=0x6f766e380000002b,eth_type=0x800,nw_proto=132,output:OXM_OF_IN_PORT[])
     >> suppressing side effects, so learn action ignored
    output:1

Final flow: unchanged
Megaflow: recirc_id=0,eth,sctp,in_port=2,nw_frag=no
Datapath actions: 2
"#;
    let trace = Trace::read(text).unwrap();
    assert_eq!((tables(&trace), trace.outputs), (vec![0, 4], vec![port(1)]));
    let last = trace.lookups[1].flow.clone().unwrap();
    let expected = MatchedFlow { matches: "sctp".to_owned(), priority: 90, cookie: 0x6f76_6e38_0000_0044 };
    assert_eq!(last, expected);
}

#[test]
fn after_conntrack_the_bridge_goes_on() {
    let text = r#"Flow: ct_mark=0x1,tcp,in_port=1

bridge("breth0")
----------------
 0. ip,in_port=1, priority 500, cookie 0x6f766e3800000011
    goto_table:1
 1. priority 0, cookie 0x6f766e380000001c
    goto_table:2
 2. ip, priority 0, cookie 0x6f766e3800000030
    ct(table=3,zone=64000)
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 3.
     -> Sets the packet to an untracked state, and clears all the conntrack fields.

Final flow: unchanged
Megaflow: recirc_id=0,ct_state=-trk,eth,tcp,in_port=1,nw_frag=no
Datapath actions: ct(zone=64000),recirc(0x3)

===============================================================================
recirc(0x3) - resume conntrack with ct_state=est|trk
===============================================================================

Flow: recirc_id=0x3,ct_state=est|trk,ct_zone=64000,ct_mark=0x1,eth,tcp,in_port=1

bridge("breth0")
----------------
    thaw
        Resuming from table 3
 3. ct_mark=0x1, priority 100, cookie 0x6f766e3800000032
    output:2

bridge("br-int")
----------------
 0. reg0=0x2, priority 0
    resubmit(,10)
10. priority 0, cookie 0xb9452c35
    ct(table=8,zone=3)
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 8.

Final flow: unchanged
Datapath actions: ct(zone=3),recirc(0x4)

===============================================================================
recirc(0x4) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x4,ct_state=new|trk,ct_zone=3,eth,tcp,in_port=1

bridge("breth0")
----------------
    thaw
        Resuming from table 8
 8. priority 0
    LOCAL

Final flow: unchanged
Datapath actions: 3
"#;
    let trace = Trace::read(text).unwrap();
    assert_eq!((tables(&trace), trace.outputs), (vec![0, 1, 2, 3], vec![port(2)]));
}

#[test]
fn what_other_bridges_do_is_theirs() {
    let text = r#"Flow: udp,in_port=1

bridge("breth0")
----------------
 0. udp,in_port=1,tp_dst=1, priority 40000, cookie 0x5
    LOCAL
    output:2

    bridge("br-int")
    ----------------
         0. priority 1
            resubmit(,8)
             8. ip, priority 1
                    ct(table=9,zone=3)
                    drop
                     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 9.
                    LOCAL
            resubmit(,9)
         9. ip, priority 1
            IN_PORT

            bridge("breth0")
            ----------------
                 0. ip,in_port=2, priority 800, cookie 0x6f766e380000003f
                    goto_table:4
                 4. ip, priority 0, cookie 0x6f766e3800000046
                    output:1
            LOCAL
    NORMAL
     -> no learned MAC for destination, flooding

bridge("br-int")
----------------
 0. priority 1
    LOCAL

Final flow: unchanged
Datapath actions: 100
"#;
    let trace = Trace::read(text).unwrap();
    assert_eq!(tables(&trace), [0]);
    assert_eq!(trace.outputs, [Output::Port(OfPort::LOCAL), port(2), Output::Port(OfPort::NORMAL)]);
    assert_eq!(trace.lookups[0].flow.as_ref().unwrap().cookie, 5);
}

#[test]
fn dead_ends_and_skipped_outputs() {
    let text = r#"Flow: udp,in_port=1

bridge("breth0")
----------------
 0. udp,in_port=1,tp_dst=3, priority 40000
    resubmit(,3)
     3. priority 0, cookie 0x6f766e3800000034
            LOCAL
    output:1
     >> skipping output to input port
    CONTROLLER:128
    goto_table:9
 9. No match.
    drop

Final flow: unchanged
Datapath actions: 100
"#;
    let trace = Trace::read(text).unwrap();
    assert_eq!(tables(&trace), [0, 3, 9]);
    assert_eq!(trace.lookups[2].flow, None);
    assert_eq!(trace.outputs, [Output::Port(OfPort::LOCAL), Output::Other("CONTROLLER:128".to_owned())]);
}

#[test]
fn what_is_no_trace_is_none() {
    for text in ["", "Bad openflow flow syntax", "bridge(\"breth0\")\n----\n"] {
        assert_eq!(Trace::read(text), None, "{text}");
    }
}
