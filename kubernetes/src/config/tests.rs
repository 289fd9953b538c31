//! What is taken and what is refused before a process detaches.
#![allow(clippy::unwrap_used, reason = "a test reports by failing")]

use super::*;

/// A certificate made for this test: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes`.
const PEM: &str = include_str!("test-ca.pem");

fn settings(server: &str) -> NodeSettings {
    NodeSettings { api_server: Some(server.into()), ..NodeSettings::default() }
}

fn server(value: &str) -> Result<String, String> {
    ClientConfig::from_settings(&settings(value))
        .map(|config| config.server().to_owned())
        .map_err(|e| e.to_string())
}

#[test]
fn a_server_without_a_scheme_is_plain_http() {
    assert_eq!(server("192.0.2.1:8080").unwrap(), "http://192.0.2.1:8080");
    assert_eq!(server(" api.example:8080/ ").unwrap(), "http://api.example:8080");
    assert_eq!(server("https://[2001:db8::1]:6443").unwrap(), "https://[2001:db8::1]:6443");
    assert_eq!(server("HTTPS://api.example/k8s/clusters/c1").unwrap(), "https://api.example/k8s/clusters/c1");
}

#[test]
fn what_is_no_server_is_refused_with_a_remedy() {
    for (value, expected) in [
        ("", "no API server"),
        ("ftp://api.example", "neither http nor https"),
        ("2001:db8::1:6443", "HOST:PORT"),
        ("api.example:0", "\"0\" is no port"),
        ("api.example:66000", "\"66000\" is no port"),
        ("api.example:", "is no port"),
        ("https://", "the host is missing"),
        ("https://:6443", "the host is missing"),
        ("https://a b", "no address"),
    ] {
        let error = server(value).unwrap_err();
        assert!(error.contains(expected), "{value:?}: {error}");
    }
    let error = server("https://me:secret@api.example").unwrap_err();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_token_never_goes_over_plain_http_to_another_host() {
    let with_token = |server: &str, allow| {
        let token = Some("s3cret".to_owned());
        ClientConfig::from_settings(&NodeSettings {
            api_token: token,
            allow_insecure_token: allow,
            ..settings(server)
        })
    };
    for loopback in ["127.0.0.1:8080", "127.9.9.9:1", "http://[::1]:8080", "localhost:8080", "LOCALHOST"] {
        assert!(with_token(loopback, false).is_ok(), "{loopback}");
    }
    assert!(with_token("https://192.0.2.1", false).is_ok());
    for other in
        ["192.0.2.1:8080", "http://[2001:db8::1]", "localhost.example", "127.0.0.1.example:80", "0.0.0.0:80"]
    {
        let error = with_token(other, false).unwrap_err().to_string();
        assert!(error.contains("--allow-insecure-token") && !error.contains("s3cret"), "{error}");
        assert!(with_token(other, true).is_ok());
    }
}

#[test]
fn a_token_is_never_shown() {
    let settings = NodeSettings { api_token: Some("s3cret".into()), ..settings("https://192.0.2.1") };
    let config = ClientConfig::from_settings(&settings).unwrap();
    assert!(!format!("{settings:?} {config:?} {config:#?}").contains("s3cret"));
    let broken = NodeSettings { api_token: Some("s3cret\nX: y".into()), ..settings };
    let error = ClientConfig::from_settings(&broken).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn the_ca_is_text_with_written_line_ends_or_a_file() {
    let text = |pem: &str| {
        let ca_certificate = Some(pem.to_owned());
        ClientConfig::from_settings(&NodeSettings { ca_certificate, ..settings("https://192.0.2.1") })
    };
    assert!(text(PEM).is_ok());
    assert!(text(&PEM.replace('\n', "\\n")).is_ok());
    assert!(text(&format!("{PEM}{PEM}")).is_ok());
    for broken in ["nonsense", &PEM[..PEM.len() / 2], &PEM.replace('M', "!"), &PEM.replace("END", "ENDE")] {
        let error = text(broken).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("external_ids:k8s-ca-certificate: "), "{error:?} for {broken:?}");
    }
    // Right form, and no certificate in it.
    let hollow = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(text(hollow).unwrap_err().to_string().contains("certificate 1 is broken"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    let from_file = || {
        let ca_file = Some(file.clone());
        ClientConfig::from_settings(&NodeSettings { ca_file, ..settings("https://192.0.2.1") })
    };
    assert!(from_file().is_ok(), "a file that does not exist counts as not set");
    std::fs::write(&file, "nonsense").unwrap();
    assert!(from_file().unwrap_err().to_string().contains("ca.crt"));
    std::fs::write(&file, PEM).unwrap();
    assert!(from_file().is_ok());
}

#[test]
fn a_token_file_must_hold_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let from_file = || {
        let token_file = Some(file.clone());
        ClientConfig::from_settings(&NodeSettings { token_file, ..settings("https://192.0.2.1") })
    };
    assert!(from_file().unwrap_err().to_string().contains("token"));
    std::fs::write(&file, " \n").unwrap();
    assert!(from_file().unwrap_err().to_string().contains("there is no token in it"));
    std::fs::write(&file, "abc#def\n").unwrap();
    assert!(from_file().is_ok());
}

#[test]
fn a_kubeconfig_names_the_server_of_its_current_context() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let write = |server: &str, context: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\nclusters:\n- name: c\n  cluster: {{server: \
             '{server}'}}\ncontexts:\n- name: here\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: \
             {{token: s3cret}}\n"
        );
        std::fs::write(&file, text).unwrap();
        ClientConfig::from_kubeconfig(&file, false)
    };
    assert_eq!(write("https://192.0.2.1:6443", "here").unwrap().server(), "https://192.0.2.1:6443");
    assert!(
        write("https://192.0.2.1:6443", "there").unwrap_err().to_string().contains("no context \"there\"")
    );
    let refused = write("http://192.0.2.1:8080", "here").unwrap_err().to_string();
    assert!(refused.contains("--allow-insecure-token"), "{refused}");
}
