//! The release binary on a node of the lab, measured from outside.

fn main() {}
