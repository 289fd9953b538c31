//! The uplink takeover from outside: the built binary, real traffic, faults at every step.

mod attack;
mod bench;
mod carried;
mod crash;
mod doctor;
mod faults;
mod halfway;
mod halves;
mod identity;
mod lab;
mod meanwhile;
mod proxy;
mod recreated;
mod refused;
mod stranded;
mod supervised;
mod survival;
mod traffic;
mod waiting;
mod watchdog;
