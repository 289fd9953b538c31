//! Unix sockets at paths longer than `sockaddr_un` can hold.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer names do not fit a `sockaddr_un` with its final zero (unix(7)).
const LONGEST: usize = 107;

/// A name of a socket that fits, good for as long as this value lives.
pub(super) struct Address {
    name: PathBuf,
    _dir: Option<File>,
}

impl Address {
    /// Uses a descriptor of the directory when `path` is too long, as `lib/socket-util-unix.c` does.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { name: path.to_owned(), _dir: None });
        }
        let (Some(parent), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"));
        };
        let flags = nix::libc::O_PATH | nix::libc::O_DIRECTORY;
        let dir = File::options().read(true).custom_flags(flags).open(parent)?;
        Ok(Self { name: format!("/proc/self/fd/{}", dir.as_raw_fd()).as_str().into(), _dir: Some(dir) }
            .join(file))
    }

    fn join(mut self, file: &std::ffi::OsStr) -> Self {
        self.name.push(file);
        self
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }
}
