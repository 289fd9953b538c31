//! TCP and TLS, with certificates as ovs-pki makes them.

use super::*;
use crate::ovsdb::testing::{tool, until};
use crate::ovsdb::{Endpoint, TlsFiles};
use std::path::Path;
use tempfile::TempDir;

/// Two authorities, one key pair of each for either side.
fn pki() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (pki, log) = (format!("--dir={}", at("pki")), format!("--log={}", at("log")));
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("ovs-pki");
        let output =
            command.current_dir(dir.path()).args([pki.as_str(), log.as_str(), "--force"]).args(arguments);
        let output = output.output().unwrap();
        assert!(
            output.status.success(),
            "ovs-pki {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["init"]);
    run(&["req+sign", "server", "controller"]);
    run(&["req+sign", "client", "switch"]);
    dir
}

fn files(dir: &Path, ca: &str) -> TlsFiles {
    TlsFiles {
        private_key: dir.join("client-privkey.pem"),
        certificate: dir.join("client-cert.pem"),
        ca: dir.join("pki").join(ca).join("cacert.pem"),
    }
}

/// Starts a server that also listens on a port of its own choice.
fn listening(method: &str, options: &[String]) -> (Server, u16) {
    let mut server = Server::stopped(VSWITCH_SCHEMA);
    server.options = options.to_vec();
    server.options.push(format!("--remote={method}:0:127.0.0.1"));
    server.start();
    let mut port = None;
    until("the port is in the log", || {
        let log = std::fs::read_to_string(server.path("log")).unwrap_or_default();
        port = log.lines().find_map(|line| {
            let text = line.split("listening on port ").nth(1)?;
            text.trim().parse().ok()
        });
        port.is_some()
    });
    (server, port.unwrap())
}

#[tokio::test]
async fn tcp_by_address_and_by_name() {
    let (server, port) = listening("ptcp", &[]);
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0"]);
    for remote in [format!("tcp:127.0.0.1:{port}"), format!("tcp:localhost:{port}")] {
        let db = Db::spawn(config(&[remote.parse().unwrap()], "Open_vSwitch", monitors()));
        soon("sync", db.wait_synced()).await;
        assert_eq!(bridge_names(&db), ["br0"]);
    }
}

#[tokio::test]
async fn tls_trusts_the_chain_and_nothing_else() {
    let pki = pki();
    let dir = pki.path();
    let path = |name: &str| dir.join(name).display().to_string();
    let (server, port) = listening(
        "pssl",
        &[
            format!("--private-key={}", path("server-privkey.pem")),
            format!("--certificate={}", path("server-cert.pem")),
            format!("--ca-cert={}", path("pki/switchca/cacert.pem")),
        ],
    );
    server.ctl("ovs-vsctl", &["init", "--", "add-br", "br0"]);
    let remote = Remote::Ssl(Endpoint { host: "127.0.0.1".to_owned(), port });
    let follow = |tls| {
        let remote = remote.clone();
        Db::spawn(Config { tls, ..config(&[remote], "Open_vSwitch", monitors()) })
    };

    let db = follow(Some(files(dir, "controllerca")));
    soon("sync", db.wait_synced()).await;
    let root = db.snapshot().rows("Open_vSwitch").next().unwrap().uuid();
    let large = "y".repeat(300_000);
    let put = Operation::mutate("Open_vSwitch").row(root).put_key("external_ids", "large", &large);
    db.transact(vec![put]).await.unwrap();
    assert_eq!(db.snapshot().row("Open_vSwitch", root).unwrap().key("external_ids", "large"), Some(&*large));

    let missing = TlsFiles { private_key: dir.join("none.pem"), ..files(dir, "controllerca") };
    let mixed = TlsFiles { private_key: dir.join("server-privkey.pem"), ..files(dir, "controllerca") };
    let empty = TlsFiles { ca: dir.join("log"), ..files(dir, "controllerca") };
    for (tls, expected) in [
        (Some(files(dir, "switchca")), "no TLS with the database"),
        (None, "name the three files"),
        (Some(missing), "no private key can be read"),
        (Some(mixed), "does not go with the private key"),
        (Some(empty), "there is no certificate in it"),
    ] {
        let db = follow(tls);
        until_db(&db, expected, |_, status| {
            matches!(status, Status::Connecting { last_error: Some(error), .. } if error.contains(expected))
        })
        .await;
    }

    // A client whose certificate comes from the wrong authority is not let in by the server.
    tool("cp", &[&path("server-cert.pem"), &path("wrong-cert.pem")]);
    let wrong = TlsFiles {
        private_key: dir.join("server-privkey.pem"),
        certificate: dir.join("wrong-cert.pem"),
        ca: dir.join("pki/controllerca/cacert.pem"),
    };
    let db = follow(Some(wrong));
    until_db(&db, "refusal", |_, status| {
        matches!(status, Status::Connecting { last_error: Some(_), attempts: 2.., .. })
    })
    .await;
}
