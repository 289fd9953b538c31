use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::*;
use crate::paths::Paths;
use crate::vlog::{Vlog, VlogArgs};

/// A server in a directory of its own, with one command, served by a runtime of its own until dropped.
struct Daemon {
    dir: tempfile::TempDir,
    path: PathBuf,
    exit: ExitRequest,
    runtime: tokio::runtime::Runtime,
}

impl Daemon {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "prog.ctl")
    }

    fn start_in(dir: tempfile::TempDir, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let path = dir.path().join(name);
        let vlog = Vlog::for_tests(&VlogArgs::default());
        let guard = runtime.enter();
        let mut server = Server::bind(&path, "prog", "1.2.3", &vlog).unwrap();
        server.register("echo", "[WORD]...", 1, 3, |args| async move {
            tokio::task::yield_now().await;
            if args[0] == "fail" { Err("told to fail".to_owned()) } else { Ok(args.join(" ")) }
        });
        let exit = server.exit_request();
        drop(guard);
        runtime.spawn(server.run());
        Self { dir, path, exit, runtime }
    }

    /// The real tool of OVS.
    fn appctl(&self, args: &[&str]) -> Output {
        Command::new("ovs-appctl").arg("-t").arg(&self.path).args(args).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn ovs_appctl_runs_commands() {
    let daemon = Daemon::start();
    let version = daemon.appctl(&["version"]);
    assert!(version.status.success(), "{version:?}");
    assert_eq!(stdout(&version), "prog 1.2.3\n");
    assert_eq!(stdout(&daemon.appctl(&["echo", "a", "b {c}"])), "a b {c}\n");
    let list = stdout(&daemon.appctl(&["list-commands"]));
    assert!(list.starts_with("The available commands are:\n"), "{list}");
    for line in ["  echo                    [WORD]...\n", "  exit\n", "  vlog/list\n", "  vlog/reopen\n"] {
        assert!(list.contains(line), "{line:?} in {list}");
    }
    assert_eq!(list, stdout(&daemon.appctl(&["help"])));
}

#[test]
fn ovs_appctl_shows_refusals_and_exits_with_two() {
    let daemon = Daemon::start();
    let cases: [(&[&str], &str); 4] = [
        (
            &["no-such"],
            "\"no-such\" is not a valid command (use \"list-commands\" to see a list of valid commands)",
        ),
        (&["echo"], "\"echo\" command requires at least 1 arguments"),
        (&["echo", "1", "2", "3", "4"], "\"echo\" command takes at most 3 arguments"),
        (&["echo", "fail"], "told to fail"),
    ];
    for (args, message) in cases {
        let output = daemon.appctl(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(message), "{message} in {}", stderr(&output));
    }
}

#[test]
fn ovs_appctl_changes_levels() {
    let daemon = Daemon::start();
    assert!(daemon.appctl(&["vlog/set", "ovsdb:console:dbg", "unixctl:syslog:warn"]).status.success());
    let list = stdout(&daemon.appctl(&["vlog/list"]));
    assert!(list.contains("ovsdb              DBG       INFO       INFO\n"), "{list}");
    assert!(list.contains("unixctl           INFO       WARN       INFO\n"), "{list}");
    let refused = daemon.appctl(&["vlog/set", "consol:dbg"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("consol"), "{refused:?}");
    assert!(stdout(&daemon.appctl(&["vlog/list-pattern"])).contains("%m"));
    assert_eq!(daemon.appctl(&["vlog/reopen"]).status.code(), Some(2), "no file was asked for");
}

#[test]
fn exit_reaches_the_daemon() {
    let daemon = Daemon::start();
    assert!(daemon.appctl(&["exit"]).status.success());
    let mut exit = daemon.exit.clone();
    daemon
        .runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), exit.requested()).await })
        .unwrap();
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let Daemon { dir, path, runtime, .. } = Daemon::start();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(runtime);
    assert!(!path.exists(), "{path:?} in {dir:?}");
}

#[test]
fn what_a_killed_daemon_left_is_replaced_but_no_file_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("prog.ctl")).unwrap());
    let daemon = Daemon::start_in(dir, "prog.ctl");
    assert!(daemon.appctl(&["version"]).status.success());

    let file = daemon.dir.path().join("precious");
    std::fs::write(&file, "text").unwrap();
    let _guard = daemon.runtime.enter();
    let refused = Server::bind(&file, "p", "1", &Vlog::for_tests(&VlogArgs::default()));
    assert!(refused.is_err_and(|error| error.to_string().contains("precious")));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn a_path_too_long_for_a_socket_address_works_for_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let deep = "d".repeat(150);
    std::fs::create_dir(dir.path().join(&deep)).unwrap();
    let daemon = Daemon::start_in(dir, &format!("{deep}/prog.ctl"));
    assert_eq!(stdout(&daemon.appctl(&["version"])), "prog 1.2.3\n");
    let answer = daemon.runtime.block_on(async {
        let mut client = Client::connect(&daemon.path).await.unwrap();
        client.call("version", &[]).await
    });
    assert_eq!(answer.unwrap(), "prog 1.2.3\n");
}

#[test]
fn the_client_asks_again_on_one_connection() {
    let daemon = Daemon::start();
    daemon.runtime.block_on(async {
        let mut client = Client::connect(&daemon.path).await.unwrap();
        for n in 0..100 {
            assert_eq!(client.call("echo", &[&n.to_string()]).await.unwrap(), format!("{n}\n"));
        }
        let refusal = client.call("echo", &["fail"]).await.unwrap_err();
        assert!(matches!(&refusal, UnixctlError::Refused(text) if text == "told to fail"), "{refusal:?}");
    });
}

#[test]
fn the_client_asks_ovs_itself() {
    let dir = tempfile::tempdir().unwrap();
    let ctl = dir.path().join("ovsdb.ctl");
    let db = dir.path().join("conf.db");
    let create = ["create", db.to_str().unwrap(), "/usr/share/openvswitch/vswitch.ovsschema"];
    assert!(Command::new("ovsdb-tool").args(create).status().unwrap().success());
    let mut server = Command::new("ovsdb-server")
        .arg(&db)
        .arg(format!("--unixctl={}", ctl.display()))
        .args(["-vconsole:off", "-vsyslog:off"])
        .env("OVS_RUNDIR", dir.path())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(async {
        let mut client = None;
        for _ in 0..3000 {
            client = Client::connect(&ctl).await.ok();
            if client.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut client = client?;
        let version = client.call("version", &[]).await;
        let refused = client.call("no-such", &[]).await;
        Some((version, refused))
    });
    let _ = server.kill();
    let _ = server.wait();
    let (version, refused) = answer.unwrap();
    assert!(version.unwrap().starts_with("ovsdb-server (Open vSwitch)"));
    assert!(matches!(refused.unwrap_err(), UnixctlError::Refused(text) if text.contains("no-such")));
}

#[test]
fn hostile_clients_do_no_harm() {
    let daemon = Daemon::start();
    let connect = || UnixStream::connect(&daemon.path).unwrap();
    let mut held = Vec::new();
    for garbage in
        [&b"hello"[..], b"{}", b"{\"id\":1}", b"[[[[", b"{\"id\":0,\"method\":\"echo\",\"params\":[1]}"]
    {
        let mut stream = connect();
        stream.write_all(garbage).unwrap();
        held.push(stream);
    }
    // An endless message is cut off, not gathered.
    let mut endless = connect();
    let chunk = vec![b'a'; 1 << 16];
    let _ = endless.write_all(b"{\"");
    let refused = (0..64).any(|_| endless.write_all(&chunk).is_err());
    assert!(refused, "4 MiB of one message were taken");
    // More connections than are served: the newcomer wins over the idle.
    held.extend((0..200).map(|_| connect()));
    assert_eq!(stdout(&daemon.appctl(&["version"])), "prog 1.2.3\n");
}

#[test]
fn a_request_in_pieces_and_two_in_one_write() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(&daemon.path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let one = br#"{"id":1,"method":"echo","params":["a}\"{"]}"#;
    for byte in one {
        stream.write_all(&[*byte]).unwrap();
    }
    stream
        .write_all(br#" {"id":"x","method":"version","params":[]}{"id":3,"method":"echo","params":["fail"]}"#)
        .unwrap();
    let mut text = String::new();
    while text.matches('}').count() < 4 {
        let mut buffer = [0; 512];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0);
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let answers: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0], serde_json::json!({"id": 1, "result": "a}\"{\n", "error": null}));
    assert_eq!(answers[1]["id"], "x");
    assert_eq!(answers[2]["error"], "told to fail\n");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let mut paths = Paths::from_env();
    paths.rundir = Path::new("/nonexistent").into();
    let error = Client::find("ovn-k8s-gateway-helper", &paths).unwrap_err().to_string();
    assert!(error.contains("ovn-k8s-gateway-helper is not running here"), "{error}");
    assert_eq!(Client::find("/a/b.ctl", &paths).unwrap(), Path::new("/a/b.ctl"));
}
