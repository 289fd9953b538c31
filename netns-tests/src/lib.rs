//! A lab of real gateway nodes in network namespaces, and the tests that run in it.
pub mod lab;
