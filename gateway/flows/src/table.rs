//! The numbers of the tables, by what they decide.

/// The port a frame comes in by.
pub const INGRESS: u8 = 0;
/// The external address and port; whether the address is one of the node's at all.
pub const ADDRESS: u8 = 1;
/// The NodePort; then the reply rule.
pub const NODE_PORT: u8 = 2;
/// The owner of the connection, by the mark.
pub const OWNER: u8 = 3;
/// Frames out of the overlay.
pub const OVERLAY: u8 = 4;
/// The source address, for external addresses.
pub const EXTERNAL_SOURCE: u8 = 5;
/// The owner of the SCTP association.
pub const ASSOCIATION: u8 = 6;
/// The reply rule, for addresses that have no NodePorts.
pub const REPLY: u8 = 7;
/// The source address, for NodePorts.
pub const NODE_PORT_SOURCE: u8 = 8;
