//! Settings of the C library's allocator for processes that should stay small.

/// Limits the number of heaps (arenas) that threads allocate from. By default glibc gives nearly every thread a heap of
/// its own, up to eight per CPU, and free memory of one heap is of no use to the others: that is wasteful in a program with
/// many short-lived threads.
pub fn share_heaps(heaps: u8) {
    // SAFETY: mallopt takes two integers and only changes parameters of the allocator.
    let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps.into()) };
    // Never refused for a small positive number.
    let _: i32 = accepted;
}

/// Gives allocations of at least `bytes` back to the kernel when they are freed.
///
/// By default three parameters of glibc (mallopt(3)) prevent that: the size from which an allocation gets a mapping of
/// its own, which glibc raises whenever such a mapping is freed; the spare space at the top of the heap, where large
/// allocations are put as long as they fit; and the free space at the top from which on the heap shrinks.
pub fn return_allocations_from(bytes: u32) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let parameters = [
        (libc::M_MMAP_THRESHOLD, bytes),
        (libc::M_TRIM_THRESHOLD, bytes),
        (libc::M_TOP_PAD, 0),
    ];
    for (parameter, value) in parameters {
        // SAFETY: mallopt takes two integers and only changes parameters of the allocator.
        let accepted = unsafe { libc::mallopt(parameter, value) };
        // Refused only for values beyond the allocator's arena size; then the default stays in effect.
        let _: i32 = accepted;
    }
}

/// Gives free whole pages of all heaps back to the kernel (malloc_trim(3)). By itself a heap only shrinks at its top.
pub fn return_free_pages() {
    // SAFETY: malloc_trim takes an integer and only touches free memory of the allocator, under its locks.
    let returned = unsafe { libc::malloc_trim(0) };
    // Says only whether any memory was returned.
    let _: i32 = returned;
}
