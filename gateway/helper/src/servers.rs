//! Servers that the node itself has to reach, as settings name them. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The servers in these texts, as far as they are named by address: `https://10.0.0.1:6443`, `10.0.0.1:8080`,
/// `tcp:10.0.0.2:6642`. Others are left out: no Service can claim a name.
pub(crate) fn servers<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<SocketAddr> {
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
