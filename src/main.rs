//! One binary, several names: looks at the name it was called by and hands over to a crate.
fn main() {}
