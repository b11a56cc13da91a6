//! Releasing the memory pages of the running program and of its stack.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// Takes the program's own code and constants out of this process's page tables. The pages stay in the page cache, so
/// that using one again costs a minor fault. Pages that only the start or rare work needed no longer count as memory of
/// this process, and the kernel may drop them. Pages that the dynamic linker has written to (RELRO) are not released.
pub fn release_program() {
    // SAFETY: the callback has the required signature, uses its arguments as documented and ignores the null data.
    let answer = unsafe { libc::dl_iterate_phdr(Some(release_object), null_mut()) };
    // The value that the callback returned to stop after the first object.
    let _: c_int = answer;
}

/// Callback of dl_iterate_phdr(3). The first object is the program itself.
unsafe extern "C" fn release_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr passes a valid description that lives until the callback returns.
    let info = unsafe { &*info };
    // SAFETY: dlpi_phdr points to dlpi_phnum program headers, which stay mapped as long as the object.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            release_segment(info.dlpi_addr + header.p_vaddr, header.p_memsz);
        }
    }
    1
}

/// Releases a read-only segment, whose pages are those of the program's file.
fn release_segment(start: u64, length: u64) {
    let page = rustix::param::page_size() as u64;
    // Only pages that lie completely in this segment.
    let first = start.next_multiple_of(page);
    let end = (start + length) / page * page;
    let (Ok(address), Some(Ok(length))) = (
        usize::try_from(first),
        end.checked_sub(first).map(usize::try_from),
    ) else {
        return;
    };
    let address = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: the range is a private file mapping that was never written to. MADV_DONTNEED does not change its content:
    // the next access reads the same bytes from the file again (madvise(2)).
    let advised = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
    // Only advice: if the kernel refuses it (locked memory), the pages stay.
    let _: c_int = advised;
}

/// Gives the part of the stack that earlier calls have used and the caller does not need back to the kernel. Does nothing
/// on other threads than the main thread, whose stack alone the kernel keeps apart from other mappings (`stack_guard_gap`).
pub fn release_unused_stack() {
    /// What is released at most, in bytes; less than the gap.
    const MOST: usize = 512 * 1024;
    if rustix::thread::gettid() != rustix::process::getpid() {
        return;
    }
    let page = rustix::param::page_size();
    let here = 0_u8;
    // A page stays for this function's own calls.
    let end = (&raw const here).addr() / page * page - page;
    let start = std::ptr::without_provenance_mut(end - MOST);
    // SAFETY: the range lies below the frames of this function and of its callers, and above any other mapping. Nothing that
    // is alive is there: no signal handler runs on this stack, and what later calls put there they write before they read.
    let advised = unsafe { libc::madvise(start, MOST, libc::MADV_DONTNEED) };
    // ENOMEM: a part of the range is not mapped yet; the rest is released.
    let _: c_int = advised;
}
