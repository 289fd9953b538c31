//! The client against real servers. What they must not do is in `faults`, clusters and TLS have their own files.

mod cluster;
mod faults;
mod tls;

use super::super::testing::{NB_SCHEMA, Server, VSWITCH_SCHEMA, config, soon, until_db};
use super::super::{Atom, Condition, Datum, Db, MonitorTable, Operation, Remote};
use super::*;

fn monitors() -> Vec<MonitorTable> {
    vec![
        MonitorTable::new("Open_vSwitch", &["bridges", "external_ids", "next_cfg"]),
        MonitorTable::new("Bridge", &["name", "ports", "external_ids"]),
        MonitorTable::new("Port", &["name"]),
    ]
}

fn follow(server: &Server) -> Db {
    Db::spawn(config(&[server.remote()], "Open_vSwitch", monitors()))
}

fn bridge_names(db: &Db) -> Vec<String> {
    let mut names: Vec<String> =
        db.snapshot().rows("Bridge").map(|row| row.string("name").unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A bridge is kept only if the root row refers to it.
fn add_bridge(db: &Db, name: &str) -> Vec<Operation> {
    let root = db.snapshot().rows("Open_vSwitch").next().unwrap().uuid();
    vec![
        Operation::insert("Bridge").named("b").set("name", name),
        Operation::mutate("Open_vSwitch").row(root).put("bridges", Atom::named("b")).add("next_cfg", 1),
    ]
}

#[tokio::test]
async fn the_cache_follows_what_others_write() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    let db = follow(&server);
    let snapshot = soon("sync", db.wait_synced()).await;
    assert_eq!(snapshot.table("Bridge").unwrap().len(), 0);
    server.ctl("ovs-vsctl", &["init"]);
    server.ctl("ovs-vsctl", &["add-br", "br0", "--", "br-set-external-id", "br0", "a", "1"]);
    until_db(&db, "br0", |db, _| bridge_names(db) == ["br0"]).await;
    let snapshot = db.snapshot();
    let bridge = snapshot.table("Bridge").unwrap().find("name", &"br0".into()).unwrap();
    assert_eq!(bridge.key("external_ids", "a"), Some("1"));
    let port = bridge.references("ports").next().unwrap();
    assert_eq!(snapshot.row("Port", port).unwrap().string("name").unwrap(), "br0");

    server.ctl("ovs-vsctl", &["add-port", "br0", "p1", "--", "add-port", "br0", "p2"]);
    server.ctl("ovs-vsctl", &["set", "Bridge", "br0", "external_ids:a=2", "external_ids:b=3"]);
    server.ctl("ovs-vsctl", &["del-port", "p1", "--", "remove", "Bridge", "br0", "external_ids", "b"]);
    until_db(&db, "the last change", |db, _| {
        let snapshot = db.snapshot();
        let bridge = snapshot.rows("Bridge").next().unwrap();
        bridge.references("ports").count() == 2
            && bridge.get("external_ids") == Some(&Datum::map([("a", "2")]))
            && snapshot.table("Port").unwrap().len() == 2
    })
    .await;
}

#[tokio::test]
async fn the_snapshot_shows_a_transaction_when_its_answer_comes() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init"]);
    let db = follow(&server);
    soon("sync", db.wait_synced()).await;
    for number in 0..50 {
        let name = format!("br{number}");
        let results = db.transact(add_bridge(&db, &name)).await.unwrap();
        let inserted = results[0].inserted().unwrap();
        assert_eq!(results[1].count(), Some(1));
        assert_eq!(db.snapshot().row("Bridge", inserted).unwrap().string("name").unwrap(), name);
    }
    let root = db.snapshot().rows("Open_vSwitch").next().unwrap().clone();
    assert_eq!(root.get("next_cfg").unwrap().as_integer(), Some(50));
    let mutate = || Operation::mutate("Open_vSwitch").row(root.uuid());
    db.transact(vec![mutate().put_key("external_ids", "k", "1")]).await.unwrap();
    db.transact(vec![mutate().put_key("external_ids", "k", "2").put_key("external_ids", "l", "3")])
        .await
        .unwrap();
    db.transact(vec![mutate().take("external_ids", Datum::map([("l", "other")]))]).await.unwrap();
    let ids = |db: &Db| db.snapshot().rows("Open_vSwitch").next().unwrap().get("external_ids").cloned();
    assert_eq!(ids(&db), Some(Datum::map([("k", "2"), ("l", "3")])));
    let update = Operation::update("Open_vSwitch").set("external_ids", Datum::empty_map());
    assert_eq!(db.transact(vec![update]).await.unwrap()[0].count(), Some(1));
    assert_eq!(ids(&db), Some(Datum::empty_map()));
}

#[tokio::test]
async fn guards_errors_and_selections() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0"]);
    let db = follow(&server);
    soon("sync", db.wait_synced()).await;

    let guard = || Operation::wait_absent("Bridge").filter(Condition::equal("name", "br0"));
    let error = db.transact(vec![guard(), Operation::delete("Bridge")]).await.unwrap_err();
    assert!(error.is_wait_failed(), "{error}");
    let bridge = db.snapshot().rows("Bridge").next().unwrap().uuid();
    let same = Operation::wait_equal("Bridge")
        .row(bridge)
        .set("name", "br0")
        .set("external_ids", Datum::empty_map());
    let set = Operation::mutate("Bridge").row(bridge).put_key("external_ids", "a", "b");
    db.transact(vec![same.clone(), set.clone(), Operation::comment("a \"remark\"")]).await.unwrap();
    assert!(
        db.transact(vec![same, set]).await.unwrap_err().is_wait_failed(),
        "the row is not the same any more"
    );
    let other = Operation::wait_different("Bridge").row(bridge).set("name", "br1");
    db.transact(vec![other]).await.unwrap();

    // The index on the name is checked only when the whole is committed.
    let error = db.transact(add_bridge(&db, "br0")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Transaction { operation: None, error, .. } if error == "constraint violation")
    );
    let wrong = vec![Operation::comment("x"), Operation::insert("Bridge").set("nonsense", 1), guard()];
    let error = db.transact(wrong).await.unwrap_err();
    assert!(matches!(&error, Error::Transaction { operation: Some(1), .. }), "{error}");
    let mut aborted = add_bridge(&db, "br9");
    aborted.push(Operation::abort());
    assert!(matches!(db.transact(aborted).await, Err(Error::Transaction { operation: Some(2), .. })));
    assert_eq!(bridge_names(&db), ["br0"]);

    let select = |condition| Operation::select("Bridge").filter(condition).columns(&["name", "_uuid"]);
    let found = db
        .transact(vec![
            select(Condition::includes("external_ids", Datum::map([("a", "b")]))),
            select(Condition::excludes("external_ids", Datum::map([("a", "b")]))),
            select(Condition::different("name", "br0")),
            Operation::select("Bridge"),
        ])
        .await
        .unwrap();
    assert_eq!(found[0].rows()[0]["name"], Datum::from("br0"));
    assert_eq!(found[0].rows()[0]["_uuid"], Datum::from(bridge));
    assert!(found[1].rows().is_empty() && found[2].rows().is_empty());
    assert!(found[3].rows()[0].contains_key("fail_mode"));
}

#[tokio::test]
async fn only_rows_that_meet_a_condition_are_held() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0", "--", "add-br", "br1", "--", "add-br", "br2"]);
    let conditions = vec![Condition::equal("name", "br0"), Condition::equal("name", "br2")];
    let monitor = MonitorTable { conditions, ..MonitorTable::new("Bridge", &["name"]) };
    let db = Db::spawn(config(&[server.remote()], "Open_vSwitch", vec![monitor]));
    soon("sync", db.wait_synced()).await;
    assert_eq!(bridge_names(&db), ["br0", "br2"]);
}

#[tokio::test]
async fn columns_of_another_schema_are_left_out() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0"]);
    let monitors = vec![
        MonitorTable::new("Bridge", &["name", "from_the_future"]),
        MonitorTable::new("From_The_Future", &["name"]),
    ];
    let db = Db::spawn(config(&[server.remote()], "Open_vSwitch", monitors));
    let snapshot = soon("sync", db.wait_synced()).await;
    assert!(snapshot.table("From_The_Future").is_none());
    let table = snapshot.table("Bridge").unwrap();
    let has = |column| table.columns().position(column).is_some();
    assert!(has("name") && !has("from_the_future"));
    assert_eq!(table.rows().next().unwrap().optional_string("from_the_future"), None);
}

#[tokio::test]
async fn a_restart_is_seen_as_the_difference() {
    let mut server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0", "--", "add-br", "br1"]);
    let db = follow(&server);
    let before = soon("sync", db.wait_synced()).await;
    let mut seen = db.subscribe();
    server.kill();
    until_db(&db, "loss", |_, status| !status.is_synced()).await;
    assert_eq!(bridge_names(&db), ["br0", "br1"], "a lost connection leaves the cache");
    let error = db.transact(add_bridge(&db, "br2")).await.unwrap_err();
    assert!(matches!(error, Error::NotConnected { .. }), "{error}");
    until_db(&db, "a failure to report", |_, status| {
        matches!(status, Status::Connecting { attempts: 2.., last_error: Some(error), .. }
            if error.contains("is ovsdb-server running there"))
    })
    .await;

    // Nothing new: not even the generation changes.
    server.start();
    soon("sync", db.wait_synced()).await;
    assert_eq!(db.snapshot().generation(), before.generation());

    server.kill();
    server.start();
    server.ctl("ovs-vsctl", &["del-br", "br1"]);
    until_db(&db, "the difference", |db, status| status.is_synced() && bridge_names(db) == ["br0"]).await;
    let after = db.snapshot();
    let br0 =
        |snapshot: &Snapshot| snapshot.table("Bridge").unwrap().find("name", &"br0".into()).unwrap().clone();
    assert!(Arc::ptr_eq(&br0(&before), &br0(&after)), "an unchanged row is the same row");
    assert!(seen.has_changed().unwrap());
    assert!(seen.borrow_and_update().is_synced());
}

#[tokio::test]
async fn a_reply_that_never_comes_is_told() {
    let mut server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init"]);
    let db = follow(&server);
    soon("sync", db.wait_synced()).await;
    server.signal(nix::sys::signal::Signal::SIGSTOP);
    let operations = add_bridge(&db, "br0");
    let (outcome, ()) = tokio::join!(soon("an outcome", db.transact(operations)), async {
        tokio::task::yield_now().await;
        server.kill();
    });
    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. } | Error::NotConnected { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_transactions_at_once_and_dropped_ones() {
    let server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init"]);
    let db = follow(&server);
    soon("sync", db.wait_synced()).await;
    let root = db.snapshot().rows("Open_vSwitch").next().unwrap().uuid();
    // Large answers and large requests together fill the buffers of both directions.
    let large = "x".repeat(40_000);
    let tasks: Vec<_> = (0..400)
        .map(|number: usize| {
            let (db, large) = (db.clone(), large.clone());
            tokio::spawn(async move {
                let key = format!("k{}", number % 8);
                let work = db.transact(vec![
                    Operation::mutate("Open_vSwitch").row(root).put_key("external_ids", &key, &large),
                    Operation::mutate("Open_vSwitch").row(root).add("next_cfg", 1),
                    Operation::select("Open_vSwitch").columns(&["external_ids"]),
                ]);
                if number.is_multiple_of(10) {
                    // Asked once, then dropped.
                    tokio::select! { biased; _ = work => {}, () = tokio::task::yield_now() => {} }
                } else {
                    work.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        soon("a transaction", task).await.unwrap();
    }
    let count =
        db.snapshot().rows("Open_vSwitch").next().unwrap().get("next_cfg").unwrap().as_integer().unwrap();
    assert!((360..=400).contains(&count), "{count} transactions done");
}

#[tokio::test]
async fn a_lock_has_one_holder_and_can_be_stolen() {
    let mut server = Server::standalone(VSWITCH_SCHEMA);
    let (first, second) = (follow(&server), follow(&server));
    soon("sync", async { (first.wait_synced().await, second.wait_synced().await) }).await;
    let one = first.lock("ovn_k8s");
    soon("the lock", one.wait_held()).await;
    let two = second.lock("ovn_k8s");
    let guarded = vec![Operation::assert_lock("ovn_k8s"), Operation::select("Bridge")];
    first.transact(guarded.clone()).await.unwrap();
    let error = second.transact(guarded.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Transaction { operation: Some(0), .. }), "{error}");
    assert!(!two.is_held());

    two.steal();
    soon("the stolen lock", two.wait_held()).await;
    let mut watch = one.watch();
    soon("the loss", watch.wait_for(|held| !held)).await.unwrap();
    second.transact(guarded.clone()).await.unwrap();
    drop(two);
    soon("the lock back", one.wait_held()).await;

    let again = first.lock("ovn_k8s");
    assert!(again.is_held(), "the same handle's lock is shared");
    drop(one);
    server.kill();
    let mut watch = again.watch();
    soon("the loss", watch.wait_for(|held| !held)).await.unwrap();
    server.start();
    soon("the lock after the restart", again.wait_held()).await;
    let other = second.lock("ovn_k8s");
    drop((first, again));
    soon("the lock of a client that is gone", other.wait_held()).await;
}

#[tokio::test]
async fn many_rows_come_whole_and_survive_a_restart() {
    let mut server = Server::standalone(VSWITCH_SCHEMA);
    server.ctl("ovs-vsctl", &["init"]);
    let db = follow(&server);
    soon("sync", db.wait_synced()).await;
    let root = db.snapshot().rows("Open_vSwitch").next().unwrap().uuid();
    let mut operations: Vec<Operation> = (0..3000)
        .map(|number| {
            Operation::insert("Bridge").named(&format!("b{number}")).set("name", format!("br{number}"))
        })
        .collect();
    let all = Datum::set((0..3000).map(|number| Atom::named(&format!("b{number}"))));
    operations.push(Operation::mutate("Open_vSwitch").row(root).put("bridges", all));
    db.transact(operations).await.unwrap();
    let before = db.snapshot();
    assert_eq!(before.table("Bridge").unwrap().len(), 3000);
    let removed = before.rows("Bridge").nth(1234).unwrap().uuid();
    let drop_one = Operation::mutate("Open_vSwitch").row(root).take("bridges", removed);
    db.transact(vec![drop_one]).await.unwrap();
    let after = db.snapshot();
    assert!(after.row("Bridge", removed).is_none());
    let references: Vec<_> = after.row("Open_vSwitch", root).unwrap().references("bridges").collect();
    assert_eq!(references, after.rows("Bridge").map(|row| row.uuid()).collect::<Vec<_>>());
    server.kill();
    server.start();
    until_db(&db, "sync", |_, status| status.is_synced()).await;
    soon("sync", db.wait_synced()).await;
    assert_eq!(db.snapshot().generation(), after.generation());
}

/// A cache that followed every change is the same as one read at once: our idea of differences is the server's.
#[tokio::test]
async fn following_gives_what_reading_gives() {
    let server = Server::standalone(NB_SCHEMA);
    let monitors = || {
        vec![
            MonitorTable::new("Address_Set", &["name", "addresses", "external_ids"]),
            MonitorTable::new("Logical_Router", &["name", "enabled", "options"]),
        ]
    };
    let open = || Db::spawn(config(&[server.remote()], "OVN_Northbound", monitors()));
    let db = open();
    soon("sync", db.wait_synced()).await;
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..300 {
        let mut word = || format!("w{}", random(9));
        let some = Datum::set([word(), word(), word()]);
        let pairs = Datum::map([(word(), word()), (word(), word())]);
        let rows: Vec<Uuid> = ["Address_Set", "Logical_Router"]
            .iter()
            .flat_map(|table| db.snapshot().rows(table).map(|row| row.uuid()).collect::<Vec<_>>())
            .collect();
        let row =
            rows.get(usize::try_from(random(rows.len().max(1) as u64)).unwrap()).copied().unwrap_or_default();
        let set = |operation: Operation| operation.row(row);
        let operation = match random(10) {
            0 => Operation::insert("Address_Set").set("name", format!("a{step}")).set("addresses", some),
            1 => Operation::insert("Logical_Router").set("name", format!("r{step}")).set("options", pairs),
            2 => set(Operation::mutate("Address_Set")).put("addresses", some),
            3 => set(Operation::mutate("Address_Set")).take("addresses", some),
            4 => set(Operation::update("Address_Set")).set("external_ids", pairs),
            5 => set(Operation::mutate("Address_Set")).take("external_ids", some).put("external_ids", pairs),
            6 => {
                set(Operation::update("Logical_Router")).set("enabled", random(2) == 0).set("options", pairs)
            }
            7 => set(Operation::update("Logical_Router")).set("enabled", Datum::empty_set()),
            8 => set(Operation::update("Address_Set")).set("addresses", Datum::empty_set()),
            _ if random(4) == 0 => set(Operation::delete("Address_Set")),
            _ => set(Operation::update("Address_Set"))
                .set("addresses", some)
                .set("external_ids", Datum::empty_map()),
        };
        soon("a transaction", db.transact(vec![operation])).await.unwrap();
    }
    let fresh = open();
    let fresh = soon("sync", fresh.wait_synced()).await;
    let followed = db.snapshot();
    for table in ["Address_Set", "Logical_Router"] {
        let rows = |snapshot: &Snapshot| snapshot.rows(table).cloned().collect::<Vec<_>>();
        assert!(!rows(&fresh).is_empty());
        assert_eq!(rows(&followed), rows(&fresh));
    }
}
