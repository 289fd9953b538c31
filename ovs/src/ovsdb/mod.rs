//! A native OVSDB client (RFC 7047 and the extensions of ovsdb-server(7)).

pub mod framing;
