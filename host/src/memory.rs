//! Free memory that the allocator keeps.
//!
//! A daemon that compares 30,000 flows needs for a moment as much again as it keeps. glibc keeps the freed memory, by
//! default in a heap for each thread (mallopt(3)), so an idle helper would hold a third more than it uses. Other C
//! libraries are left as they are.

/// Makes all threads allocate from one heap. Call it before any is started; it costs a lock with little contention.
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

/// Returns free memory to the kernel. Takes some milliseconds for a large heap.
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
