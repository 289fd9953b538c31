//! Errors before a source runs. Once it runs, faults are reported by its health and its problems.

use std::path::PathBuf;

/// Why a source could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the API server cannot be used.
    #[error("k8s-api-server \"{value}\": {why}; give HOST:PORT or a URL, as https://192.0.2.1:6443")]
    Server {
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// No API server was named at all.
    #[error(
        "no API server: set external_ids:k8s-api-server in the Open_vSwitch table, or give --manifests DIR to do \
         without one"
    )]
    NoServer,
    /// The certificate authority cannot be used.
    #[error("{from}: {why}; give the PEM text of the cluster's CA certificate")]
    Ca {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// A bearer token would be readable on the network.
    #[error(
        "{server}: the bearer token would go over plain http to a host that is not this one; use https, or give \
         --allow-insecure-token if everyone on that network may have it"
    )]
    InsecureToken {
        /// The server, without credentials.
        server: String,
    },
    /// The bearer token cannot be sent.
    #[error("{from}: {why}")]
    Token {
        /// Where it came from.
        from: String,
        /// What is wrong with it. Never holds the token.
        why: String,
    },
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {path}: {why}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client could not be made.
    #[error("setting up the client of {server}: {why}")]
    Client {
        /// The server.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// The folder of manifests cannot be followed.
    #[error("manifests folder {path}: {why}; it must be a folder that this process may read")]
    Manifests {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}
