//! A real kube-apiserver with its etcd, as a fixture.
//!
//! ```no_run
//! # fn example() -> anyhow::Result<()> {
//! use netns_tests::apiserver::{ApiServer, Place};
//!
//! let mut api = ApiServer::start(&Place::Loopback)?;
//! api.apply(&serde_json::json!({
//!     "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" },
//!     "spec": { "type": "NodePort", "ports": [{ "port": 80 }] },
//! }))?;
//! api.kill()?; // the objects stay in its etcd
//! api.restart()?;
//! # Ok(()) }
//! ```
//!
//! The binary is built from the Go modules in `netns-tests/apiserver` the first time, or named by `KUBE_APISERVER`.
//! When it cannot be had, [`ApiServer::start`] says why: a test never passes for want of a server. Both processes end
//! with the value, and with the process that made it, however that ends.

mod process;
mod request;
mod tls;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use process::Process;

use crate::lab::address::SERVICES;

/// The bearer token of an administrator of the test's cluster.
const TOKEN: &str = "test-admin-token";
/// How long a server may take until it serves. A loaded machine is slow.
const READY: Duration = Duration::from_secs(120);

/// Where the API server listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// On a loopback address of its own in the namespace of the caller.
    Loopback,
    /// On an address in a named network namespace, which the caller made; the address must be there and up.
    Netns {
        /// The name, as `ip netns` knows it.
        name: String,
        /// The address. The first service range is of its family.
        ip: IpAddr,
    },
}

/// A running API server with an etcd of its own.
#[derive(Debug)]
pub struct ApiServer {
    // The processes are dropped before the folder they write to.
    server: Option<Process>,
    _etcd: Process,
    netns: Option<String>,
    address: IpAddr,
    port: u16,
    etcd_url: String,
    binary: PathBuf,
    ca_pem: String,
    dir: TempDir,
}

impl ApiServer {
    /// Start both, and wait until objects can be made in the namespace `default`.
    ///
    /// # Errors
    ///
    /// When there is no server binary and none can be built, or it does not come up; its log is in the message.
    pub fn start(place: &Place) -> Result<Self> {
        let binary = binary()?;
        let dir =
            tempfile::Builder::new().prefix("kube-test-").tempdir().context("a folder for the API server")?;
        let (netns, address, ports) = match place {
            Place::Loopback => {
                let (address, ports) = own_loopback();
                (None, IpAddr::V4(address), ports)
            }
            Place::Netns { name, ip } => (Some(name.clone()), *ip, [6443, 2379, 2380]),
        };
        let ca_pem = tls::make(dir.path(), address)?;
        fs::write(dir.path().join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n"))
            .context("writing the token file")?;
        let [port, client, peer] = ports;
        let etcd_url = url("http", address, client);
        let etcd_args = [
            "etcd".to_owned(),
            format!("--data-dir={}", dir.path().join("etcd").display()),
            format!("--listen-client-urls={etcd_url}"),
            format!("--listen-peer-urls={}", url("http", address, peer)),
        ];
        let etcd = Process::start(netns.as_deref(), &binary, &etcd_args, &dir.path().join("etcd.log"))?;
        let mut server =
            Self { server: None, _etcd: etcd, netns, address, port, etcd_url, binary, ca_pem, dir };
        server.restart()?;
        Ok(server)
    }

    /// Kill the API server, as `kill -9` does. Its etcd goes on.
    ///
    /// # Errors
    ///
    /// When the process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.kill(),
            None => Ok(()),
        }
    }

    /// Start the API server (again), with the objects in its etcd, and wait until it serves.
    ///
    /// # Errors
    ///
    /// When it does not come up; its log is in the message.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let log = self.dir.path().join("kube-apiserver.log");
        self.server = Some(Process::start(self.netns.as_deref(), &self.binary, &self.arguments(), &log)?);
        let deadline = Instant::now() + READY;
        loop {
            let ready = self.get("/readyz").is_ok() && self.get("/api/v1/namespaces/default").is_ok();
            if ready {
                return Ok(());
            }
            let ended = self.server.as_mut().is_some_and(Process::has_ended);
            if ended || Instant::now() > deadline {
                let how = if ended { "ended" } else { "does not get ready" };
                bail!("kube-apiserver {how}; the end of its log:\n{}", process::tail(&log));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Make etcd forget every revision but the newest. A watch that goes on from an older one, after a
    /// [`ApiServer::restart`], is told that it expired (410).
    ///
    /// # Errors
    ///
    /// When etcd does not answer.
    pub fn compact(&self) -> Result<()> {
        let args = ["etcd-compact".to_owned(), format!("--endpoints={}", self.etcd_url)];
        process::run(self.netns.as_deref(), &self.binary, &args, None).map(drop)
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        url("https", self.address, self.port)
    }

    /// A bearer token that may do everything.
    #[must_use]
    pub fn token(&self) -> &str {
        TOKEN
    }

    /// The certificate authority, as PEM text.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The certificate authority, as a file.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let [v4, v6] = SERVICES;
        let ranges = match self.address {
            IpAddr::V4(_) => format!("{v4},{v6}"),
            IpAddr::V6(_) => format!("{v6},{v4}"),
        };
        vec![
            "kube-apiserver".into(),
            format!("--etcd-servers={}", self.etcd_url),
            format!("--secure-port={}", self.port),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--tls-cert-file={}", file("api.crt")),
            format!("--tls-private-key-file={}", file("api.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("sa.key")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-cluster-ip-range={ranges}"),
            "--authorization-mode=RBAC".into(),
            "--allow-privileged".into(),
            // A pod may then be made before there is a controller that makes its service account.
            "--disable-admission-plugins=ServiceAccount".into(),
        ]
    }
}

/// The server binary: named by `KUBE_APISERVER`, from the cache, or built now.
///
/// # Errors
///
/// When it cannot be had, with what the build script says about it.
pub fn binary() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("apiserver/build");
    let path = process::run(None, &script, &[], None).context("no kube-apiserver to test with")?;
    Ok(PathBuf::from(path.trim()))
}

/// An address under 127.0.0.0/8 that no other process of this machine uses, and three ports on it. Nothing has to be
/// tried out, so nothing can be taken in between.
fn own_loopback() -> (Ipv4Addr, [u16; 3]) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    // A process id has 22 bits at most.
    let [_, high, middle, low] = (std::process::id() << 2 | (count & 3)).to_be_bytes();
    let base = 16_443 + 10 * u16::try_from(count >> 2).unwrap_or(0);
    (Ipv4Addr::new(127, high, middle, low), [base, base + 1, base + 2])
}

fn url(scheme: &str, address: IpAddr, port: u16) -> String {
    format!("{scheme}://{}", std::net::SocketAddr::new(address, port))
}
