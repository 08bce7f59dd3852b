//! Keeping glibc's malloc from giving large buffers back to the kernel.
//!
//! libtorch allocates a buffer for each layer's output and frees it a moment
//! later. glibc serves a large one by `mmap` and returns it by `munmap`, so that
//! every batch faults the same pages in again, zeroed by the kernel. On threads
//! other than the first it has a second reason: their arenas are made of heaps of
//! 64 MiB, and what does not fit is mapped.

/// Makes glibc keep freed buffers: no buffer is mapped on its own, nothing is
/// trimmed, and all threads share the one arena that can grow.
/// Elsewhere (musl, macOS) it does nothing, and returns false.
///
/// Call it before the first large allocation.
// ANCHOR: mallopt
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_freed_memory() -> bool {
    // SAFETY: mallopt takes two integers and touches nothing of ours; glibc
    // locks its own state.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1
            && libc::mallopt(libc::M_ARENA_MAX, 1) == 1
    }
}
// ANCHOR_END: mallopt

/// Not glibc: nothing to set.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed_memory() -> bool {
    false
}
