//! A name that one process at a time has in a network namespace.
//!
//! An abstract socket's name (unix(7)): no file, whatever folder a process works in; it is free again when the process
//! that has it ends, however it ends, and another network namespace has names of its own. It is not inherited by
//! programs that are started. Everybody may bind such a name: one that is held by another user than we are means nothing.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::sockets::owner_of_name;

/// The name, as long as the value lives.
#[derive(Debug)]
pub struct Name {
    _socket: UnixDatagram,
}

/// Whether one has it.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Ours(Name),
    /// Somebody else has it; the process, where that can be told.
    Held(Option<u32>),
    /// Another user has it, for whom it does not mean what it means for us.
    Void,
}

/// Takes a name, if it is free.
pub fn take(name: &str) -> io::Result<Claim> {
    match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(socket) => Ok(Claim::Ours(Name { _socket: socket })),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(match (holder(name), made_by(name)) {
            (Some((_, false)), _) => Claim::Void,
            (Some((pid, true)), _) => Claim::Held(Some(pid)),
            // Held in another process namespace, or by nobody but a message under way.
            (None, Some(false)) => Claim::Void,
            (None, _) => Claim::Held(None),
        }),
        Err(error) => Err(error),
    }
}

/// Whether somebody has a name, who means by it what we do.
pub fn is_taken(name: &str) -> io::Result<bool> {
    Ok(matches!(take(name)?, Claim::Held(_)))
}

/// Whether our own user made the socket of a name; `None` where the kernel does not tell.
fn made_by(name: &str) -> Option<bool> {
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    Some(owner_of_name(name).ok()?? == own)
}

/// Who has a name, and whether that is our own user: by the socket's inode.
fn holder(name: &str) -> Option<(u32, bool)> {
    let list = std::fs::read_to_string("/proc/thread-self/net/unix").ok()?;
    // proc_net(5): the inode is the seventh word, the path the eighth, an abstract one with @ for its null byte.
    let inode = list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, _, _, _, inode, path] = words[..] else { return None };
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
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::netns::Namespace;

    #[test]
    fn one_has_it_in_a_namespace_and_another_one_in_another() {
        let (here, there) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let first = here.run(|| take("a name of a test").unwrap()).unwrap();
        assert!(matches!(first, Claim::Ours(_)));
        assert!(there.run(|| matches!(take("a name of a test").unwrap(), Claim::Ours(_))).unwrap());
        here.run(|| {
            assert!(!is_taken("another name").unwrap());
            let again = take("a-name").unwrap();
            assert!(matches!(again, Claim::Ours(_)));
            match take("a-name").unwrap() {
                Claim::Held(Some(pid)) => assert_eq!(pid, std::process::id()),
                other => panic!("{other:?}"),
            }
            // Started meanwhile, and still there afterwards.
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            drop(again);
            // A program that another test starts has a copy of every descriptor, until its exec.
            let end = Instant::now() + Duration::from_secs(30);
            let free = loop {
                match is_taken("a-name").unwrap() {
                    true if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                    taken => break !taken,
                }
            };
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(free);
        })
        .unwrap();
    }

    #[test]
    fn another_user_keeps_nobody_from_his_work() {
        // Another one lets go of his own descriptor, and leaves the socket in a message that nobody reads.
        let under_way = "a,b=socket.socketpair()\nsocket.send_fds(a,[b'x'],[s.fileno()])\ns.close()\n";
        for more in ["", under_way] {
            is_void(more);
        }
    }

    fn is_void(more: &str) {
        Namespace::create()
            .unwrap()
            .run(|| {
                let script = format!(
                    "import os,socket,sys\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
                     s.bind('\\0a-name')\n{more}print('bound',flush=True)\nsys.stdin.read()"
                );
                let Ok(mut child) = Command::new("python3")
                    .args(["-c", &script])
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                else {
                    eprintln!("skipped: no python3");
                    return;
                };
                let mut line = String::new();
                let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
                std::io::BufRead::read_line(&mut said, &mut line).unwrap();
                let found = take("a-name").unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                assert_eq!(line, "bound\n");
                assert!(matches!(found, Claim::Void), "{found:?}");
            })
            .unwrap();
    }
}
