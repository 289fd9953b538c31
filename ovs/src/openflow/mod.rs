//! OpenFlow 1.4 as Open vSwitch speaks it, on a held connection.
pub mod flow;
