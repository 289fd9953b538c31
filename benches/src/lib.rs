//! Benches of the pure parts, and measurements of the daemon against a real switch.
