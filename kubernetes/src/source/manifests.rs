//! The objects of a folder of manifests: its files read when they change, and what they hold put together.
//!
//! A file is read when its writer closed it, or when it was moved into place; so one that is being written is not
//! looked at. That inotify does not say everything (its queue may overflow, some file systems say nothing) costs
//! time and not truth: every few seconds the folder is compared with what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Problem;
use super::file::{self, Parsed};
use super::store::{Contents, Event, Kind, Object};
use super::wire::Names;
use crate::error::Error;
use crate::object::{ObjectKey, Protocol};

/// Larger files are refused.
const MAX_FILE: u64 = 64 << 20;
/// How often the folder is compared with what was read.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A file that inotify said nothing about is read when it has not changed for this long.
const SETTLED: Duration = Duration::from_secs(2);
/// While changes keep coming, they are gathered for this long at most.
const GATHER: Duration = Duration::from_millis(100);

/// Start the task that follows the folder.
pub(super) fn start(dir: &Path, events: mpsc::Sender<Event>) -> Result<JoinSet<()>, Error> {
    let wrong = |why: String| Error::Manifests { path: dir.into(), why };
    fs::read_dir(dir).map_err(|error| wrong(error.to_string()))?;
    // Before the first look: what happens in between is then seen twice and not never.
    let watcher = Watcher::new(dir);
    let folder = Folder { dir: dir.into(), files: BTreeMap::new(), names: Names::default() };
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(folder, watcher, events));
    Ok(tasks)
}

async fn follow(mut folder: Folder, mut watcher: Option<Watcher>, events: mpsc::Sender<Event>) {
    let mut news = News { everything: true, ..News::default() };
    let mut first = true;
    // Without inotify the folder is only compared from time to time.
    loop {
        // Reading and parsing may take a while: not on the threads of the runtime.
        let lost = news.lost;
        let work = tokio::task::spawn_blocking(move || {
            let before = folder.stamps();
            let outcome = folder.refresh(&news, first);
            let differs = first || folder.stamps() != before;
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
            Ok(()) => {
                for kind in Kind::REQUIRED {
                    let _ = events.send(Event::Connected(kind)).await;
                }
            }
            Err(why) => {
                let _ = events.send(Event::Failed(Kind::Service, format!("reading the folder: {why}"))).await;
                // The folder may be made again, and then it is another one.
                watcher = None;
            }
        }
        if watcher.is_none() || lost {
            watcher = Watcher::new(&folder.dir);
        }
        news = match &watcher {
            Some(watcher) => tokio::time::timeout(LOOK_AGAIN, watcher.news()).await.unwrap_or_default(),
            None => {
                tokio::time::sleep(LOOK_AGAIN).await;
                News::default()
            }
        };
    }
}

/// The folder as it was read.
#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    files: BTreeMap<String, Loaded>,
    names: Names,
}

#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
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

/// What inotify said.
#[derive(Debug, Default)]
struct News {
    /// These files were closed by a writer, moved or deleted.
    files: BTreeSet<String>,
    /// It does not know.
    everything: bool,
    /// It will say no more: the folder was moved or deleted.
    lost: bool,
}

impl Folder {
    /// Read what looks different. An error is about the folder; what is wrong with a file is a problem of the file.
    fn refresh(&mut self, news: &News, first: bool) -> io::Result<()> {
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if !is_manifest(&name) {
                continue;
            }
            let path = self.dir.join(&name);
            // Follows links: a mounted ConfigMap is a folder of them.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_file() {
                let named = first || news.everything || news.files.contains(&name);
                self.refresh_file(&name, &path, &metadata, named);
                present.insert(name);
            }
        }
        self.files.retain(|name, _| present.contains(name));
        Ok(())
    }

    fn refresh_file(&mut self, name: &str, path: &Path, metadata: &Metadata, named: bool) {
        let stamp = Stamp::of(metadata);
        let before = self.files.get(name);
        let is_news = before.is_none_or(|before| before.stamp != stamp);
        if !is_news || !(named || is_settled(metadata)) {
            return;
        }
        let empty = Vec::new();
        let before = before.map_or(&empty, |before| &before.parsed.objects);
        let parsed = match read(path, metadata) {
            Ok(text) => file::parse(name, &text, before, &mut self.names),
            Err(error) => {
                let reason = format!("{error}; what it held before stays in force");
                let problem = Problem { place: name.into(), object: None, reason };
                Parsed { objects: before.clone(), problems: vec![problem], broken: true }
            }
        };
        self.files.insert(name.into(), Loaded { stamp, parsed });
    }

    fn stamps(&self) -> Vec<(String, Stamp)> {
        self.files.iter().map(|(name, loaded)| (name.clone(), loaded.stamp)).collect()
    }

    /// Everything together. Of two that claim one thing the one that is read first has it: files by name, and each
    /// from its top, so that the answer does not depend on what came when.
    fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        let mut claims = Claims::default();
        for loaded in self.files.values() {
            contents.problems.extend(loaded.parsed.problems.iter().cloned());
            for (place, object) in &loaded.parsed.objects {
                match claims.claim(place, object) {
                    Ok(()) => contents.objects.push(object.clone()),
                    Err(reason) => {
                        let (kind, key) = object.name();
                        let object = Some(format!("{} {key}", kind.name()));
                        contents.problems.push(Problem { place: place.clone(), object, reason });
                    }
                }
            }
        }
        contents
    }
}

/// What is taken already, and by whom.
#[derive(Default)]
struct Claims<'a> {
    names: HashMap<(Kind, &'a ObjectKey), &'a str>,
    node_ports: HashMap<(Protocol, NonZeroU16), &'a ObjectKey>,
    cluster_ips: HashMap<IpAddr, &'a ObjectKey>,
}

impl<'a> Claims<'a> {
    fn claim(&mut self, place: &'a str, object: &'a Object) -> Result<(), String> {
        let name = object.name();
        if let Some(other) = self.names.get(&name) {
            return Err(format!("there is one already in {other}"));
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
        self.names.insert(name, place);
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

/// nix gives the descriptor one way, and tokio wants it another.
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
    /// `None` where it cannot be had: the folder is looked at from time to time then.
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

    /// Wait for events that matter, and for those that follow at once.
    async fn news(&self) -> News {
        let mut news = News::default();
        while !news.is_any() {
            let Ok(mut ready) = self.0.readable().await else {
                news.lost = true;
                break;
            };
            let began = Instant::now();
            loop {
                match self.0.get_ref().0.read_events() {
                    Ok(events) => events.into_iter().for_each(|event| news.add(&event)),
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(_) => {
                        news.lost = true;
                        break;
                    }
                }
                if began.elapsed() > GATHER {
                    break;
                }
            }
        }
        news
    }
}

impl News {
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

fn is_settled(metadata: &Metadata) -> bool {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    // A time in the future says nothing, so it must not keep a file out for ever.
    SystemTime::now().duration_since(modified).map_or(true, |age| age >= SETTLED)
}

fn read(path: &Path, metadata: &Metadata) -> Result<String, String> {
    if metadata.len() > MAX_FILE {
        return Err(format!("a file of more than {MAX_FILE} bytes is not read"));
    }
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE).read_to_end(&mut text).map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|_| "this is no text in UTF-8".into())
}

#[cfg(test)]
mod tests;
