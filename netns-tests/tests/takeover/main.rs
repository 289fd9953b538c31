//! The uplink takeover from outside: the built binary, real traffic, faults at every step.

mod commands_during_failover;
mod configuration;
mod crash;
mod doctor;
mod faults;
mod fixture;
mod interrupted_failover;
mod ovsdb_proxy;
mod pending_confirmation;
mod probe_source;
mod recovery;
mod recreated;
mod refusals;
mod repeated_failures;
mod site_selftest;
mod supervised_dhcp_clients;
mod survival;
mod traffic;
mod watchdog;
mod without_helper;
