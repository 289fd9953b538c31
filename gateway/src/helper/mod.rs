//! The daemon `ovn-k8s-gateway-helper`.

pub mod config;
pub mod flags;
pub mod settings;
