//! Entry point of the fuzz target (crate `fuzz`) for files in the state folder.

pub use crate::journal::fuzz::journal;
