//! Children that get none of their parent's memory except what they need.
//!
//! A child of fork(2) has a copy of all of its parent's memory. Whoever may trace the child can read the copy: the secrets
//! of other containers, paths of the host, the environment. A child of [`clone_bare`] has what is mapped of the program's
//! file, which is code, constants and initialized static variables, and one [`ChildMemory`]: its stack and the data that it
//! works on. Heap, stack, thread-local storage and other anonymous memory are withheld from it (MADV_DONTFORK).

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut, with_exposed_provenance_mut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::syscall::{last_errno, raw};

/// Bytes of the child's stack, which is the lowest part of its memory.
const STACK: usize = 64 * 1024;
/// Bytes for data. The kernel takes at most 6 MiB of arguments and environment (execve(2)). Pages that are not used cost
/// nothing.
const DATA: usize = 8 * 1024 * 1024;
/// More than `/proc/self/maps` of a program with hundreds of mappings, in bytes, and its shortest line.
const MAPS: usize = 128 * 1024;
const LINE: usize = 48;

/// The memory of a future child: a stack, and data that is copied here piece by piece. Usable in the parent, too.
#[derive(Debug)]
pub struct ChildMemory {
    start: NonNull<c_void>,
    /// Bytes in use, from `start` on.
    used: Cell<usize>,
}

impl ChildMemory {
    const LENGTH: usize = STACK + DATA;

    /// Maps the memory.
    ///
    /// # Errors
    /// The errno of mmap(2).
    pub fn new() -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(null_mut(), Self::LENGTH, protection, flags) }?;
        Ok(Self {
            start: NonNull::new(start).ok_or(Errno::NOMEM)?,
            used: Cell::new(STACK),
        })
    }

    /// Copies values here.
    ///
    /// # Errors
    /// E2BIG: the memory is full.
    pub fn copy<T: Copy>(&self, values: &[T]) -> Result<&[T], Errno> {
        let begin = self.used.get().next_multiple_of(align_of::<T>());
        let end = begin.checked_add(size_of_val(values)).ok_or(Errno::TOOBIG)?;
        if end > Self::LENGTH {
            return Err(Errno::TOOBIG);
        }
        self.used.set(end);
        // SAFETY: `begin` is inside of the mapping, whose start is aligned to a page. The range up to `end` is inside, too,
        // is aligned for T and has not been given out before, so nothing else refers to it. It lives as long as `self`.
        // The source is a slice of Copy values.
        unsafe {
            let place = self.start.byte_add(begin).cast::<T>();
            place.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
            Ok(NonNull::slice_from_raw_parts(place, values.len()).as_ref())
        }
    }

    /// Copies a C string here.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn copy_c_str(&self, text: &CStr) -> Result<&CStr, Errno> {
        let bytes = self.copy(text.to_bytes_with_nul())?;
        CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::INVAL)
    }

    /// Copies text here.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn copy_str(&self, text: &str) -> Result<&str, Errno> {
        let bytes = self.copy(text.as_bytes())?;
        std::str::from_utf8(bytes).map_err(|_| Errno::INVAL)
    }

    /// Withholds all anonymous memory of this process but this one from later children. `maps` is an open
    /// `/proc/self/maps`. Memory that is mapped afterwards is not covered.
    ///
    /// # Safety
    /// Until [`WithheldMemory::restore`], the process makes no other children than by [`clone_bare`] with this memory.
    /// Meanwhile it starts and ends no [`crate::FileWriter`].
    ///
    /// # Errors
    /// The errno of reading `maps`, of madvise(2) or of rseq(2); EFBIG: `maps` is longer than 128 KiB.
    pub unsafe fn withhold_the_rest(&self, maps: impl AsFd) -> Result<WithheldMemory, Errno> {
        unregister_rseq()?;
        let own = self.start.addr().get();
        // All that is allocated here is allocated before the reading, so that it is covered.
        let mut text = Vec::with_capacity(MAPS);
        let mut withheld = WithheldMemory(Vec::with_capacity(MAPS / LINE));
        while text.len() < text.capacity() {
            let spare = rustix::buffer::spare_capacity(&mut text);
            if rustix::io::read(&maps, spare)? == 0 {
                break;
            }
        }
        let ranges = text.split(|byte| *byte == b'\n').filter_map(anonymous_range);
        for (start, end) in ranges {
            // The kernel may have joined this memory with a neighbour.
            for (start, end) in [(start, end.min(own)), (start.max(own + Self::LENGTH), end)] {
                if start < end {
                    advise((start, end), Advice::LinuxDontFork)?;
                    withheld.0.push((start, end));
                }
            }
        }
        if text.len() == text.capacity() {
            return Err(Errno::FBIG);
        }
        Ok(withheld)
    }
}

impl Drop for ChildMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and what was borrowed from it is gone.
        let unmapped = unsafe { munmap(self.start.as_ptr(), Self::LENGTH) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Ranges of memory that children do not get.
#[derive(Debug)]
pub struct WithheldMemory(Vec<(usize, usize)>);

impl WithheldMemory {
    /// Gives the memory to later children again.
    ///
    /// # Errors
    /// The errno of madvise(2).
    pub fn restore(self) -> Result<(), Errno> {
        for range in self.0 {
            match advise(range, Advice::LinuxDoFork) {
                // Some of it has been unmapped meanwhile.
                Ok(()) | Err(Errno::NOMEM) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

fn advise((start, end): (usize, usize), advice: Advice) -> Result<(), Errno> {
    // SAFETY: this advice is about children and does not change the memory of this process.
    unsafe { madvise(with_exposed_provenance_mut(start), end - start, advice) }
}

/// Ends the restartable sequences of this thread. The C library has registered a structure in thread-local storage for them,
/// in which the kernel would write in the child as well. Only sched_getcpu(3) uses it.
fn unregister_rseq() -> Result<(), Errno> {
    /// What glibc registers with (`RSEQ_SIG`); on aarch64 it is an instruction.
    const SIGNATURE: usize = if cfg!(target_arch = "aarch64") {
        0xd428_bc00
    } else {
        0x5305_3053
    };
    const RSEQ_FLAG_UNREGISTER: usize = 1;
    /// Children inherit this together with the kernel's state.
    static DONE: AtomicBool = AtomicBool::new(false);
    let Some(address) = rseq_address().filter(|_| !DONE.load(Relaxed)) else {
        return Ok(());
    };
    // glibc registers 32 bytes, or more where the kernel has more fields.
    let mut result = Err(Errno::INVAL);
    for length in (32..=256).step_by(32) {
        // SAFETY: the kernel only forgets the address.
        result = unsafe { raw(libc::SYS_rseq, [address, length, RSEQ_FLAG_UNREGISTER, SIGNATURE]) };
        if result != Err(Errno::INVAL) {
            break;
        }
    }
    DONE.store(result.is_ok(), Relaxed);
    result.map(drop)
}

/// The address that the C library has registered for restartable sequences, if it has, see `<sys/rseq.h>` of glibc.
#[cfg(target_env = "gnu")]
fn rseq_address() -> Option<usize> {
    unsafe extern "C" {
        static __rseq_offset: libc::ptrdiff_t;
        static __rseq_size: libc::c_uint;
    }
    // SAFETY: glibc sets these before main and never changes them.
    let (offset, size) = unsafe { (__rseq_offset, __rseq_size) };
    let pointer: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the thread pointer, which is the first word that it points to.
    unsafe {
        std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the thread pointer.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    (size > 0).then(|| pointer.wrapping_add_signed(offset))
}

/// Other C libraries do not register any.
#[cfg(not(target_env = "gnu"))]
fn rseq_address() -> Option<usize> {
    None
}

/// The range of a line of `/proc/PID/maps` (proc_pid_maps(5)), if it is writable anonymous memory.
fn anonymous_range(line: &[u8]) -> Option<(usize, usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let writable = fields.next()?.as_bytes().get(1) == Some(&b'w');
    let inode = fields.nth(2)?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    Some((parse(start)?, parse(end)?)).filter(|_| writable && inode == "0")
}

/// What a bare child gets of its own.
#[derive(Debug, Default, Clone, Copy)]
pub struct BareCloneArgs {
    /// A new mount namespace.
    pub mount: bool,
    /// A new PID namespace.
    pub pid: bool,
    /// The child's parent is the caller's parent (CLONE_PARENT), which reaps it.
    pub sibling: bool,
}

/// Makes a child that calls `entry` on a copy of `memory` and exits with what that returns. Uses clone(2), which seccomp
/// profiles allow where they allow fork(2). Returns the child's process id; it is the caller's to reap, or its parent's.
///
/// # Safety
/// As of [`crate::clone()`]. The rest of the process's memory may be withheld, so all that `argument` refers to is in
/// `memory` or constant, and `entry` uses nothing else: no allocation, no thread-local variable, and no function of the C
/// library that does, as all do that report errors by errno.
///
/// # Errors
/// The errno of clone(2); E2BIG if the memory is full.
pub unsafe fn clone_bare<T: Copy>(
    args: BareCloneArgs,
    memory: &ChildMemory,
    argument: T,
    entry: fn(&T) -> i32,
) -> Result<i32, Errno> {
    let call: *const Call<T> = memory.copy(&[Call { entry, argument }])?.as_ptr();
    let mut flags = if args.sibling {
        libc::CLONE_PARENT
    } else {
        libc::SIGCHLD
    };
    for (wanted, flag) in [(args.mount, libc::CLONE_NEWNS), (args.pid, libc::CLONE_NEWPID)] {
        if wanted {
            flags |= flag;
        }
    }
    // SAFETY: the stack is STACK bytes below the address given, at the start of the mapping, and 16-byte aligned. Without
    // CLONE_VM the child has its own copy. `enter` gets the pointer that it expects. The rest is the caller's contract.
    let result = unsafe {
        let stack_top = memory.start.byte_add(STACK).as_ptr();
        libc::clone(enter::<T>, stack_top, flags, call.cast_mut().cast())
    };
    if result == -1 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

/// What a bare child is to do.
#[derive(Clone, Copy)]
struct Call<T> {
    entry: fn(&T) -> i32,
    argument: T,
}

/// Begins the child. The C library exits with the result.
extern "C" fn enter<T>(call: *mut c_void) -> c_int {
    // SAFETY: `clone_bare` passes a pointer to a `Call<T>` in the child's memory.
    let call = unsafe { &*call.cast::<Call<T>>() };
    (call.entry)(&call.argument)
}

#[cfg(test)]
mod tests;
