//! A cluster of three members: the leader is found, its loss is survived, what is known is not read again.

use super::*;
use crate::ovsdb::testing::{NB_SCHEMA, tool, until};
use tempfile::TempDir;

const NB: &str = "OVN_Northbound";

struct Cluster {
    members: Vec<Server>,
    _dir: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = |name: &str| format!("unix:{}", dir.path().join(format!("{name}.raft")).display());
        let members = ["a", "b", "c"].map(|name| {
            let mut server = Server::in_directory(dir.path(), name);
            match name {
                "a" => tool("ovsdb-tool", &["create-cluster", &server.path("db"), NB_SCHEMA, &address(name)]),
                _ => {
                    let (own, first) = (address(name), address("a"));
                    tool("ovsdb-tool", &["join-cluster", &server.path("db"), NB, &own, &first])
                }
            };
            server.start();
            until("the member is in the cluster", || {
                server.appctl(&["cluster/status", NB]).contains("Status: cluster member")
            });
            server
        });
        Self { members: members.into(), _dir: dir }
    }

    fn remotes(&self) -> Vec<Remote> {
        self.members.iter().map(Server::remote).collect()
    }

    fn leader(&self) -> usize {
        let mut leader = None;
        until("there is a leader", || {
            let is_leader = |server: &Server| server.appctl(&["cluster/status", NB]).contains("Role: leader");
            leader = self.members.iter().position(|server| server.is_running() && is_leader(server));
            leader.is_some()
        });
        leader.unwrap()
    }
}

fn monitors() -> Vec<MonitorTable> {
    vec![MonitorTable::new("Logical_Switch", &["name"])]
}

fn add_switch(name: &str) -> Vec<Operation> {
    vec![Operation::insert("Logical_Switch").set("name", name)]
}

fn names(db: &Db) -> Vec<String> {
    let snapshot = db.snapshot();
    let mut names: Vec<String> =
        snapshot.rows("Logical_Switch").map(|row| row.string("name").unwrap().to_owned()).collect();
    names.sort();
    names
}

fn server_in_use(db: &Db) -> Option<Remote> {
    match db.status() {
        Status::Synced { remote, .. } => Some(remote),
        Status::Connecting { .. } => None,
    }
}

#[tokio::test]
async fn the_leader_is_followed_and_its_loss_survived() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    // The leader is the last of the list: the others are tried and left.
    let mut remotes = cluster.remotes();
    remotes.rotate_left(leader + 1);
    let db = Db::spawn(Config { leader_only: true, ..config(&remotes, NB, monitors()) });
    soon("sync", db.wait_synced()).await;
    assert_eq!(server_in_use(&db), Some(cluster.members[leader].remote()));
    db.transact(add_switch("one")).await.unwrap();
    let before = db.snapshot();

    cluster.members[leader].kill();
    until_db(&db, "loss", |_, status| !status.is_synced()).await;
    soon("sync with another leader", db.wait_synced()).await;
    assert_ne!(server_in_use(&db), Some(cluster.members[leader].remote()));
    assert_eq!(server_in_use(&db), Some(cluster.members[cluster.leader()].remote()));
    assert_eq!(db.snapshot().generation(), before.generation(), "nothing was seen to change");
    db.transact(add_switch("two")).await.unwrap();
    assert_eq!(names(&db), ["one", "two"]);

    // It comes back as a follower and is let alone; then the lead is handed over while all live.
    cluster.members[leader].start();
    let second = cluster.leader();
    cluster.members[second].appctl(&["cluster/failure-test", "transfer-leadership"]);
    cluster.members[second].appctl(&["cluster/status", NB]);
    until_db(&db, "a third leader", |db, _| {
        server_in_use(db).is_some_and(|remote| remote != cluster.members[second].remote())
    })
    .await;
    db.transact(add_switch("three")).await.unwrap();
    assert_eq!(names(&db), ["one", "three", "two"]);
}

#[tokio::test]
async fn a_follower_serves_and_a_member_without_cluster_does_not() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let mut remotes = cluster.remotes();
    remotes.rotate_left(follower);
    let db = Db::spawn(config(&remotes, NB, monitors()));
    soon("sync", db.wait_synced()).await;
    assert_eq!(server_in_use(&db), Some(cluster.members[follower].remote()));
    db.transact(add_switch("one")).await.unwrap();
    assert_eq!(names(&db), ["one"]);
    // Two of three die: the one that is left is no longer connected to its cluster.
    for index in [leader, follower] {
        cluster.members[index].kill();
    }
    until_db(&db, "no member to use", |_, status| {
        matches!(status, Status::Connecting { last_error: Some(_), attempts: 4.., .. })
    })
    .await;
    assert_eq!(names(&db), ["one"], "the cache stays");
    for index in [leader, follower] {
        cluster.members[index].start();
    }
    soon("sync", db.wait_synced()).await;
    db.transact(add_switch("two")).await.unwrap();
    assert_eq!(names(&db), ["one", "two"]);
}
