//! Atomic, durable files: complete or absent, also after a loss of power.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use host::regular_file;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::error::{Error, Result};

/// How many bytes a change of state may add to a journal.
const SPARE: usize = 64;
/// Size limit, larger than the journal of any node.
const LIMIT: u64 = 256 << 20;

/// Reads a file; `None` when it does not exist.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let broken = |what: String| Error::JournalBroken { path: path.to_owned(), what };
    let bytes = match regular_file::read(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if regular_file::is_invalid(&error) => return Err(broken(error.to_string())),
        Err(error) => return Err(failed("read", path)(error)),
    };
    parse(path, &bytes).map(Some)
}

/// Parses the bytes of a file, after its version.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let broken = |error: serde_json::Error| {
        let what = if bytes.is_empty() { "it is empty".to_owned() } else { error.to_string() };
        Error::JournalBroken { path: path.to_owned(), what }
    };
    // The version first: the rest of another version need not parse.
    let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
    if head.version != VERSION {
        return Err(Error::JournalVersion { path: path.to_owned(), version: head.version, known: VERSION });
    }
    serde_json::from_slice(bytes).map_err(broken)
}

/// Writes a file atomically: a reader finds the old or the new one, also after a loss of power.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = failed("write", path);
    replace(path, &text(value).map_err(&failed)?).map_err(&failed)
}

/// The same, and reserves disk space for writing it once more.
pub(super) fn write_and_reserve<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = failed("write", path);
    let text = text(value).map_err(&failed)?;
    replace(path, &text).map_err(&failed)?;
    let reserved = reserve(&draft(path), text.len() + SPARE).map_err(&failed);
    // A run whose journal could not be closed must not begin.
    if reserved.is_err() {
        remove(path)?;
    }
    reserved
}

/// Removes a file; a missing file is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.and_then(|()| sync_folder(path)),
    };
    removed.map_err(failed("remove", path))
}

/// Removes the draft of a file, and with it the reserved space.
pub(super) fn release(path: &Path) {
    // If it stays, the next run uses it.
    drop(std::fs::remove_file(draft(path)));
}

/// An error of the file system, with a remedy.
pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| {
        let remedy = match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "free space there, or name another folder by --state-dir"
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                "run as root, and name a writable folder by --state-dir"
            }
            ErrorKind::InvalidData => "remove that file, or name another folder by --state-dir",
            _ => "--state-dir must name a local, writable folder",
        };
        Error::Io { attempted: format!("{what} {}", path.display()), source, remedy }
    }
}

fn text<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    // Not truncated: the write uses the reserved space.
    let written = open(&draft).and_then(|mut file| {
        file.write_all(text)?;
        file.set_len(text.len().try_into().unwrap_or(u64::MAX))?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&draft, path));
    if renamed.is_err() {
        drop(std::fs::remove_file(&draft));
    }
    renamed?;
    sync_folder(path)
}

fn reserve(path: &Path, size: usize) -> io::Result<()> {
    let size = size.try_into().unwrap_or(i64::MAX);
    match fallocate(open(path)?.as_fd(), FallocateFlags::empty(), 0, size) {
        // Without support by the file system nothing is reserved.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(()),
        Err(errno) => {
            drop(std::fs::remove_file(path));
            Err(errno.into())
        }
    }
}

/// Opens the draft of a file. Anything else under its name is removed.
fn open(path: &Path) -> io::Result<File> {
    let open =
        || regular_file::open(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), path);
    match open() {
        Err(error) if regular_file::is_invalid(&error) => {
            let named = |_| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            std::fs::remove_file(path).map_err(named)?;
            open()
        }
        opened => opened,
    }
}

/// Opens the lock file.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    regular_file::open(options, path).map_err(failed("open", path))
}

/// A rename(2) is durable only after the folder is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
