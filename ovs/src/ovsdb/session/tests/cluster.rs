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

/// Adds a switch, once, however often the cluster changes its mind about its leader meanwhile.
async fn add_switch(db: &Db, name: &str) {
    let work = async {
        loop {
            let absent = Operation::wait_absent("Logical_Switch").filter(Condition::equal("name", name));
            let insert = Operation::insert("Logical_Switch").set("name", name);
            match db.transact(vec![absent, insert]).await {
                Ok(_) => return,
                Err(error) if error.is_wait_failed() => return,
                Err(Error::NotConnected { .. } | Error::OutcomeUnknown { .. }) => _ = db.wait_synced().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    soon("a transaction", work).await;
    until_db(db, name, |db, _| names(db).iter().any(|one| one == name)).await;
}

/// Waits until the server in use is the leader, and gives its place.
async fn follows_the_leader(db: &Db, cluster: &Cluster) -> usize {
    let work = async {
        loop {
            db.wait_synced().await;
            let leader = cluster.leader();
            if server_in_use(db) == Some(cluster.members[leader].remote()) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the leader is followed", work).await
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
    let leader = follows_the_leader(&db, &cluster).await;
    add_switch(&db, "one").await;
    let before = db.snapshot();

    cluster.members[leader].kill();
    until_db(&db, "loss", |_, status| !status.is_synced()).await;
    soon("sync with another leader", db.wait_synced()).await;
    assert_ne!(follows_the_leader(&db, &cluster).await, leader);
    assert_eq!(db.snapshot().generation(), before.generation(), "nothing was seen to change");
    add_switch(&db, "two").await;
    assert_eq!(names(&db), ["one", "two"]);

    // It comes back as a follower and is let alone; then the leader goes while all live.
    cluster.members[leader].start();
    let second = follows_the_leader(&db, &cluster).await;
    cluster.members[second].appctl(&["cluster/leave", NB]);
    until_db(&db, "another leader", |db, _| {
        server_in_use(db).is_some_and(|remote| remote != cluster.members[second].remote())
    })
    .await;
    add_switch(&db, "three").await;
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
    add_switch(&db, "one").await;
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
    add_switch(&db, "two").await;
    assert_eq!(names(&db), ["one", "two"]);
}
