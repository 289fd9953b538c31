//! The lab itself: it comes up, packets arrive, it goes without a trace.

use std::time::Instant;

use anyhow::Result;
use netns_tests::lab::{Lab, LabOptions};

#[test]
fn comes_up_and_goes_without_a_trace() -> Result<()> {
    let start = Instant::now();
    let lab = Lab::up(LabOptions::default())?;
    println!("up in {:?}", start.elapsed());
    let dir = lab.dir().to_owned();
    let name = lab.node(1)?.namespace().path().to_owned();
    let start = Instant::now();
    drop(lab);
    println!("down in {:?}", start.elapsed());
    assert!(!dir.exists());
    assert!(!name.exists());
    Ok(())
}
