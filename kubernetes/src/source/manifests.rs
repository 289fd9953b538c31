//! The objects of a folder of manifests: reads files when they change, and merges what they hold.
//!
//! A file is read when its writer closes it, or when it is moved into place, so a half-written file is not read. What
//! inotify does not report (its queue may overflow, some file systems report nothing) is found later and not never:
//! every few seconds the folder is compared with what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Problem;
use super::file::{self, Parsed, Place};
use super::kind::Kind;
use super::store::{Contents, Event, Object};
use super::wire::Names;
use crate::error::Error;
use crate::object::{ObjectKey, Protocol};

/// Larger files are refused.
const MAX_FILE: u64 = 64 << 20;
/// How often the folder is compared with what was read.
const RESCAN: Duration = Duration::from_secs(5);
/// A file that inotify does not report is read when it has not changed for this long.
const DEBOUNCE: Duration = Duration::from_secs(2);
/// While changes keep coming, they are collected for this long at most.
const COALESCE: Duration = Duration::from_millis(100);
/// Files are read by this many threads at most; each holds one text at a time.
const MAX_READERS: usize = 4;
/// For fewer files a further thread costs more than it saves.
const FILES_PER_READER: usize = 32;

/// Start the task that follows the folder.
pub(super) fn start(dir: &Path, events: mpsc::Sender<Event>) -> Result<JoinSet<()>, Error> {
    let wrong = |why: String| Error::Manifests { path: dir.into(), why };
    fs::read_dir(dir).map_err(|error| wrong(error.to_string()))?;
    // Before the first scan: what happens in between is then seen twice and not never.
    let watcher = Watcher::new(dir);
    let folder = Folder { dir: dir.into(), files: BTreeMap::new(), names: Vec::new() };
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(folder, watcher, events));
    Ok(tasks)
}

async fn follow(mut folder: Folder, mut watcher: Option<Watcher>, events: mpsc::Sender<Event>) {
    let mut reported = Reported { everything: true, ..Reported::default() };
    let mut first = true;
    // Without inotify the folder is only compared from time to time.
    loop {
        // Reading and parsing may take a while: not on the threads of the runtime.
        let lost = reported.lost;
        let work = tokio::task::spawn_blocking(move || {
            let outcome = folder.refresh(&reported, first);
            // A folder that was never read is not an empty one.
            let differs = matches!(outcome, Ok(changed) if first || changed);
            let contents = differs.then(|| Box::new(folder.contents()));
            (folder, outcome, contents)
        });
        let Ok((back, outcome, contents)) = work.await else { return };
        folder = back;
        if let Some(contents) = contents {
            first = false;
            if events.send(Event::Folder(contents)).await.is_err() {
                return;
            }
        }
        match outcome {
            Ok(_) => {
                for kind in Kind::REQUIRED {
                    let _ = events.send(Event::Connected(kind)).await;
                }
            }
            Err(why) => {
                let _ = events.send(Event::Failed(Kind::Service, format!("reading the folder: {why}"))).await;
                // A folder that is created again is another one, which needs another watch.
                watcher = None;
            }
        }
        if watcher.is_none() || lost {
            watcher = Watcher::new(&folder.dir);
        }
        reported = match &watcher {
            Some(watcher) => tokio::time::timeout(RESCAN, watcher.reported()).await.unwrap_or_default(),
            None => {
                tokio::time::sleep(RESCAN).await;
                Reported::default()
            }
        };
    }
}

/// The folder as it was read.
#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    files: BTreeMap<String, Loaded>,
    /// For each reader thread its own.
    names: Vec<Names>,
}

#[derive(Debug)]
struct Loaded {
    /// `None`: reading failed, so the file is due again.
    stamp: Option<Stamp>,
    parsed: Parsed,
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// A file to read.
type Due = (String, Metadata);

/// What inotify reported.
#[derive(Debug, Default)]
struct Reported {
    /// These files were closed by a writer, moved or deleted.
    files: BTreeSet<String>,
    /// Any file may have changed.
    everything: bool,
    /// There will be no further report: the folder was moved or deleted.
    lost: bool,
}

impl Folder {
    /// Reads the files that changed; `Ok(true)` if there were any. An error is about the folder; what is wrong with a
    /// file is a problem of the file.
    fn refresh(&mut self, reported: &Reported, first: bool) -> io::Result<bool> {
        let (mut present, mut due) = (BTreeSet::new(), Vec::new());
        for entry in fs::read_dir(&self.dir)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if !is_manifest(&name) {
                continue;
            }
            // Follows links: a mounted ConfigMap is a folder of them.
            let Ok(metadata) = fs::metadata(self.dir.join(&name)) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let known =
                self.files.get(&name).is_some_and(|before| before.stamp == Some(Stamp::of(&metadata)));
            let complete =
                || first || reported.everything || reported.files.contains(&name) || is_debounced(&metadata);
            if !known && complete() {
                due.push((name.clone(), metadata));
            }
            present.insert(name);
        }
        let before = self.files.len();
        self.files.retain(|name, _| present.contains(name));
        let changed = self.files.len() != before || !due.is_empty();
        drop(present);
        self.read_all(&due);
        Ok(changed)
    }

    /// Reads files on several threads, each of which holds one text at a time.
    fn read_all(&mut self, due: &[Due]) {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let readers = processors.min(MAX_READERS).min(due.len() / FILES_PER_READER).max(1);
        self.names.resize_with(self.names.len().max(readers), Names::default);
        let mut names = std::mem::take(&mut self.names);
        let next = AtomicUsize::new(0);
        let folder = &*self;
        let read = |names: &mut Names| -> Vec<(String, Loaded)> {
            let take = || due.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(take).map(|file| folder.load(file, names)).collect()
        };
        let loaded = thread::scope(|scope| {
            let Some((own, others)) = names[..readers].split_first_mut() else { return Vec::new() };
            let start = |names| thread::Builder::new().spawn_scoped(scope, || read(names)).ok();
            // Where no thread can be created, this one reads the files without it.
            let threads: Vec<_> = others.iter_mut().map_while(start).collect();
            let mut loaded = read(own);
            for thread in threads {
                loaded.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            loaded
        });
        self.files.extend(loaded);
        self.names = names;
    }

    fn load(&self, (name, metadata): &Due, names: &mut Names) -> (String, Loaded) {
        let before = self.files.get(name).map(|before| before.parsed.objects.as_slice()).unwrap_or_default();
        let mut stamp = Some(Stamp::of(metadata));
        let parsed = match read(&self.dir.join(name), metadata) {
            Ok(text) => file::parse(name, &text, before, names),
            Err(error) => {
                if error.kind() != io::ErrorKind::InvalidData {
                    stamp = None;
                }
                let reason = format!("{error}; what it held before stays in force");
                let problem = Problem { place: name.clone(), object: None, reason };
                Parsed { objects: before.to_vec(), problems: vec![problem], broken: true }
            }
        };
        (name.clone(), Loaded { stamp, parsed })
    }

    /// The objects of all files. Of two that claim one thing the first gets it, by file name and then by position, so
    /// that the result does not depend on the order of changes.
    fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        let mut claims = Claims::default();
        contents.objects.reserve_exact(self.files.values().map(|loaded| loaded.parsed.objects.len()).sum());
        for (file, loaded) in &self.files {
            contents.problems.extend(loaded.parsed.problems.iter().cloned());
            for (place, object) in &loaded.parsed.objects {
                match claims.claim((file, place), object) {
                    Ok(()) => contents.objects.push(object.clone()),
                    Err(reason) => {
                        let (kind, key) = object.name();
                        let object = Some(format!("{} {key}", kind.name()));
                        contents.problems.push(Problem { place: place.shown(file), object, reason });
                    }
                }
            }
        }
        contents
    }
}

/// What is claimed already, and by which object.
#[derive(Default)]
struct Claims<'a> {
    names: HashMap<(Kind, &'a ObjectKey), (&'a str, &'a Place)>,
    node_ports: HashMap<(Protocol, NonZeroU16), &'a ObjectKey>,
    cluster_ips: HashMap<IpAddr, &'a ObjectKey>,
}

impl<'a> Claims<'a> {
    fn claim(&mut self, at: (&'a str, &'a Place), object: &'a Object) -> Result<(), String> {
        let name = object.name();
        if let Some((file, place)) = self.names.get(&name) {
            return Err(format!("there is one already in {}", place.shown(file)));
        }
        if let Object::Service(service) = object {
            let health = service.health_check_node_port.map(|port| (Protocol::Tcp, port));
            let ports = service.ports.iter().filter_map(|port| Some((port.protocol, port.node_port?)));
            let ports: Vec<_> = ports.chain(health).collect();
            for port in &ports {
                if let Some(other) = self.node_ports.get(port) {
                    return Err(format!("node port {} {} belongs to Service {other}", port.0, port.1));
                }
            }
            for ip in &service.cluster_ips {
                if let Some(other) = self.cluster_ips.get(ip) {
                    return Err(format!("cluster address {ip} belongs to Service {other}"));
                }
            }
            self.node_ports.extend(ports.into_iter().map(|port| (port, &service.key)));
            self.cluster_ips.extend(service.cluster_ips.iter().map(|ip| (*ip, &service.key)));
        }
        self.names.insert(name, at);
        Ok(())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The folder under inotify.
struct Watcher(AsyncFd<Descriptor>);

/// nix implements `AsFd` for the descriptor, and tokio needs `AsRawFd`.
struct Descriptor(Inotify);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    /// `None` where inotify is not available: the folder is then only compared from time to time.
    fn new(dir: &Path) -> Option<Self> {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let closed = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
            let ends = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            inotify.add_watch(dir, closed | ends | AddWatchFlags::IN_ONLYDIR)?;
            // SAFETY: the descriptor is owned by the value that is handed over, stays the same and open for as long as
            // that value lives, and nothing else is registered for it.
            #[allow(unsafe_code, reason = "waiting for a descriptor of the kernel's")]
            let waiting = unsafe { AsyncFd::register(Descriptor(inotify)) }?;
            Ok::<_, io::Error>(Self(waiting))
        };
        watch().inspect_err(|error| tracing::info!("{}: no inotify: {error}", dir.display())).ok()
    }

    /// Waits for events that matter, and collects those that follow at once.
    async fn reported(&self) -> Reported {
        let mut reported = Reported::default();
        while !reported.is_any() {
            let Ok(mut ready) = self.0.readable().await else {
                reported.lost = true;
                break;
            };
            let began = Instant::now();
            loop {
                match self.0.get_ref().0.read_events() {
                    Ok(events) => events.into_iter().for_each(|event| reported.add(&event)),
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(_) => {
                        reported.lost = true;
                        break;
                    }
                }
                if began.elapsed() > COALESCE {
                    break;
                }
            }
        }
        reported
    }
}

impl Reported {
    fn is_any(&self) -> bool {
        self.everything || self.lost || !self.files.is_empty()
    }

    fn add(&mut self, event: &InotifyEvent) {
        let lost = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
        self.lost |= event.mask.intersects(lost | AddWatchFlags::IN_UNMOUNT);
        self.everything |= event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW);
        let Some(name) = event.name.as_ref().and_then(|name| name.to_str()) else { return };
        if name.starts_with("..") {
            // The link behind which a mounted ConfigMap changes as a whole.
            self.everything = true;
        } else if is_manifest(name) {
            self.files.insert(name.to_owned());
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    !name.starts_with('.') && ["yaml", "yml", "json"].contains(&extension)
}

fn is_debounced(metadata: &Metadata) -> bool {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    // A time in the future must not keep a file out for ever.
    SystemTime::now().duration_since(modified).map_or(true, |age| age >= DEBOUNCE)
}

/// A file's text. An error about the content, which another attempt would give again, is `InvalidData`.
fn read(path: &Path, metadata: &Metadata) -> io::Result<String> {
    let unusable = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if metadata.len() > MAX_FILE {
        return Err(unusable(format!("a file of more than {MAX_FILE} bytes is not read")));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|_| unusable("this is no text in UTF-8".into()))
}

#[cfg(test)]
mod tests;
