//! A database that answers late, never, or with an error: a socket in front of the real one.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use netns_tests::takeover::Site;

/// What the socket does to the answers of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Every answer comes this much later.
    Late(Duration),
    /// No answer at all.
    Never,
    /// So many transactions are answered, and then nothing any more.
    SilentAfter(usize),
    /// Every transaction is answered with an error.
    Error,
}

/// The socket. Connections end with their clients.
#[derive(Debug)]
pub struct Proxy {
    path: PathBuf,
    end: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(site: &Site, manner: Manner) -> Result<Self> {
        let path = site.dir().join("proxy.sock");
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).with_context(|| format!("binding {}", path.display()))?;
        let end = Arc::new(AtomicBool::new(false));
        let (database, told) = (site.switch().socket(), Arc::clone(&end));
        let seen = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let (database, seen) = (database.clone(), Arc::clone(&seen));
                thread::spawn(move || drop(serve(client, &database, manner, &seen)));
            }
        });
        Ok(Self { path, end })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // The listener waits for one more client.
        drop(UnixStream::connect(&self.path));
    }
}

fn serve(client: UnixStream, database: &Path, manner: Manner, seen: &AtomicUsize) -> Result<()> {
    let server = UnixStream::connect(database)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    let (mut requests, mut forth) = (client.try_clone()?, server);
    let quiet = Arc::new(AtomicBool::new(manner == Manner::Never));
    let (told, patience) = (Arc::clone(&quiet), manner);
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length) = answers.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            if let Manner::Late(time) = patience {
                thread::sleep(time);
            }
            if !told.load(Ordering::Relaxed) && back.write_all(bytes).is_err() {
                break;
            }
        }
        drop(back.shutdown(std::net::Shutdown::Both));
    });
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = requests.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let text = String::from_utf8_lossy(bytes);
        // Only what writes: a look at the database is a transaction, too.
        let writes =
            ["\"insert\"", "\"update\"", "\"mutate\"", "\"delete\""].iter().any(|word| text.contains(word));
        if writes && manner == Manner::Error {
            let id =
                text.split("\"id\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap_or("0");
            let answer = format!(
                "{{\"id\":{id},\"result\":[{{\"error\":\"resources exhausted\",\"details\":\"the disk is full\"}}],\"error\":null}}"
            );
            (&client).write_all(answer.as_bytes())?;
            continue;
        }
        if writes
            && let Manner::SilentAfter(count) = manner
            && seen.fetch_add(1, Ordering::Relaxed) >= count
        {
            quiet.store(true, Ordering::Relaxed);
            continue;
        }
        forth.write_all(bytes)?;
    }
}
