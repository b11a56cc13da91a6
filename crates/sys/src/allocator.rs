//! The C library's allocator, for a process that should stay small.

/// Lets all threads share this many heaps. By default glibc gives nearly every thread one of its own, up to eight a CPU,
/// and what each keeps free is of no use to the others: too much for a program with many short-lived threads.
pub fn share_heaps(heaps: u8) {
    // SAFETY: mallopt takes two integers and only changes parameters of the allocator.
    let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps.into()) };
    // Never refused for a small positive number.
    let _: i32 = accepted;
}

/// Gives allocations of at least `bytes` back to the kernel when they are freed.
///
/// Three parameters of glibc (mallopt(3)) stand against that: the threshold for mappings of their own,
/// which it raises by itself as soon as such a mapping is freed; the room it keeps at the heap's top,
/// where large allocations are put as long as they fit; and how much of it may be free before it shrinks.
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
        // Refused only for values beyond the allocator's arena size; the default then stays.
        let _: i32 = accepted;
    }
}

/// Gives whole free pages of all heaps back to the kernel (malloc_trim(3)). Without it a heap only shrinks at its top.
pub fn return_free_pages() {
    // SAFETY: malloc_trim takes an integer and touches free memory of the allocator only, under its locks.
    let returned = unsafe { libc::malloc_trim(0) };
    // Whether there was anything to give.
    let _: i32 = returned;
}
