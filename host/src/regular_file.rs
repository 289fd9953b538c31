//! Regular files, read whole, from paths where anything may be: without waiting and without reading forever.
//!
//! Opening a fifo without a writer blocks, a device may never end (or do something when it is opened), a folder is no
//! file. The file type is checked before the file is opened, and again afterwards. Anything but a regular file, a file
//! that is too long, and a text that is not UTF-8 are errors of kind [`ErrorKind::InvalidData`] that say which.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The longest text: more than any configuration, lease or list has.
pub(crate) const TEXT: u64 = 16 << 20;

/// A file's content, of no more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(OpenOptions::new().read(true), path)?;
    let too_long = || invalid(format!("it is longer than {limit} bytes"));
    // A file of proc(5) reports the length 0.
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_long());
    }
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > limit) {
        Err(too_long())
    } else {
        Ok(content)
    }
}

/// A text, of no more than 16 MiB.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path, TEXT)?).map_err(|_| invalid("it is not UTF-8 text".to_owned()))
}

/// Opens a regular file, or creates one where the options say so.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match std::fs::metadata(path) {
        Ok(found) => regular(found.file_type())?,
        // A dangling link or a free name: open(2) decides.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The path may have changed since.
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Whether the error is that the path has something other than the expected file.
#[must_use]
pub fn is_invalid(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData
}

fn regular(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(invalid(format!("it is {what}, not a regular file")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn special_files_are_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("long"), "12345").unwrap();
        fs::write(at("file"), "1234").unwrap();
        fs::write(at("bytes"), [0xff]).unwrap();
        for (name, word) in [
            ("fifo", "a fifo"),
            ("socket", "a socket"),
            ("endless", "a device"),
            ("folder", "a folder"),
            ("long", "longer than 4"),
        ] {
            let error = read(&at(name), 4).unwrap_err();
            assert!(is_invalid(&error) && error.to_string().contains(word), "{name}: {error}");
        }
        for name in ["fifo", "endless", "folder"] {
            let made = open(OpenOptions::new().write(true).create(true), &at(name));
            assert!(is_invalid(&made.unwrap_err()), "{name}");
        }
        assert_eq!(read(&at("file"), 4).unwrap(), b"1234");
        assert!(is_invalid(&read_text(&at("bytes")).unwrap_err()));
        assert_eq!(read(&at("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
        // Files of proc(5) report no length.
        assert!(read_text(Path::new("/proc/self/stat")).unwrap().contains('('));
    }

    #[test]
    fn a_sparse_file_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        assert!(is_invalid(&read_text(file.path()).unwrap_err()));
    }
}
