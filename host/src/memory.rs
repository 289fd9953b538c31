//! What the allocator keeps of what it was given back.
//!
//! A daemon that compares 30,000 flows needs for a moment as much again as it keeps. glibc keeps that for next time, and
//! by default in a heap of its own for each thread (mallopt(3)), so that a helper at rest would hold a third more than
//! it uses. Other C libraries are left as they are.

/// All threads allocate from one heap. To be called before there are any; it costs a lock that is hardly contended.
pub fn one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code, reason = "the C library's setting has no other way in")]
        // SAFETY: mallopt takes two numbers and touches nothing but the allocator's own settings, under its own lock.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives back to the kernel what is free. Takes some milliseconds for a large heap: not for a busy moment.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code, reason = "the C library's setting has no other way in")]
        // SAFETY: malloc_trim takes a number, works under the allocator's own locks and moves nothing that is in use.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
