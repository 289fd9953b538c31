//! Devices by name and by index.

/// The device's index, if there is such a device in this network namespace.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Is there a device of that name in this network namespace?
#[must_use]
pub fn is_there(name: &str) -> bool {
    index_of(name).is_some()
}

/// The name of the device with that index.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}
