//! A lock that one process at a time holds in a network namespace.
//!
//! It is an abstract socket (unix(7)): no file, so processes with different state folders share it; the kernel releases
//! it when the process ends, however it ends; another network namespace has its own; programs that the process starts do
//! not inherit it. Every user may bind such a name, so a lock that another user holds is ignored.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::sockets::owner_of_name;

/// A held lock, until the value is dropped.
#[derive(Debug)]
pub struct NetnsLock {
    _socket: UnixDatagram,
}

/// The outcome of [`try_acquire`].
#[derive(Debug)]
pub enum LockAttempt {
    /// The lock is acquired.
    Acquired(NetnsLock),
    /// Another process of the same user holds it: its process id, where /proc shows it.
    Held(Option<u32>),
    /// A process of another user has bound the name, which does not count as the lock.
    OtherUser,
}

/// Acquires the lock of that name, if it is free.
pub fn try_acquire(name: &str) -> io::Result<LockAttempt> {
    match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(socket) => Ok(LockAttempt::Acquired(NetnsLock { _socket: socket })),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Ok(match (holder(name), is_bound_by_us(name)) {
                (Some((_, false)), _) => LockAttempt::OtherUser,
                (Some((pid, true)), _) => LockAttempt::Held(Some(pid)),
                // The holder is in another process namespace, or the descriptor is in a message that no process has read.
                (None, Some(false)) => LockAttempt::OtherUser,
                (None, _) => LockAttempt::Held(None),
            })
        }
        Err(error) => Err(error),
    }
}

/// Whether the same user bound the name; `None` where the kernel does not say.
fn is_bound_by_us(name: &str) -> Option<bool> {
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    Some(owner_of_name(name).ok()?? == own)
}

/// The process that holds the socket of the name, and whether it is of the same user: by the socket's inode.
fn holder(name: &str) -> Option<(u32, bool)> {
    let list = std::fs::read_to_string("/proc/thread-self/net/unix").ok()?;
    // proc_net(5): the seventh field is the inode, the eighth the path, which begins with @ for an abstract socket.
    let inode = list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, _, _, _, inode, path] = fields[..] else { return None };
        (path.strip_prefix('@') == Some(name)).then(|| format!("socket:[{inode}]"))
    })?;
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&inode)))
            .then(|| Some((pid, entry.metadata().ok()?.uid() == own)))?
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, IoSlice};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;
    use crate::netns::Namespace;

    fn is_held(name: &str) -> bool {
        matches!(try_acquire(name).unwrap(), LockAttempt::Held(_))
    }

    #[test]
    fn a_namespace_has_each_lock_once_and_another_one_its_own() {
        let (here, there) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let first = here.run(|| try_acquire("a name of a test").unwrap()).unwrap();
        assert!(matches!(first, LockAttempt::Acquired(_)));
        assert!(
            there
                .run(|| matches!(try_acquire("a name of a test").unwrap(), LockAttempt::Acquired(_)))
                .unwrap()
        );
        here.run(|| {
            assert!(!is_held("another name"));
            let again = try_acquire("a-name").unwrap();
            assert!(matches!(again, LockAttempt::Acquired(_)));
            match try_acquire("a-name").unwrap() {
                LockAttempt::Held(Some(pid)) => assert_eq!(pid, std::process::id()),
                other => panic!("{other:?}"),
            }
            // Started while the lock is held, and still running after it is released.
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            drop(again);
            // A program that another test starts has a copy of every descriptor until its exec.
            let end = Instant::now() + Duration::from_secs(30);
            let free = loop {
                match is_held("a-name") {
                    true if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                    held => break !held,
                }
            };
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(free);
        })
        .unwrap();
    }

    /// This program again, which runs [`the_other_user`] alone, as another user, until its standard input ends.
    fn as_other_user(how: &str) -> (Child, String) {
        let test = format!("{}::the_other_user", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new("/proc/self/exe")
            .args([test.as_str(), "--exact", "--ignored", "--nocapture"])
            .env(HOW, how)
            .uid(65534)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let bound = lines.find_map(|line| line.ok().filter(|line| line.contains(BOUND)));
        (child, bound.unwrap_or_default())
    }

    const HOW: &str = "NETNS_LOCK_TEST";
    const BOUND: &str = "the name is bound";

    /// No test of its own: the program that [`as_other_user`] starts.
    #[test]
    #[ignore = "another test starts it"]
    fn the_other_user() {
        let Ok(how) = std::env::var(HOW) else { return };
        let mut held =
            Some(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("a-name").unwrap()).unwrap());
        let (sender, _receiver) = UnixStream::pair().unwrap();
        if how == "in a message" {
            // The only descriptor is in a message that no process reads.
            let fds = [held.as_ref().unwrap().as_raw_fd()];
            let message = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(sender.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None)
                .unwrap();
            held = None;
        }
        println!("{BOUND}");
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(held);
    }

    #[test]
    fn a_name_that_another_user_bound_is_not_the_lock() {
        for how in ["open", "in a message"] {
            let namespace = Namespace::create().unwrap();
            namespace
                .run(|| {
                    assert!(matches!(try_acquire("a-name").unwrap(), LockAttempt::Acquired(_)));
                    let (mut child, bound) = as_other_user(how);
                    let found = try_acquire("a-name");
                    child.kill().unwrap();
                    child.wait().unwrap();
                    assert!(bound.contains(BOUND), "{how}: {bound}");
                    let found = found.unwrap();
                    assert!(matches!(found, LockAttempt::OtherUser), "{how}: {found:?}");
                })
                .unwrap();
        }
    }
}
