//! The daemon's side: commands by name, and the loop that serves them.

use std::collections::{BTreeMap, VecDeque};
use std::fs::Permissions;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::UnixctlError;
use super::address::Address;
use crate::ovsdb::framing::JsonFramer;
use crate::vlog::Vlog;

/// The longest request accepted.
const LONGEST_REQUEST: usize = 1 << 20;

/// Connections served at a time; beyond it the oldest is closed.
const CONNECTIONS: usize = 64;

/// How long a begun request may take to arrive, and an answer to be taken.
const STALL: Duration = Duration::from_secs(10);

/// How long a connection may be open without a request.
const IDLE: Duration = Duration::from_secs(300);

type Answer = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;
type Handler = Box<dyn Fn(Vec<String>) -> Answer + Send + Sync>;

struct Command {
    usage: String,
    min: usize,
    max: usize,
    handler: Handler,
}

/// The commands of a daemon and its control socket.
///
/// Built in are `exit`, `list-commands`, `help`, `version`, and `vlog/set`, `vlog/list`, `vlog/list-pattern`, `vlog/reopen`,
/// `vlog/close`. Dropping the server, or the future of [`Server::run`], removes the socket.
pub struct Server {
    commands: BTreeMap<String, Command>,
    socket: Socket,
    exit: watch::Sender<bool>,
}

/// Becomes true when a client sends `exit`.
#[derive(Clone, Debug)]
pub struct ExitRequest(watch::Receiver<bool>);

impl ExitRequest {
    /// Waits for the command `exit`; never returns when no server can receive it any more.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|exit| *exit).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A listening socket whose file goes with it.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Server {
    /// Opens the socket at `path`, with the built-in commands. Needs a tokio runtime. A connection made from now on
    /// waits until [`Server::run`] serves it.
    pub fn bind(path: &Path, program: &str, version: &str, vlog: &Vlog) -> Result<Self, UnixctlError> {
        let socket =
            Socket::bind(path).map_err(|error| UnixctlError::Bind { path: path.to_owned(), error })?;
        let mut server = Self { commands: BTreeMap::new(), socket, exit: watch::channel(false).0 };
        let version = format!("{program} {version}");
        server.register("version", "", 0, 0, move |_| std::future::ready(Ok(version.clone())));
        server.register("exit", "", 0, 0, |_| std::future::ready(Ok(String::new())));
        server.register_vlog(vlog);
        Ok(server)
    }

    /// Adds a command, or replaces one: `usage` shows its arguments, of which there are `min` to `max`. The handler's
    /// error is the refusal that ovs-appctl prints. An `exit` of the daemon's own still ends in [`ExitRequest`], when
    /// it succeeds.
    pub fn register<F, R>(&mut self, name: &str, usage: &str, min: usize, max: usize, handler: F)
    where
        F: Fn(Vec<String>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, String>> + Send + 'static,
    {
        let handler: Handler = Box::new(move |args| Box::pin(handler(args)));
        self.commands.insert(name.to_owned(), Command { usage: usage.to_owned(), min, max, handler });
    }

    /// Becomes true when a client sends `exit`.
    pub fn exit_request(&self) -> ExitRequest {
        ExitRequest(self.exit.subscribe())
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Serves until dropped.
    pub async fn run(mut self) {
        let list = self.list_commands();
        for name in ["list-commands", "help"] {
            let list = list.clone();
            self.register(name, "", 0, 0, move |_| std::future::ready(Ok(list.clone())));
        }
        let (commands, exit) = (Arc::new(self.commands), Arc::new(self.exit));
        let mut open = Open(VecDeque::new());
        loop {
            match self.socket.listener.accept().await {
                Ok((stream, _)) => {
                    open.add(tokio::spawn(serve(stream, commands.clone(), exit.clone())).abort_handle())
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting at once again would only burn the processor.
                    tracing::debug!(target: "ovs::unixctl", "cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn register_vlog(&mut self, vlog: &Vlog) {
        let handle = vlog.clone();
        self.register("vlog/set", "{spec | PATTERN:destination:pattern}", 1, usize::MAX, move |specs| {
            let result =
                specs.iter().try_for_each(|spec| handle.set(spec)).map_err(|error| error.to_string());
            std::future::ready(result.map(|()| String::new()))
        });
        let handle = vlog.clone();
        self.register("vlog/list", "", 0, 0, move |_| std::future::ready(Ok(handle.list())));
        let handle = vlog.clone();
        self.register("vlog/list-pattern", "", 0, 0, move |_| std::future::ready(Ok(handle.list_patterns())));
        let handle = vlog.clone();
        self.register("vlog/reopen", "", 0, 0, move |_| {
            let result = match handle.file_path() {
                Some(_) => handle.reopen().map_err(|error| error.to_string()),
                None => Err("Logging to file not configured".to_owned()),
            };
            std::future::ready(result.map(|()| String::new()))
        });
        let handle = vlog.clone();
        self.register("vlog/close", "", 0, 0, move |_| {
            handle.close();
            std::future::ready(Ok(String::new()))
        });
    }

    fn list_commands(&self) -> String {
        let own = [("help", ""), ("list-commands", "")];
        let registered = self.commands.iter().map(|(name, command)| (name.as_str(), command.usage.as_str()));
        let all: BTreeMap<&str, &str> = registered.chain(own).collect();
        let mut text = "The available commands are:\n".to_owned();
        for (name, usage) in all {
            text += format!("  {name:<23} {usage}").trim_end();
            text.push('\n');
        }
        text
    }
}

impl Socket {
    /// Binds a socket that only its owner can open.
    fn bind(path: &Path) -> std::io::Result<Self> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, listen, socket};

        // A socket that a process with our id left behind is replaced; any other file is not ours.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let address = Address::of(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // The mode of the descriptor is that of the file it is bound to (unix(7)): at no moment is it wider.
        nix::sys::stat::fchmod(&fd, nix::sys::stat::Mode::S_IRWXU)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(address.name())?)?;
        let _ = std::fs::set_permissions(path, Permissions::from_mode(0o700));
        listen(&fd, nix::sys::socket::Backlog::new(CONNECTIONS as i32)?)?;
        let listener = std::os::unix::net::UnixListener::from(fd);
        Ok(Self { path: path.to_owned(), listener: UnixListener::from_std(listener)? })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The connections being served, oldest first. They end with the server.
struct Open(VecDeque<AbortHandle>);

impl Open {
    fn add(&mut self, connection: AbortHandle) {
        self.0.retain(|open| !open.is_finished());
        if self.0.len() == CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// A request as it comes. The types of `params` are checked later, so that the answer can name the error.
#[derive(Deserialize)]
struct Request {
    id: serde_json::Value,
    method: String,
    #[serde(default)]
    params: Vec<serde_json::Value>,
}

/// Serves one connection, one request after the other, until either side ends it.
async fn serve(
    mut stream: UnixStream,
    commands: Arc<BTreeMap<String, Command>>,
    exit: Arc<watch::Sender<bool>>,
) {
    let mut framer = JsonFramer::new(LONGEST_REQUEST);
    let mut buffer = BytesMut::new();
    loop {
        let message = match framer.next(&mut buffer) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(target: "ovs::unixctl", "closing a connection: {error}");
                return;
            }
        };
        let Some(message) = message else {
            let limit = if framer.pending() > 0 { STALL } else { IDLE };
            match timeout(limit, stream.read_buf(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => continue,
                _ => return,
            }
        };
        // Neither a reply nor a notification is ours to answer.
        let Ok(request) = serde_json::from_str::<Request>(message.get()) else { return };
        let ends = request.method == "exit";
        let (answer, accepted) = answer(&commands, request).await;
        let written = timeout(STALL, stream.write_all(answer.as_bytes())).await;
        if ends && accepted {
            // Only now: the daemon may be gone a moment later, and the caller is to have its answer.
            exit.send_replace(true);
        }
        let Ok(Ok(())) = written else { return };
    }
}

/// Runs a command, if it is one, and puts its answer into JSON-RPC; true when it was not refused.
async fn answer(commands: &BTreeMap<String, Command>, request: Request) -> (String, bool) {
    let outcome = match check(commands, &request) {
        Ok((command, args)) => {
            tracing::debug!(target: "ovs::unixctl", "received request {} {args:?}", request.method);
            (command.handler)(args).await
        }
        Err(refusal) => Err(refusal),
    };
    let id = request.id;
    match outcome {
        Ok(text) => (json!({"id": id, "result": with_newline(text), "error": null}).to_string(), true),
        Err(text) => (json!({"id": id, "result": null, "error": with_newline(text)}).to_string(), false),
    }
}

/// The requested command and its arguments, or the error with the text of `lib/unixctl.c`.
fn check<'a>(
    commands: &'a BTreeMap<String, Command>,
    request: &Request,
) -> Result<(&'a Command, Vec<String>), String> {
    let name = &request.method;
    let count = request.params.len();
    let Some(command) = commands.get(name) else {
        return Err(format!(
            "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
    };
    if count < command.min {
        return Err(format!("\"{name}\" command requires at least {} arguments", command.min));
    }
    if count > command.max {
        return Err(format!("\"{name}\" command takes at most {} arguments", command.max));
    }
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let args: Option<Vec<String>> = request.params.iter().map(text).collect();
    match args {
        Some(args) => Ok((command, args)),
        None => Err(format!("\"{name}\" command has non-string argument")),
    }
}

/// ovs-appctl prints an answer as it is.
fn with_newline(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
