//! The priority of a thread that must run at once when the machine is overloaded.

/// Gives the calling thread the highest priority (setpriority(2), nice -20). `false` without CAP_SYS_NICE.
#[must_use]
pub fn raise_thread_priority() -> bool {
    const FIRST: i32 = -20;
    // Linux takes 0 for the calling thread, not for its process.
    const THIS_THREAD: libc::id_t = 0;
    #[allow(unsafe_code, reason = "no safe wrapper at hand")]
    // SAFETY: setpriority takes three numbers.
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, THIS_THREAD, FIRST) };
    outcome == 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_calling_thread_changes() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, rest) = stat.rsplit_once(") ").unwrap();
            rest.split(' ').nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let (done, there) =
            std::thread::spawn(move || (super::raise_thread_priority(), nice())).join().unwrap();
        assert!(!done || there == -20);
        assert_eq!(nice(), before);
    }
}
