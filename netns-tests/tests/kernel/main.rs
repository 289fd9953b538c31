//! What is true on the kernel's own datapath only. `make test-kernel` runs it, on a kernel with the module
//! `openvswitch`; elsewhere its tests are ignored.

mod devices;
mod kernel_datapath;
mod restart;
mod sctp;
mod takeover;

use anyhow::{Result, ensure};
use netns_tests::lab::machine::Datapath;

/// A lab on the other datapath would prove nothing here.
fn on_the_kernel_datapath() -> Result<()> {
    ensure!(Datapath::wanted() == Datapath::Kernel, "LAB_DATAPATH is not `kernel`: run `make test-kernel`");
    Ok(())
}

#[test]
#[ignore = "needs a kernel with the module openvswitch: make test-kernel"]
fn switch_killed_under_traffic() -> Result<()> {
    on_the_kernel_datapath()?;
    restart::killed_under_traffic()
}

#[test]
#[ignore = "needs a kernel with the module openvswitch: make test-kernel"]
fn further_checks() -> Result<()> {
    on_the_kernel_datapath()?;
    kernel_datapath::check_all()
}
