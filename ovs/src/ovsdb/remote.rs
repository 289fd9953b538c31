//! Where a database server listens, in the notation of ovsdb(7), "Active OVSDB Connection Methods".

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;

#[cfg(test)]
mod tests;

/// The port of databases whose remote names none (IANA's for OVSDB).
pub const DEFAULT_PORT: u16 = 6640;

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// `unix:PATH`, the path as it is: what OVS's run directory is, is not known here.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`, IPv6 addresses in brackets.
    Tcp(Endpoint),
    /// `ssl:HOST:PORT`
    Ssl(Endpoint),
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The three files an `ssl:` remote needs.
///
/// They are read for each connection, so that renewed certificates are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our private key, PEM.
    pub private_key: PathBuf,
    /// Our certificate, PEM.
    pub certificate: PathBuf,
    /// The certificates that sign the server's, PEM.
    pub ca: PathBuf,
}

impl Remote {
    /// The server behind a local socket.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Remote::Unix(path.as_ref().to_owned())
    }

    /// One or more remotes with commas between: the members of a cluster.
    pub fn parse_list(text: &str) -> Result<Vec<Remote>, Error> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl FromStr for Remote {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadRemote { text: text.to_owned(), reason };
        let endpoint = |rest| Endpoint::parse(rest).map_err(bad);
        match text.split_once(':') {
            Some(("unix", "")) => Err(bad("the path is missing")),
            Some(("unix", path)) => Ok(Remote::unix(path)),
            Some(("tcp", rest)) => Ok(Remote::Tcp(endpoint(rest)?)),
            Some(("ssl", rest)) => Ok(Remote::Ssl(endpoint(rest)?)),
            Some(("ptcp" | "pssl" | "punix", _)) => Err(bad("it is a place to listen on")),
            _ => Err(bad("it does not begin with a known method")),
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
                host.split('%')
                    .next()
                    .unwrap_or(host)
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| "no IPv6 address in the brackets")?;
                match after {
                    "" => (host, None),
                    _ => (
                        host,
                        Some(
                            after
                                .strip_prefix(':')
                                .ok_or("something other than a port follows the brackets")?,
                        ),
                    ),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                Some(_) => return Err("an IPv6 address needs brackets"),
                None => (text, None),
            },
        };
        if host.is_empty() || host.contains(|letter: char| letter.is_whitespace() || letter == '/') {
            return Err("the host is missing");
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
                _ => return Err("the port is not a number from 1 to 65535"),
            },
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
            Remote::Tcp(endpoint) => write!(f, "tcp:{endpoint}"),
            Remote::Ssl(endpoint) => write!(f, "ssl:{endpoint}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
