//! The pages of the running program.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// Takes the program's own code and constants out of this process's page tables. They stay in the page cache, so what
/// is used again costs a minor fault; what only a start or a rare piece of work needed no longer counts as this
/// process's memory, and the kernel may drop it. What the dynamic linker wrote into (RELRO) stays as it is.
pub fn release_program() {
    // SAFETY: the callback has the signature asked for, uses its arguments as documented and takes no data.
    let answer = unsafe { libc::dl_iterate_phdr(Some(release_object), null_mut()) };
    // What the callback returned: it stops after the first object.
    let _: c_int = answer;
}

/// Called by dl_iterate_phdr(3); the first object is the program itself.
unsafe extern "C" fn release_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr passes a valid description that lives until the callback returns.
    let info = unsafe { &*info };
    // SAFETY: dlpi_phdr points to dlpi_phnum program headers, which are mapped as long as the object is.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            release_segment(info.dlpi_addr + header.p_vaddr, header.p_memsz);
        }
    }
    1
}

/// A segment that cannot be written to: its pages are the file's.
fn release_segment(start: u64, length: u64) {
    let page = rustix::param::page_size() as u64;
    // Only whole pages of this segment.
    let first = start.next_multiple_of(page);
    let end = (start + length) / page * page;
    let (Ok(address), Some(Ok(length))) = (
        usize::try_from(first),
        end.checked_sub(first).map(usize::try_from),
    ) else {
        return;
    };
    let address = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: the range is a mapping of a file that is private and never written to, so that MADV_DONTNEED changes no
    // content: the next access reads the same bytes from the file again (madvise(2)).
    let advised = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
    // Advice: where it is refused (locked memory), the pages stay.
    let _: c_int = advised;
}
