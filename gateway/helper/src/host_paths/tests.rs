//! The values first; then private namespaces with the real kernel, nft and packets.

mod kernel;
mod packets;
mod values;
mod wire;
mod world;
