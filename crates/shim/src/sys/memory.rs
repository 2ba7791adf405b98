//! The C library's heap in processes of which there are many, and which mostly wait.

/// From here on a buffer is the kernel's own, and goes back to it, whatever was freed before. As the
/// library begins; it would raise it, and cut such buffers from pages that are kept.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// Keeps large buffers out of the heap.
pub(crate) fn keep_large_buffers_apart() {
    // SAFETY: a plain call; at worst it changes nothing.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives the kernel back what of the heap is free.
pub(crate) fn give_back() {
    // SAFETY: a plain call; what is in use is left alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
