//! The client of the API server, from the node's settings.
//!
//! The settings are those of the `Open_vSwitch` table (`k8s-api-server`, `k8s-ca-certificate`, `k8s-api-token`) and of
//! `ovn_k8s.conf` (`k8s_ca_certificate`), or a kubeconfig. The checks run before a process detaches: an address that is
//! none, a certificate that cannot be read, a token that would be readable on the network.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::error::Error;

/// The node's settings for its API server. Only the server is required.
#[derive(Clone, Default)]
pub struct NodeSettings {
    /// `external_ids:k8s-api-server`: `HOST:PORT` or a URL. Without a scheme it is plain http.
    pub api_server: Option<String>,
    /// `external_ids:k8s-ca-certificate`: PEM text, its newlines written as a backslash and an n, or real.
    pub ca_certificate: Option<String>,
    /// `k8s_ca_certificate` of the configuration file: a PEM file, used when the text above is not set. It is read
    /// again about every minute. One that does not exist counts as not set.
    pub ca_file: Option<PathBuf>,
    /// `external_ids:k8s-api-token`.
    pub api_token: Option<String>,
    /// A file with the token, used when the text above is not set. It is read again about every minute, and when the
    /// server refuses the token.
    pub token_file: Option<PathBuf>,
    /// Send the token over plain http to any host.
    pub allow_insecure_token: bool,
}

/// How to reach an API server: checked, and ready to become a client.
#[derive(Clone)]
pub struct ClientConfig {
    server: String,
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    Settings { ca: Ca, token: Token },
    Kubeconfig { path: PathBuf, parsed: Box<Kubeconfig> },
}

/// The certificates that vouch for the API server.
#[derive(Clone)]
enum Ca {
    /// The system's.
    System,
    Text(Vec<Vec<u8>>),
    File(PathBuf),
}

/// The bearer token. Has no `Debug` on purpose.
#[derive(Clone)]
enum Token {
    None,
    Text(String),
    File(PathBuf),
}

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl ClientConfig {
    /// From the settings of the node.
    ///
    /// # Errors
    ///
    /// When the server is missing or no address, the certificate cannot be read, or the token would be readable on the
    /// network.
    pub fn from_settings(settings: &NodeSettings) -> Result<Self, Error> {
        let given = settings.api_server.as_deref().map(str::trim).filter(|value| !value.is_empty());
        let server = Server::parse(given.ok_or(Error::NoServer)?)?;
        let ca = match (text(settings.ca_certificate.as_ref()), &settings.ca_file) {
            (Some(pem), _) => {
                Ca::Text(certificates("external_ids:k8s-ca-certificate", &pem.replace("\\n", "\n"))?)
            }
            (None, Some(file)) if file.exists() => {
                let from = file.display().to_string();
                let pem = std::fs::read_to_string(file)
                    .map_err(|error| Error::Ca { from: from.clone(), why: error.to_string() })?;
                certificates(&from, &pem)?;
                Ca::File(file.clone())
            }
            (None, _) => Ca::System,
        };
        let token = match (text(settings.api_token.as_ref()), &settings.token_file) {
            (Some(token), _) => {
                check_token("external_ids:k8s-api-token", token)?;
                Token::Text(token.to_owned())
            }
            (None, Some(file)) => {
                let from = file.display().to_string();
                let token = std::fs::read_to_string(file)
                    .map_err(|error| Error::Token { from: from.clone(), why: error.to_string() })?;
                check_token(&from, token.trim())?;
                Token::File(file.clone())
            }
            (None, None) => Token::None,
        };
        if !matches!(token, Token::None) {
            server.check_token_is_safe(settings.allow_insecure_token)?;
        }
        Ok(Self { server: server.url, origin: Origin::Settings { ca, token } })
    }

    /// From a kubeconfig file and its current context.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has no server for its context, or its token would be readable on the network.
    pub fn from_kubeconfig(path: &Path, allow_insecure_token: bool) -> Result<Self, Error> {
        let wrong = |why: String| Error::Kubeconfig { path: path.into(), why };
        let parsed = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
        let current = parsed.current_context.as_deref().unwrap_or_default();
        let context = parsed
            .contexts
            .iter()
            .find(|entry| entry.name == current)
            .and_then(|entry| entry.context.as_ref());
        let context = context.ok_or_else(|| wrong(format!("there is no context \"{current}\"")))?;
        let cluster = parsed.clusters.iter().find(|entry| entry.name == context.cluster);
        let url = cluster.and_then(|entry| entry.cluster.as_ref()?.server.as_deref());
        let server =
            Server::parse(url.ok_or_else(|| wrong(format!("context \"{current}\" has no server")))?)?;
        let user = context.user.as_deref().unwrap_or_default();
        let user = parsed.auth_infos.iter().find(|entry| entry.name == user);
        let has_secret = user.and_then(|entry| entry.auth_info.as_ref()).is_some_and(|auth| {
            auth.token.is_some()
                || auth.token_file.is_some()
                || auth.password.is_some()
                || auth.exec.is_some()
        });
        if has_secret {
            server.check_token_is_safe(allow_insecure_token)?;
        }
        let origin = Origin::Kubeconfig { path: path.into(), parsed: Box::new(parsed) };
        Ok(Self { server: server.url, origin })
    }

    /// The server's URL, without credentials.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A client. Files named in the settings are read now.
    pub(crate) async fn client(&self) -> Result<kube::Client, Error> {
        let failed = |why: String| Error::Client { server: self.server.clone(), why };
        let mut config = match &self.origin {
            Origin::Settings { ca, token } => {
                let url = self.server.parse().map_err(|error| failed(format!("{error}")))?;
                let mut config = kube::Config::new(url);
                match ca {
                    // Without any root the client loads the system's, which takes a while, even for http.
                    Ca::System if self.server.starts_with("http://") => config.root_cert = Some(Vec::new()),
                    Ca::System => {}
                    Ca::Text(certificates) => config.root_cert = Some(certificates.clone()),
                    Ca::File(file) => {
                        config.root_cert = Some(Vec::new());
                        config.root_cert_file = Some(file.clone());
                    }
                }
                match token {
                    Token::None => {}
                    Token::Text(token) => config.auth_info.token = Some(token.clone().into()),
                    Token::File(file) => config.auth_info.token_file = Some(file.display().to_string()),
                }
                config
            }
            Origin::Kubeconfig { path, parsed } => {
                kube::Config::from_custom_kubeconfig((**parsed).clone(), &KubeConfigOptions::default())
                    .await
                    .map_err(|error| Error::Kubeconfig { path: path.clone(), why: error.to_string() })?
            }
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // We have our own pauses between attempts.
        config.default_retry = false;
        kube::Client::try_from(config).map_err(|error| failed(flatten(&error)))
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("server", &self.server).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSettings")
            .field("api_server", &self.api_server)
            .field("ca_certificate", &self.ca_certificate.is_some())
            .field("ca_file", &self.ca_file)
            .field("api_token", &self.api_token.as_ref().map(|_| "(hidden)"))
            .field("token_file", &self.token_file)
            .field("allow_insecure_token", &self.allow_insecure_token)
            .finish()
    }
}

/// The address of a server, taken apart as far as it must be judged.
struct Server {
    url: String,
    host: String,
    https: bool,
}

impl Server {
    fn parse(value: &str) -> Result<Self, Error> {
        let given = value.trim();
        let (https, rest) = match given.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, _)) => {
                return Err(wrong(value, &format!("the scheme {scheme} is neither http nor https")));
            }
            None => (false, given),
        };
        let rest = rest.trim_end_matches('/');
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            // Not repeated in the message: it is a password.
            return Err(wrong("(hidden)", "credentials do not belong into the URL"));
        }
        if path.contains(['?', '#']) || rest.contains(char::is_whitespace) {
            return Err(wrong(value, "it is no address"));
        }
        let (host, port) =
            split_host_port(authority).ok_or_else(|| wrong(value, "HOST:PORT does not read so"))?;
        if host.is_empty() {
            return Err(wrong(value, "the host is missing"));
        }
        if let Some(port) = port
            && port.parse::<u16>().map_or(true, |number| number == 0)
        {
            return Err(wrong(value, &format!("\"{port}\" is no port from 1 to 65535")));
        }
        let scheme = if https { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{authority}{path}"), host: host.to_owned(), https })
    }

    fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn check_token_is_safe(&self, allow_insecure: bool) -> Result<(), Error> {
        if self.https || allow_insecure || self.is_loopback() {
            return Ok(());
        }
        Err(Error::InsecureToken { server: self.url.clone() })
    }
}

/// An error with all its causes, as one line.
pub(crate) fn flatten(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many types repeat their cause in their own text.
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn wrong(value: &str, why: &str) -> Error {
    Error::Server { value: value.into(), why: why.into() }
}

fn text(value: Option<&String>) -> Option<&str> {
    value.map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// The host without brackets, and the port as text.
fn split_host_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        // Two colons: IPv6 without brackets, where the port cannot be distinguished from the address.
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

/// The certificates of a PEM text, each one checked.
fn certificates(from: &str, pem: &str) -> Result<Vec<Vec<u8>>, Error> {
    let wrong = |why: String| Error::Ca { from: from.into(), why };
    let mut all = Vec::new();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(format!("this is no PEM text ({error})")))?;
        roots
            .add(certificate.clone())
            .map_err(|error| wrong(format!("certificate {} is broken ({error})", all.len() + 1)))?;
        all.push(certificate.to_vec());
    }
    if all.is_empty() {
        return Err(wrong("there is no certificate in it (no BEGIN CERTIFICATE line)".into()));
    }
    Ok(all)
}

/// A token goes into a header line.
fn check_token(from: &str, token: &str) -> Result<(), Error> {
    let wrong = |why: &str| Error::Token { from: from.into(), why: why.into() };
    if token.is_empty() {
        return Err(wrong("there is no token in it"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("the token holds blanks, line ends or other characters that no token has"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
