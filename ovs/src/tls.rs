//! The one provider of cryptography.

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

/// Makes `ring` the provider of the whole process. Call it first thing in every program that may speak TLS: where
/// dependencies bring a second provider in, rustls would else panic at the first connection. Later calls do nothing.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // Another thread was quicker: then there is one, which is all that is wanted.
        let _ = ring::default_provider().install_default();
    }
}
