//! Looking at the world: the thin rim that fills [`Facts`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use host::netlink::Netlink;
use ipnet::IpNet;
use ovs::ovsdb::{Config, Db, Remote, Status, TlsFiles};
use ovs::paths::Paths;
use ovs::rows::{nb, vswitch};
use tokio::sync::watch;

use super::northbound;

/// A followed database with the news of it.
#[derive(Debug)]
pub struct Followed {
    /// The database.
    pub db: Db,
    /// Changes when it does.
    pub news: watch::Receiver<Status>,
    /// Where it is.
    pub origin: String,
}

impl Followed {
    fn new(config: Config) -> Self {
        let origin = Followed::origin(&config.remotes);
        let db = Db::spawn(config);
        Followed { news: db.subscribe(), db, origin }
    }

    /// Where these are, for people and to tell one database from another.
    pub fn origin(remotes: &[Remote]) -> String {
        remotes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The local database.
    pub fn local(remotes: Vec<Remote>) -> Self {
        let mut config = Config::new(remotes, vswitch::DATABASE);
        config.monitors = vswitch::monitors();
        Followed::new(config)
    }

    /// The northbound database, as far as the gateway router of one logical port goes.
    pub fn northbound(remotes: Vec<Remote>, tls: Option<TlsFiles>, iface_id: &str) -> Self {
        let mut config = Config::new(remotes, nb::DATABASE);
        config.tls = tls;
        config.monitors = northbound::monitors(iface_id);
        Followed::new(config)
    }

    /// Whether it was ever seen whole.
    pub fn known(&self) -> bool {
        self.news.borrow().generation() > 0
    }

    /// Why it cannot be followed at the moment, if it cannot.
    pub fn error(&self) -> Option<String> {
        match &*self.news.borrow() {
            Status::Synced { .. } => None,
            Status::Connecting { last_error, .. } => {
                Some(last_error.as_deref().unwrap_or("no answer yet").to_owned())
            }
        }
    }
}

/// Addresses of every device, by the device's name.
pub async fn addresses(netlink: &Netlink) -> host::Result<Vec<(String, IpNet)>> {
    let links = netlink.links().await?;
    let mut named: Vec<(String, IpNet)> = netlink
        .addresses()
        .await?
        .into_iter()
        .filter_map(|address| Some((links.indexed(address.link)?.name.clone(), address.net)))
        .collect();
    named.sort();
    Ok(named)
}

/// The northbound database: told, or of the switch's settings, or on this machine.
pub fn nb_remotes(told: &[Remote], ovn_nb: Option<&str>, paths: &Paths) -> Result<Vec<Remote>, String> {
    if !told.is_empty() {
        return Ok(told.to_vec());
    }
    if let Some(text) = ovn_nb {
        return Remote::parse_list(text).map_err(|error| format!("external_ids:ovn-nb: {error}"));
    }
    let socket: PathBuf = paths.nb_sock();
    if socket.exists() {
        return Ok(vec![Remote::unix(socket)]);
    }
    Err("OVN central database's ip address not set: set external_ids:ovn-nb, or give --nb-db".to_owned())
}

/// Servers that the node itself has to reach, as far as they are named by address: `https://10.0.0.1:6443`,
/// `10.0.0.1:8080`, `tcp:10.0.0.2:6642`. What cannot be read is left out: a name cannot be taken by a Service.
pub fn servers<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<SocketAddr> {
    texts.into_iter().flat_map(|text| text.split(',')).filter_map(server).collect()
}

fn server(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.split('/').next().unwrap_or(rest)),
        None => ("", text.trim_start_matches("tcp:").trim_start_matches("ssl:")),
    };
    let port = if scheme == "https" { 443 } else { 80 };
    let bare = rest.trim_start_matches('[').trim_end_matches(']');
    rest.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_settings_write_them() {
        let found = servers([
            "https://10.0.0.1",
            "10.0.0.1:8080",
            "tcp:10.0.0.2:6641,ssl:[fd00::2]:6641",
            "https://[fd00::1]:6443/x",
            "unix:/run/db.sock",
            "api.example:6443",
        ]);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["10.0.0.1:443", "10.0.0.1:8080", "10.0.0.2:6641", "[fd00::1]:6443", "[fd00::2]:6641"]
        );
    }
}
