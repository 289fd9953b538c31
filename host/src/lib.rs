//! The node's own kernel: netlink, nft, sysctl, sockets, namespaces.
