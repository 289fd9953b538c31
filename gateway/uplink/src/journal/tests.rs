//! Journals on good and on bad disks.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use ovs::ovsdb::Remote;
use tempfile::TempDir;

use super::super::error::Error;
use super::*;

const NOW: Duration = Duration::ZERO;
/// Also for what is free: a program that another test starts has a copy of every descriptor until its exec.
const PATIENCE: Duration = Duration::from_secs(30);

fn uplink(bridge: &str) -> Uplink {
    Uplink {
        nic: NicIdentity {
            index: 2,
            name: bridge.replacen("br", "", 1),
            mac: "0a:00:00:00:00:01".to_owned(),
            driver: Some("veth".to_owned()),
        },
        bridge: bridge.to_owned(),
        datapath: Datapath::Netdev,
        rows: DeviceRows::none(&host::rtnl::Device { index: 2, name: bridge.replacen("br", "", 1) }),
        bridge_rows: None,
        held: PriorOvsConfig::default(),
        guard: format!("ovn_k8s_{bridge}"),
        managers: vec![],
    }
}

fn journal() -> Journal {
    let uplinks = vec![uplink("breth0"), uplink("breth1")];
    Journal::begin(Direction::Attach, &Remote::unix("/run/db.sock"), uplinks).unwrap()
}

/// A folder, and a network namespace of the test's own: there is one at work in each.
fn folder() -> (TempDir, Folder) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::below(dir.path());
    (dir, folder)
}

fn files(folder: &Folder) -> Vec<String> {
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_committed_run_leaves_a_record() {
    let (_dir, folder) = folder();
    assert_eq!(folder.journal().unwrap(), None);
    assert!(folder.all_taken().unwrap().is_empty(), "a missing folder has no records");
    let lock = folder.lock(PATIENCE).unwrap();
    let mut journal = journal();
    lock.begin(&journal).unwrap();
    assert_eq!(folder.journal().unwrap().unwrap(), journal);
    assert!(journal.is_of_this_boot().unwrap() && journal.state.is_unfinished());

    lock.close(&mut journal, JournalState::Committed).unwrap();
    assert_eq!(folder.journal().unwrap().unwrap().state, JournalState::Committed);
    assert_eq!(folder.taken("breth1").unwrap().unwrap().uplink, uplink("breth1"));
    assert_eq!(folder.all_taken().unwrap().len(), 2);
    assert_eq!(files(&folder), ["journal.json", "lock", "taken-breth0.json", "taken-breth1.json"]);
    lock.forget("breth0").unwrap();
    lock.forget("breth0").unwrap();
    assert!(folder.taken("breth0").unwrap().is_none());
}

#[test]
fn an_undone_run_leaves_no_record() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    let mut journal = journal();
    lock.begin(&journal).unwrap();
    lock.close(&mut journal, JournalState::UndoneOvsdbPending).unwrap();
    assert!(folder.journal().unwrap().unwrap().state.is_unfinished());
    lock.close(&mut journal, JournalState::Undone).unwrap();
    assert!(!folder.journal().unwrap().unwrap().state.is_unfinished());
    assert_eq!(files(&folder), ["journal.json", "lock"]);
}

#[test]
fn a_truncated_journal_is_refused_at_every_length() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    lock.begin(&journal()).unwrap();
    let path = folder.journal_path();
    let whole = fs::read(&path).unwrap();
    // The last byte is only the end of the line.
    for length in 0..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        match folder.journal() {
            Err(Error::JournalBroken { .. }) => {}
            other => panic!("cut at {length}: {other:?}"),
        }
    }
    let mut zeros = whole.clone();
    zeros[whole.len() / 2..].fill(0);
    fs::write(&path, zeros).unwrap();
    let error = folder.journal().unwrap_err().to_string();
    assert!(error.contains("journal.json") && error.contains("ovn-k8s-util recover"), "{error}");
    // Put aside, a new one can begin.
    assert!(lock.put_aside(&path).unwrap().unwrap().ends_with("journal.json.unreadable"));
    assert_eq!(folder.journal().unwrap(), None);
    assert_eq!(lock.put_aside(&path).unwrap(), None);
}

#[test]
fn a_journal_of_another_version_is_refused_with_its_number() {
    let (_dir, folder) = folder();
    let _lock = folder.lock(PATIENCE).unwrap();
    fs::write(folder.journal_path(), r#"{"version":2,"something":"else"}"#).unwrap();
    let error = folder.journal().unwrap_err();
    assert!(matches!(error, Error::JournalVersion { version: 2, .. }), "{error}");
    assert!(error.to_string().contains("format 2, not 1"), "{error}");
}

#[test]
fn a_journal_of_another_boot_is_recognised() {
    let journal = Journal { boot_id: "0".to_owned(), ..journal() };
    assert!(!journal.is_of_this_boot().unwrap());
    assert!(!journal.taken().next().unwrap().is_of_this_boot().unwrap());
}

#[test]
fn a_second_run_is_refused_with_the_pid_of_the_first() {
    let (_dir, folder) = folder();
    let first = folder.lock(PATIENCE).unwrap();
    let error = folder.lock(Duration::from_millis(20)).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    let waiting = std::thread::spawn({
        let folder = folder.clone();
        move || folder.lock(PATIENCE).map(|lock| lock.is_held())
    });
    drop(first);
    assert!(waiting.join().unwrap().unwrap());
}

#[test]
fn an_undo_continues_without_the_lock() {
    let (_dir, folder) = folder();
    let _stuck = folder.lock(PATIENCE).unwrap();
    let lock = folder.lock_or_go_on(Duration::from_millis(20));
    assert!(!lock.is_held());
    lock.begin(&journal()).unwrap();
}

#[test]
fn a_child_process_does_not_inherit_the_lock() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    drop(lock);
    let free = folder.lock(PATIENCE);
    child.kill().unwrap();
    child.wait().unwrap();
    free.unwrap();
}

/// Runs `work` on a folder in a file system of its own, which goes with the thread.
fn on_a_small_disk(size: &str, work: impl FnOnce(&Folder) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let options = format!("size={size}");
        mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        work(&Folder::below(dir.path()));
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

/// Fills what is left.
fn fill(folder: &Folder) {
    let mut file = fs::File::create(folder.path().join("ballast")).unwrap();
    let page = [1_u8; 4096];
    while std::io::Write::write_all(&mut file, &page).is_ok() {}
}

/// A journal of `size` bytes and more.
fn large(size: usize) -> Journal {
    let mut journal = journal();
    journal.uplinks.truncate(1);
    journal.uplinks[0].rows.sysctls.insert("filler".into(), "f".repeat(size));
    journal
}

#[test]
fn a_full_disk_refuses_the_run_and_leaves_no_file() {
    on_a_small_disk("64k", |folder| {
        let lock = folder.lock(PATIENCE).unwrap();
        // The second one fits once, and not a second time.
        for size in [100_000, 30_000] {
            let error = lock.begin(&large(size)).unwrap_err();
            assert!(error.to_string().contains("free space there"), "{error}");
            assert_eq!(files(folder), ["lock"], "{size}");
        }
        lock.begin(&large(10_000)).unwrap();
    });
}

#[test]
fn a_journal_can_be_closed_on_a_disk_that_filled_up_during_the_run() {
    on_a_small_disk("256k", |folder| {
        let lock = folder.lock(PATIENCE).unwrap();
        let mut journal = large(20_000);
        lock.begin(&journal).unwrap();
        fill(folder);
        // A commit needs more space: it fails and leaves no partial file.
        let error = lock.close(&mut journal, JournalState::Committed).unwrap_err();
        assert!(error.to_string().contains("free space there"), "{error}");
        assert_eq!(journal.state, JournalState::Open);
        assert_eq!(folder.journal().unwrap().unwrap().state, JournalState::Open);
        assert!(folder.taken("breth0").unwrap().is_none());
        lock.close(&mut journal, JournalState::UndoneOvsdbPending).unwrap();
        lock.close(&mut journal, JournalState::Undone).unwrap();
        assert_eq!(folder.journal().unwrap().unwrap().state, JournalState::Undone);
    });
}

#[test]
fn a_read_only_folder_is_refused() {
    on_a_small_disk("64k", |folder| {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let none = None::<&str>;
        mount(none, folder.path().parent().unwrap(), none, read_only, none).unwrap();
        let error = folder.lock(PATIENCE).unwrap_err().to_string();
        assert!(error.contains("--state-dir") && !error.contains('\n'), "{error}");
        assert_eq!(folder.journal().unwrap(), None);
    });
}

#[test]
fn a_state_dir_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Folder::below(file.path()).lock(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("--state-dir"), "{error}");
}

#[test]
fn anything_but_a_regular_file_is_reported_and_replaced() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    let taken = folder.path().join("taken-breth0.json");
    type Put = fn(&Path);
    let put: [(&str, Put); 4] = [
        ("a fifo", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
        ("a folder", |path| fs::create_dir_all(path.join("more")).unwrap()),
        ("a device", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
        ("longer than", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ];
    for (what, put) in put {
        put(&folder.journal_path());
        put(&taken);
        let error = folder.journal().unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("ovn-k8s-util recover"), "{error}");
        assert!(folder.taken("breth0").unwrap_err().to_string().contains(what));
        let [one] = &folder.all_taken().unwrap()[..] else { panic!("{what}") };
        assert!(matches!(one, Err(Error::JournalBroken { .. })), "{one:?}");
        for path in [&folder.journal_path(), &taken] {
            assert!(lock.put_aside(path).unwrap().is_some(), "{what}");
        }
    }
    // In the place of what is written before it gets its name.
    mkfifo(&folder.path().join("journal.json.new"), Mode::S_IRWXU).unwrap();
    lock.begin(&journal()).unwrap();
    assert_eq!(folder.journal().unwrap().unwrap().state, JournalState::Open);
}

#[test]
fn a_lock_that_is_no_regular_file_is_refused() {
    let (_dir, folder) = folder();
    fs::create_dir_all(folder.path()).unwrap();
    let path = folder.lock_path();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let error = folder.lock(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("a fifo") && error.contains("remove that file"), "{error}");
    assert!(!folder.lock_or_go_on(PATIENCE).is_held());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(folder.lock(PATIENCE).unwrap_err().to_string().contains("a device"));
}

#[test]
fn runs_with_different_folders_exclude_each_other() {
    let (_dir, first) = folder();
    let other = tempfile::tempdir().unwrap();
    let second = Folder::below(other.path());
    let held = first.lock(PATIENCE).unwrap();
    let error = second.lock(Duration::from_millis(20)).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    // An undo continues without the lock, and can see that another process holds it.
    let without = second.lock_or_go_on(NOW);
    assert!(!without.is_held() && without.is_held_elsewhere());
    drop((held, without));
    let held = second.lock(PATIENCE).unwrap();
    held.wait_for_watchdog(PATIENCE).unwrap();
    let watching = watching().unwrap();
    assert!(matches!(held.wait_for_watchdog(NOW), Err(Error::Busy { .. })));
    drop(watching);
    held.wait_for_watchdog(PATIENCE).unwrap();
}

#[test]
fn impossible_device_names_are_refused() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    let begin = |change: &dyn Fn(&mut Journal)| {
        let mut journal = journal();
        change(&mut journal);
        lock.begin(&journal).unwrap();
        folder.journal()
    };
    begin(&|_| {}).unwrap();
    let named = |journal: &mut Journal, name: &str| {
        journal.uplinks[0].nic.name = name.to_owned();
        journal.uplinks[0].rows.device.name = name.to_owned();
    };
    for name in ["lo", "", "..", "a/b", "a b", "sixteen-and-more", "new\nline", "breth0", "eth1"] {
        let found = begin(&|journal| named(journal, name));
        assert!(matches!(found, Err(Error::JournalBroken { .. })), "{name}: {found:?}");
    }
    for bridge in ["lo", "eth1", "eth0", "breth1", ""] {
        let found = begin(&|journal| journal.uplinks[0].bridge = bridge.to_owned());
        assert!(matches!(found, Err(Error::JournalBroken { .. })), "{bridge}: {found:?}");
    }
    let found = begin(&|journal| journal.uplinks[0].rows.device.name = "eth7".to_owned());
    assert!(found.unwrap_err().to_string().contains("eth7"));
    // A record under another bridge's name.
    lock.keep(&journal().taken().next().unwrap()).unwrap();
    fs::rename(folder.taken_path("breth0"), folder.taken_path("breth5")).unwrap();
    assert!(folder.taken("breth5").unwrap_err().to_string().contains("breth0"));
}

#[test]
fn the_record_keeps_the_configuration_before_the_first_takeover() {
    let (_dir, folder) = folder();
    let lock = folder.lock(PATIENCE).unwrap();
    let first = journal().taken().next().unwrap();
    let mut journal = journal();
    journal.uplinks.truncate(1);
    journal.uplinks[0].held = PriorOvsConfig { bridge: true, port: true, ..PriorOvsConfig::default() };
    lock.begin(&journal).unwrap();
    let again = journal.taken().next().unwrap();
    let kept = again.clone().again(Some(first.clone()), false);
    assert_eq!(kept.uplink.held, PriorOvsConfig::default());
    // The power goes between the two: a record without a commit, never a commit without the right record.
    fs::remove_file(folder.journal_path()).unwrap();
    fs::create_dir(folder.journal_path()).unwrap();
    lock.commit(&mut journal, &[kept]).unwrap_err();
    assert_eq!(journal.state, JournalState::Open);
    assert_eq!(folder.taken("breth0").unwrap().unwrap().uplink.held, PriorOvsConfig::default());
    // Without a record the mark shows that a takeover made the bridge; another one existed before.
    assert_eq!(again.clone().again(None, true).uplink.held, PriorOvsConfig::default());
    assert!(again.again(None, false).uplink.held.bridge);
}

/// What the first release of format 1 wrote, on a node with addresses of both families, routes in two tables, a policy rule
/// and a permanent neighbour.
#[test]
fn files_of_an_earlier_version_are_read() {
    let (_dir, folder) = folder();
    drop(folder.lock(PATIENCE).unwrap());
    fs::write(folder.journal_path(), include_str!("testdata/version1-journal.json")).unwrap();
    fs::write(folder.taken_path("breth0"), include_str!("testdata/version1-taken-breth0.json")).unwrap();
    let journal = folder.journal().unwrap().unwrap();
    assert_eq!((journal.version, journal.state), (VERSION, JournalState::Committed));
    assert_eq!(
        (journal.direction, journal.db.as_str()),
        (Direction::Attach, "unix:/run/openvswitch/db.sock")
    );
    let taken = folder.taken("breth0").unwrap().unwrap();
    let uplink = &taken.uplink;
    assert_eq!((taken.boot_id.as_str(), uplink), (journal.boot_id.as_str(), &journal.uplinks[0]));
    let nic =
        NicIdentity { index: 3, name: "eth0".to_owned(), mac: "0a:00:00:00:00:01".to_owned(), driver: None };
    assert_eq!((&uplink.nic, uplink.bridge.as_str(), uplink.datapath), (&nic, "breth0", Datapath::Netdev));
    assert_eq!((&uplink.held, uplink.bridge_rows.as_ref()), (&PriorOvsConfig::default(), None));
    assert_eq!((uplink.guard.as_str(), uplink.managers.len()), ("ovn_k8s_breth0", 0));
    let texts =
        |rows: &[host::rtnl::Row]| rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let rows = &uplink.rows;
    for (all, parts) in [
        (texts(&rows.addresses), &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"][..]),
        (
            texts(&rows.routes),
            &["default via 192.0.2.1", "198.51.100.0/24 via 192.0.2.1", "default via 2001:db8::1"],
        ),
        (texts(&rows.rules), &["eth0"]),
        (texts(&rows.neighbours), &["192.0.2.1", "02:00:00:00:00:99"]),
    ] {
        assert!(parts.iter().all(|part| all.contains(part)), "{parts:?}: {all}");
    }
    assert!(rows.sysctls.len() > 10 && rows.own() == *rows);
}
