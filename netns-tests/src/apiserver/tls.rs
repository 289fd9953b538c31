//! The certificates of a test's API server.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::process;

/// Make `ca.crt`, `api.crt`, `api.key` and `sa.key` in a folder, for a server on this address. Gives the text of the CA.
pub(super) fn make(dir: &Path, address: IpAddr) -> Result<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &file("sa.key")])?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = [
        "req",
        "-x509",
        "-days",
        "30",
        "-subj",
        "/CN=kube-test-ca",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ];
    openssl(&[&ca[..], &key, &["-keyout", &file("ca.key"), "-out", &file("ca.crt")]].concat())?;
    let request = ["req", "-new", "-subj", "/CN=kube-apiserver"];
    openssl(&[&request[..], &key, &["-keyout", &file("api.key"), "-out", &file("api.csr")]].concat())?;
    // A Go server's name is in the alternative names or nowhere.
    let names =
        format!("subjectAltName=IP:{address},IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n");
    fs::write(dir.join("api.ext"), names).context("writing the certificate's extensions")?;
    let sign = ["x509", "-req", "-days", "30", "-CAcreateserial"];
    let files = [file("api.csr"), file("ca.crt"), file("ca.key"), file("api.ext"), file("api.crt")];
    let [csr, ca, ca_key, ext, crt] = files.each_ref().map(String::as_str);
    openssl(&[&sign[..], &["-in", csr, "-CA", ca, "-CAkey", ca_key, "-extfile", ext, "-out", crt]].concat())?;
    fs::read_to_string(dir.join("ca.crt")).context("reading the CA back")
}

fn openssl(args: &[&str]) -> Result<()> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    process::run(None, Path::new("openssl"), &args, None).map(drop)
}
