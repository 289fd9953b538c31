//! Devices by name and by index.

/// The index of a device of this network namespace; `None` when there is none of that name.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Whether this network namespace has a device of that name.
#[must_use]
pub fn exists(name: &str) -> bool {
    index_of(name).is_some()
}

/// The name of the device with that index.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}
