//! A thread that writes to one file. A file that stalls the thread stalls neither the process nor its children.
//!
//! ```text
//!   of a write:  FREE ──write──▶ WRITING ──(written or refused)──▶ FREE ──take──▶ its owner
//!                                   └─signal_end─▶ SIGNALLED ────────┘
//! ```
//!
//! The process may clone itself meanwhile, and the child may run any code (see [`crate::clone()`]): the thread never holds a
//! lock and never allocates. It is no thread of the C library or of std. It has no thread-local storage of its own, so it
//! makes system calls without the C library, on memory that was there before; all signals are blocked in it. At its end it
//! unmaps its memory itself, so that nobody waits for that either.
//!
//! The thread has a descriptor table of its own, and is the only one with a descriptor of the file: neither the process nor
//! its children can be stalled by closing one, as on file systems that flush then (NFS, FUSE).

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::thread::futex;

use crate::syscall::{last_errno, raw};

/// Bytes for the thread's stack, whose top has its [`Control`]. Only pages that are used count as memory.
const STACK: usize = 16 * 1024;
/// Alignment of a stack.
const STACK_ALIGN: usize = 16;
/// Writes that may be under way: while the thread writes, it finds the next one without being woken.
const SLOTS: usize = 2;

/// Nothing is to be written.
const FREE: u32 = 0;
const WRITING: u32 = 1;
/// As `WRITING`, and its end is to be signalled.
const SIGNALLED: u32 = 2;
/// The thread is to end.
const ENDING: u32 = 3;

/// The number of these threads in the process.
static THREADS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn threads() -> usize {
    THREADS.load(Relaxed)
}

/// A thread that writes to a file, and what it is to write. If this is dropped while it does, the thread is left to itself,
/// and the memory with it; else the thread ends, which closes the file.
#[derive(Debug)]
pub struct FileWriter {
    /// Valid until the thread is told to end.
    control: NonNull<Control>,
    /// The thread reads them.
    under_way: ManuallyDrop<VecDeque<Vec<u8>>>,
    /// The slot of the next write.
    next: usize,
}

/// What became of a write.
#[derive(Debug)]
pub struct Written {
    /// What was to be written.
    pub bytes: Vec<u8>,
    /// The number of bytes written.
    pub written: usize,
    /// Why the rest was not. ECANCELED: a write before this one was refused.
    pub refused: Option<Errno>,
}

impl FileWriter {
    /// Starts a thread that writes to `file`, and waits until it has no other descriptor than that and `done`, an eventfd to
    /// which it adds 1 as a signal.
    ///
    /// # Errors
    /// The file, and the errno of mmap(2), mprotect(2), rt_sigprocmask(2) or clone(2).
    pub fn start(file: OwnedFd, done: BorrowedFd<'_>) -> Result<Self, (OwnedFd, Errno)> {
        match start_thread(file.as_raw_fd(), done.as_raw_fd()) {
            Ok(control) => Ok(Self {
                control,
                under_way: ManuallyDrop::new(VecDeque::with_capacity(SLOTS)),
                next: 0,
            }),
            Err(errno) => Err((file, errno)),
        }
    }

    /// Begins to write until everything is written or the file refuses. Writes are done in their order; one that is refused
    /// cancels those begun already. A refusal is signalled.
    ///
    /// # Errors
    /// The bytes: too many writes are under way.
    pub fn write(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if !self.has_room() {
            return Err(bytes);
        }
        let control = self.control();
        if self.is_idle() {
            control.refused.store(false, Relaxed);
        }
        let slot = &control.slots[self.next];
        slot.bytes.store(bytes.as_ptr().cast_mut(), Relaxed);
        slot.length.store(bytes.len(), Relaxed);
        slot.state.store(WRITING, Release);
        wake(&slot.state);
        // Moving a vector does not move its bytes.
        self.under_way.push_back(bytes);
        self.next = (self.next + 1) % SLOTS;
        Ok(())
    }

    /// Whether one more write can begin.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < SLOTS
    }

    /// Whether no write is under way, and all were taken.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The number of bytes of the writes under way.
    pub fn bytes_under_way(&self) -> usize {
        self.under_way.iter().map(Vec::len).sum()
    }

    /// What became of the oldest write, if it is over.
    pub fn take(&mut self) -> Option<Written> {
        let slot = self.oldest()?;
        if slot.state.load(Acquire) != FREE {
            return None;
        }
        let written = slot.written.load(Relaxed);
        let refused = match slot.errno.load(Relaxed) {
            0 => None,
            errno => Some(Errno::from_raw_os_error(errno.cast_signed())),
        };
        let bytes = self.under_way.pop_front()?;
        Some(Written {
            bytes,
            written,
            refused,
        })
    }

    /// Asks for a signal at the end of the oldest write. Returns false if it is over already, or there is none.
    pub fn signal_end(&self) -> bool {
        self.oldest().is_some_and(|slot| {
            let asked = slot.state.compare_exchange(WRITING, SIGNALLED, AcqRel, Acquire);
            asked != Err(FREE)
        })
    }

    /// The slot of the oldest write.
    fn oldest(&self) -> Option<&Slot> {
        let count = Some(self.under_way.len()).filter(|count| *count > 0)?;
        Some(&self.control().slots[(self.next + SLOTS - count) % SLOTS])
    }

    const fn control(&self) -> &Control {
        // SAFETY: it was initialized by `start_thread`, is only used through shared references, and stays mapped until the
        // thread is told to end.
        unsafe { self.control.as_ref() }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        while self.take().is_some() {}
        if !self.is_idle() {
            return;
        }
        // SAFETY: nothing is under way, so the thread reads none of them, and they are not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.under_way) };
        let state = &raw const self.control().slots[self.next].state;
        // SAFETY: the thread does not end before it is told so here. The word may be gone when it is woken: then nobody waits
        // there, and the kernel only compares addresses.
        unsafe {
            (*state).store(ENDING, Release);
            let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            raw(
                libc::SYS_futex,
                [state.expose_provenance(), operation.unsigned_abs() as usize, 1, 0],
            )
            .ok();
        }
    }
}

/// What the thread and its owner share.
struct Control {
    /// Used in turn.
    slots: [Slot; SLOTS],
    /// A write was refused, and the owner does not know yet.
    refused: AtomicBool,
    /// Not 0: all other descriptors are closed.
    is_ready: AtomicU32,
    file: RawFd,
    done: RawFd,
    /// The mapping in which this is, and the thread's stack.
    memory: NonNull<c_void>,
    mapped: usize,
}

/// A write. The owner sets what is to be written before `state`, and the thread what was written.
struct Slot {
    state: AtomicU32,
    bytes: AtomicPtr<u8>,
    length: AtomicUsize,
    written: AtomicUsize,
    /// 0 if everything was written.
    errno: AtomicU32,
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            bytes: AtomicPtr::new(null_mut()),
            length: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            errno: AtomicU32::new(0),
        }
    }
}

fn start_thread(file: RawFd, done: RawFd) -> Result<NonNull<Control>, Errno> {
    let page = rustix::param::page_size();
    let mapped = page + STACK.next_multiple_of(page);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { mmap_anonymous(null_mut(), mapped, protection, MapFlags::PRIVATE) }?;
    let memory = NonNull::new(start).ok_or(Errno::NOMEM)?;
    let offset = (mapped - size_of::<Control>()) / STACK_ALIGN * STACK_ALIGN;
    // SAFETY: the offset is inside of the mapping, and with it the value; it is aligned to 16 bytes.
    let control = unsafe {
        let control = memory.byte_add(offset).cast::<Control>();
        control.write(Control {
            slots: [const { Slot::new() }; SLOTS],
            refused: AtomicBool::new(false),
            is_ready: AtomicU32::new(0),
            file,
            done,
            memory,
            mapped,
        });
        control
    };
    // SAFETY: nothing has been given out of the lowest page. A stack that overflows ends there.
    let guarded = unsafe { mprotect(start, page, MprotectFlags::empty()) };
    guarded.and_then(|()| clone_thread(control)).inspect_err(|_| {
        // SAFETY: the mapping is this function's own, and there is no thread.
        let unmapped = unsafe { munmap(start, mapped) };
        debug_assert!(unmapped.is_ok());
    })?;
    // SAFETY: it was initialized above, and the thread does not remove it before it is told to end.
    let is_ready = unsafe { &control.as_ref().is_ready };
    while is_ready.load(Acquire) == 0 {
        futex::wait(is_ready, futex::Flags::PRIVATE, 0, None).ok();
    }
    Ok(control)
}

fn clone_thread(control: NonNull<Control>) -> Result<(), Errno> {
    // Not CLONE_FILES: it has a table of its own.
    const FLAGS: c_int =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    let control: *mut c_void = control.as_ptr().cast();
    // The thread inherits the mask: a signal's handler would use the caller's thread-local storage.
    let mask = set_signal_mask(u64::MAX)?;
    THREADS.fetch_add(1, Relaxed);
    // SAFETY: the stack is below `control`, which is aligned and at the end of its mapping. Only the thread itself removes
    // that. `enter` gets the pointer that it expects, and obeys the rules of this file.
    let result = unsafe { libc::clone(enter, control, FLAGS, control) };
    let result = if result == -1 { Err(last_errno()) } else { Ok(()) };
    if result.is_err() {
        THREADS.fetch_sub(1, Relaxed);
    }
    set_signal_mask(mask).ok();
    result
}

/// Begins the thread.
extern "C" fn enter(control: *mut c_void) -> c_int {
    // SAFETY: `clone_thread` passes a pointer to a `Control`, which only this thread removes.
    let control = unsafe { &*control.cast::<Control>() };
    rustix::thread::set_name(c"file-writer").ok();
    control.close_others();
    control.is_ready.store(1, Release);
    wake(&control.is_ready);
    control.serve();
    THREADS.fetch_sub(1, Relaxed);
    // SAFETY: the owner has told this thread to end, and no longer uses the memory.
    unsafe { unmap_and_exit(control.memory, control.mapped) }
}

/// Ends the thread, without a stack at last.
///
/// # Safety
/// The memory is the thread's own, and nobody else uses it.
unsafe fn unmap_and_exit(memory: NonNull<c_void>, length: usize) -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: munmap(2) and exit(2) as of the system call ABI (syscall(2)); nothing after the first uses memory.
    unsafe {
        std::arch::asm!(
            "syscall",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            exit = const libc::SYS_exit,
            in("rax") libc::SYS_munmap,
            in("rdi") memory.as_ptr(),
            in("rsi") length,
            options(noreturn, nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "mov x8, {exit}",
            "mov x0, 0",
            "svc 0",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_munmap,
            in("x0") memory.as_ptr(),
            in("x1") length,
            options(noreturn, nostack),
        );
    }
}

/// The thread's code: no allocation, no lock, no panic, no function of the C library.
impl Control {
    /// Closes all descriptors of this thread but its two.
    fn close_others(&self) {
        let (file, done) = (self.file.unsigned_abs(), self.done.unsigned_abs());
        let (low, high) = if file < done { (file, done) } else { (done, file) };
        if low > 0 {
            close_range(0, low.wrapping_sub(1));
        }
        if high.wrapping_sub(low) > 1 {
            close_range(low.wrapping_add(1), high.wrapping_sub(1));
        }
        close_range(high.wrapping_add(1), u32::MAX);
    }

    fn serve(&self) {
        for slot in self.slots.iter().cycle() {
            loop {
                match slot.state.load(Acquire) {
                    FREE => {
                        futex::wait(&slot.state, futex::Flags::PRIVATE, FREE, None).ok();
                    }
                    ENDING => return,
                    _ => break,
                }
            }
            let refused = self.refused.load(Relaxed);
            if !refused {
                self.refused.store(!self.write(slot), Relaxed);
            } else {
                slot.written.store(0, Relaxed);
                slot.errno
                    .store(Errno::CANCELED.raw_os_error().unsigned_abs(), Relaxed);
            }
            let refused = self.refused.load(Relaxed);
            let state = slot.state.swap(FREE, AcqRel);
            if state == SIGNALLED || refused {
                // SAFETY: the descriptor is open as long as this thread runs.
                let done = unsafe { BorrowedFd::borrow_raw(self.done) };
                rustix::io::write(done, &1_u64.to_ne_bytes()).ok();
            }
        }
    }

    /// Returns whether everything was written.
    fn write(&self, slot: &Slot) -> bool {
        // SAFETY: the owner of the bytes keeps them as they are while this thread writes. The descriptor is open as long as
        // this thread runs.
        let (bytes, file) = unsafe {
            let bytes = std::slice::from_raw_parts(slot.bytes.load(Relaxed), slot.length.load(Relaxed));
            (bytes, BorrowedFd::borrow_raw(self.file))
        };
        let mut rest = bytes;
        let mut refused = 0;
        while !rest.is_empty() && refused == 0 {
            match rustix::io::write(file, rest) {
                Ok(0) => refused = Errno::NOSPC.raw_os_error().unsigned_abs(),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // It would look like a write that was not tried.
                Err(Errno::CANCELED) => refused = Errno::IO.raw_os_error().unsigned_abs(),
                Err(errno) => refused = errno.raw_os_error().unsigned_abs(),
            }
        }
        slot.written.store(bytes.len().wrapping_sub(rest.len()), Relaxed);
        slot.errno.store(refused, Relaxed);
        refused == 0
    }
}

fn close_range(first: u32, last: u32) {
    // SAFETY: the descriptors of this range in this thread's own table are nobody's.
    let closed = unsafe { raw(libc::SYS_close_range, [first as usize, last as usize, 0, 0]) };
    // Never refused for such arguments.
    closed.ok();
}

fn wake(word: &AtomicU32) {
    // Never fails for a word of this process.
    futex::wake(word, futex::Flags::PRIVATE, 1).ok();
}

/// Sets the calling thread's mask. Returns the one before.
fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before = 0_u64;
    let arguments = [
        usize::try_from(libc::SIG_SETMASK).unwrap_or_default(),
        (&raw const mask).expose_provenance(),
        (&raw mut before).expose_provenance(),
        size_of::<u64>(),
    ];
    // SAFETY: both sets are alive and of the size of the kernel's sigset_t.
    unsafe { raw(libc::SYS_rt_sigprocmask, arguments) }?;
    Ok(before)
}

#[cfg(test)]
mod tests;
