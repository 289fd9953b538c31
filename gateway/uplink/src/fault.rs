//! Fault points: after every step of a run a test may make it fail.
//!
//! `OVN_K8S_FAULT=STEP:ACTION[,STEP:ACTION...]` in the environment, in debug builds only. Actions: `kill` (SIGKILL to
//! itself), `stop` (SIGSTOP to itself), `hold` (says `held STEP` on standard error and waits for SIGUSR1 or SIGCONT), `fail` (the
//! step fails), `run=PATH` (runs a program and waits for it).

use super::error::Result;

/// The step with this name is done.
#[cfg(not(debug_assertions))]
pub(crate) fn after(_step: &str) -> Result<()> {
    Ok(())
}

/// The step with this name is done.
#[cfg(debug_assertions)]
pub(crate) fn after(step: &str) -> Result<()> {
    match std::env::var(VARIABLE) {
        Ok(wanted) => {
            wanted.split(',').filter_map(|one| action(one, step)).try_for_each(|one| act(step, one))
        }
        Err(_) => Ok(()),
    }
}

/// The variable that names the faults.
#[cfg(debug_assertions)]
pub(crate) const VARIABLE: &str = "OVN_K8S_FAULT";

#[cfg(debug_assertions)]
fn action<'a>(one: &'a str, step: &str) -> Option<&'a str> {
    let (name, action) = one.split_once(':')?;
    (name.trim() == step).then_some(action.trim())
}

#[cfg(debug_assertions)]
fn act(step: &str, action: &str) -> Result<()> {
    use super::error::Error;
    use nix::sys::signal::{SigSet, Signal, raise};

    let failed =
        |what: String| Error::failed(format!("go on after {step}"), what, "a fault that a test asked for");
    let errno = |errno: nix::errno::Errno| failed(errno.to_string());
    match action {
        "kill" => raise(Signal::SIGKILL).map_err(errno),
        "stop" => raise(Signal::SIGSTOP).map_err(errno),
        "hold" => {
            let mut set = SigSet::empty();
            set.add(Signal::SIGUSR1);
            set.add(Signal::SIGCONT);
            set.thread_block().map_err(errno)?;
            eprintln!("held {step}");
            set.wait().map(drop).map_err(errno)
        }
        "fail" => Err(failed("it failed".to_owned())),
        _ => match action.strip_prefix("run=") {
            Some(path) => match std::process::Command::new(path).arg(step).status() {
                Ok(_) => Ok(()),
                Err(error) => Err(failed(format!("{path}: {error}"))),
            },
            None => Err(failed(format!("no such fault: {action}"))),
        },
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_own_fault() {
        assert_eq!(action("ears:kill", "ears"), Some("kill"));
        assert_eq!(action("u-ears:kill", "ears"), None);
        assert_eq!(action("routes:run=/a:b", "routes"), Some("run=/a:b"));
        assert_eq!(action("routes", "routes"), None);
    }

    #[test]
    fn the_error_names_the_step() {
        assert!(act("ears", "fail").unwrap_err().to_string().contains("after ears"));
        assert!(act("ears", "jump").unwrap_err().to_string().contains("no such fault"));
    }
}
