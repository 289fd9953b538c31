//! A folder that people and programs write to while it is followed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

use std::io::Write;

use crate::object::ObjectKey;
use crate::{Batch, Source};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  ports: [{{port: 80, \
         nodePort: {port}}}]\n---\n"
    )
}

fn slice(service: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {{name: {service}-1, \
         labels: {{kubernetes.io/service-name: {service}}}}}\nendpoints: [{{addresses: [{address}]}}]\n---\n"
    )
}

/// A folder and the source that follows it.
struct Followed {
    dir: tempfile::TempDir,
    source: Source,
}

impl Followed {
    async fn new(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let source = Source::manifests(dir.path()).unwrap();
        let mut followed = Self { dir, source };
        followed.until("synced", |source| source.synced() && source.health().connected).await;
        followed
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Waits until something holds. Returns the Services that changed.
    async fn until(&mut self, what: &str, holds: impl Fn(&Source) -> bool) -> BTreeSet<ObjectKey> {
        let mut changed = BTreeSet::new();
        let wait = async {
            while !holds(&self.source) {
                changed.extend(self.source.next().await.changed);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(in_time, "never came: {what}; {:?} {:?}", self.source.health(), self.source.problems());
        changed
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn node_port(source: &Source, name: &str) -> Option<u16> {
    source.view(&key(name)).map(|view| view.service.ports[0].node_port.unwrap().get())
}

#[tokio::test]
async fn files_are_followed_as_they_come_change_and_go() {
    let mut at = Followed::new(&[("a.yaml", service("a", 30001) + &slice("a", "10.0.0.1"))]).await;
    assert_eq!(node_port(&at.source, "a"), Some(30001));
    assert_eq!(at.source.view(&key("a")).unwrap().slices.len(), 1);

    at.write("b.yml", &service("b", 30002));
    let changed = at.until("a new file", |source| node_port(source, "b").is_some()).await;
    assert_eq!(changed, BTreeSet::from([key("b")]), "the other file's objects did not change");

    // As editors and configuration management write: another file, then moved into place.
    at.write(".b.yml.new", &service("b", 30003));
    fs::rename(at.dir.path().join(".b.yml.new"), at.dir.path().join("b.yml")).unwrap();
    at.until("a file moved into place", |source| node_port(source, "b") == Some(30003)).await;

    fs::remove_file(at.dir.path().join("b.yml")).unwrap();
    let changed = at.until("a file less", |source| node_port(source, "b").is_none()).await;
    assert_eq!(changed, BTreeSet::from([key("b")]));

    at.write("notes.txt", "kind: Service");
    at.write("a.yaml", &slice("a", "10.0.0.1"));
    at.until("a Service less", |source| node_port(source, "a").is_none()).await;
    assert_eq!(at.source.slices(&key("a")).len(), 1, "its slice is still there");
    assert_eq!(at.source.problems(), []);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read() {
    let mut at = Followed::new(&[("a.yaml", service("a", 30001) + &service("b", 30002))]).await;
    let mut file = fs::File::create(at.dir.path().join("a.yaml")).unwrap();
    file.write_all(service("a", 30001).as_bytes()).unwrap();
    // Something else changes meanwhile, so that there is a reason to scan.
    at.write("c.yaml", &service("c", 30003));
    let changed = at.until("another file", |source| node_port(source, "c").is_some()).await;
    assert_eq!(changed, BTreeSet::from([key("c")]));
    assert_eq!(node_port(&at.source, "b"), Some(30002));
    file.write_all(service("b", 30022).as_bytes()).unwrap();
    drop(file);
    at.until("the whole file", |source| node_port(source, "b") == Some(30022)).await;
}

#[tokio::test]
async fn a_bad_edit_leaves_the_last_good_content_in_force_and_is_reported() {
    let mut at = Followed::new(&[("a.yaml", service("a", 30001)), ("b.yaml", service("b", 30002))]).await;
    at.write("a.yaml", "kind: [Service\n");
    at.until("a problem", |source| !source.problems().is_empty()).await;
    assert_eq!(at.source.problems()[0].place, "a.yaml, document 1");
    assert_eq!(node_port(&at.source, "a"), Some(30001));
    at.write("b.yaml", &service("b", 30022));
    at.until("the rest works", |source| node_port(source, "b") == Some(30022)).await;
    at.write("a.yaml", &service("a", 30011));
    at.until("corrected", |source| node_port(source, "a") == Some(30011) && source.problems().is_empty())
        .await;
}

#[tokio::test]
async fn of_two_that_claim_one_thing_the_first_gets_it_and_the_other_is_reported() {
    let mut at = Followed::new(&[
        ("a.yaml", service("a", 30001)),
        ("b.yaml", service("b", 30001) + &service("c", 30003)),
        ("c.yaml", service("c", 30004)),
    ])
    .await;
    assert_eq!(node_port(&at.source, "b"), None);
    assert_eq!(node_port(&at.source, "c"), Some(30003));
    let problems: Vec<_> = at.source.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "b.yaml, document 1: Service default/b: node port TCP 30001 belongs to Service default/a",
            "c.yaml, document 1: Service default/c: there is one already in b.yaml, document 2",
        ]
    );
    fs::remove_file(at.dir.path().join("a.yaml")).unwrap();
    at.until("the next claim holds", |source| node_port(source, "b") == Some(30001)).await;
}

#[tokio::test]
async fn a_folder_that_goes_away_keeps_its_objects_and_one_that_comes_back_is_read() {
    let mut at = Followed::new(&[("a.yaml", service("a", 30001))]).await;
    let aside = at.dir.path().with_extension("aside");
    fs::rename(at.dir.path(), &aside).unwrap();
    at.until("the loss is noticed", |source| !source.health().connected).await;
    assert_eq!(node_port(&at.source, "a"), Some(30001));
    assert!(at.source.synced());
    fs::write(aside.join("b.yaml"), service("b", 30002)).unwrap();
    fs::rename(&aside, at.dir.path()).unwrap();
    at.until("back", |source| source.health().connected && node_port(source, "b").is_some()).await;
    at.write("c.yaml", &service("c", 30003));
    at.until("followed again", |source| node_port(source, "c").is_some()).await;
}

#[tokio::test]
async fn a_mounted_config_map_changes_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (version, port) in [("..v1", 30001), ("..v2", 30002)] {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("a.yaml"), service("a", port)).unwrap();
    }
    std::os::unix::fs::symlink("..v1", path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", path("a.yaml")).unwrap();
    let source = Source::manifests(dir.path()).unwrap();
    let mut at = Followed { dir, source };
    at.until("the first version", |source| node_port(source, "a") == Some(30001)).await;
    std::os::unix::fs::symlink("..v2", at.dir.path().join("..tmp")).unwrap();
    fs::rename(at.dir.path().join("..tmp"), at.dir.path().join("..data")).unwrap();
    at.until("the second version", |source| node_port(source, "a") == Some(30002)).await;
}

#[tokio::test]
async fn what_is_no_file_or_no_text_deletes_nothing() {
    let mut at = Followed::new(&[("a.yaml", service("a", 30001))]).await;
    fs::create_dir(at.dir.path().join("d.yaml")).unwrap();
    nix::unistd::mkfifo(&at.dir.path().join("f.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(at.dir.path().join("bytes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    at.until("a problem", |source| source.problems().iter().any(|problem| problem.place == "bytes.yaml"))
        .await;
    assert_eq!(node_port(&at.source, "a"), Some(30001));
    let nothing_new = tokio::time::timeout(Duration::from_millis(50), at.source.next()).await;
    assert!(nothing_new.is_err() || nothing_new == Ok(Batch::default()));
}

#[tokio::test]
async fn a_folder_that_is_none_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let error = Source::manifests(&dir.path().join("nowhere")).err().map(|error| error.to_string());
    assert!(error.unwrap_or_default().contains("nowhere"));
}

#[tokio::test]
async fn a_folder_that_was_never_read_does_not_count_as_empty() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("later");
    let folder = Folder { dir: dir.clone(), files: BTreeMap::new(), names: Vec::new() };
    let (sender, mut events) = mpsc::channel(16);
    let _following = JoinSet::from_iter([follow(folder, None, sender)]);
    let first = events.recv().await.unwrap();
    assert!(matches!(first, Event::Failed(Kind::Service, _)), "{first:?}");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.yaml"), service("a", 30001)).unwrap();
    let contents = loop {
        if let Event::Folder(contents) = events.recv().await.unwrap() {
            break contents;
        }
    };
    assert_eq!((contents.objects.len(), contents.problems.len()), (1, 0));
}

#[test]
fn a_file_that_could_not_be_read_is_read_again_though_it_did_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let (file, aside) = (dir.path().join("a.yaml"), dir.path().join("aside"));
    fs::write(&file, service("a", 30001)).unwrap();
    let mut folder = Folder { dir: dir.path().into(), files: BTreeMap::new(), names: Vec::new() };
    let due = ("a.yaml".to_owned(), fs::metadata(&file).unwrap());
    fs::rename(&file, &aside).unwrap();
    folder.read_all(&[due]);
    assert_eq!(folder.contents().problems.len(), 1);
    fs::rename(&aside, &file).unwrap();
    assert!(folder.refresh(&Reported { everything: true, ..Reported::default() }, false).unwrap());
    let contents = folder.contents();
    assert_eq!((contents.objects.len(), contents.problems.len()), (1, 0));
}

#[test]
fn many_files_are_read_by_several_threads() {
    let files = FILES_PER_READER * 3;
    let dir = tempfile::tempdir().unwrap();
    for n in 0..files {
        let port = 30000 + u16::try_from(n).unwrap();
        fs::write(dir.path().join(format!("{n}.yaml")), service(&format!("s{n}"), port)).unwrap();
    }
    let mut folder = Folder { dir: dir.path().into(), files: BTreeMap::new(), names: Vec::new() };
    assert!(folder.refresh(&Reported::default(), true).unwrap());
    assert_eq!(folder.contents().objects.len(), files);
    assert!(!folder.refresh(&Reported::default(), true).unwrap());
}
