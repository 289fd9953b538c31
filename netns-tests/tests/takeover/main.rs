//! The uplink takeover from outside: the built binary, real traffic, faults at every step.

mod lab;
