//! The manifest reader for the fuzz target.

use super::file;
use super::wire::Names;

/// A file of manifests, read twice: the second time with what the first gave, as after a change of the file.
pub fn manifest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut names = Names::default();
    let first = file::parse("fuzz.yaml", text, &[], &mut names);
    let _ = file::parse("fuzz.yaml", text, &first.objects, &mut names);
}
