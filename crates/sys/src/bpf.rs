//! bpf(2), as far as device rules of cgroup v2 need it (kernel 5.6).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::syscall::check;

// linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The kernel lets no more be attached to one cgroup.
const MAX_ATTACHED: usize = 64;

/// One instruction of eBPF, as `struct bpf_insn` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfInstruction {
    /// Operation.
    pub code: u8,
    /// Register that is written to or compared, below 16.
    pub target: u8,
    /// Register that is read, below 16.
    pub source: u8,
    /// Where in memory, or how many instructions further.
    pub offset: i16,
    /// A number.
    pub immediate: i32,
}

impl BpfInstruction {
    /// In the machine's byte order; which half of the second byte is which register depends on it too.
    fn bytes(self) -> [u8; 8] {
        let (low, high) = if cfg!(target_endian = "little") {
            (self.target, self.source)
        } else {
            (self.source, self.target)
        };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [i0, i1, i2, i3] = self.immediate.to_ne_bytes();
        [self.code, low & 0xf | high << 4, o0, o1, i0, i1, i2, i3]
    }
}

/// A command's part of `union bpf_attr`. The room behind it is the rest of the union: the kernel writes some answers
/// where it knows their place to be, whatever size it was told.
#[repr(C)]
struct Attributes<T> {
    command: T,
    room: [u64; 16],
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct Query {
    cgroup: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct Info {
    program: u32,
    size: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`. All it could point to is left null.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 8],
    name: [u8; 16],
}

/// A descriptor as the attributes have it; open ones are never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// # Safety
/// What pointers in `attributes` point to must be alive and as large as the command makes the kernel read or write.
unsafe fn bpf<T>(command: libc::c_int, attributes: T) -> Result<(libc::c_long, T), Errno> {
    let mut attributes = Attributes {
        command: attributes,
        room: [0; 16],
    };
    // The room needs not be told: what the kernel reads of it is zero either way.
    let size = size_of::<T>();
    // SAFETY: `attributes` is alive, writable, at least as large as the kernel's union from whose beginning it is, and
    // what it points to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size) };
    check(result).map(|value| (value, attributes.command))
}

/// The descriptor that a command has answered with, which the kernel makes close-on-exec.
fn descriptor(value: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(value).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program that decides about the use of devices. It is gone with the last descriptor and attachment.
/// Needs CAP_BPF, or CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of bpf(2): EINVAL or EACCES for one that the kernel cannot prove harmless, or cannot have.
pub fn load_device_program(name: &str, instructions: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    let bytes: Vec<[u8; 8]> = instructions.iter().map(|one| one.bytes()).collect();
    let mut buffer = [0; 16];
    // The last one ends it.
    for (to, from) in buffer[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: bytes.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log: [0; 2],
        kernel_version: 0,
        flags: 0,
        name: buffer,
    };
    // SAFETY: there are `count` instructions of eight bytes, and the licence is a C string.
    let (fd, _) = unsafe { bpf(PROG_LOAD, load) }?;
    descriptor(fd)
}

/// Attaches a program to a cgroup directory, beside others, or atomically in the place of one that is attached there.
/// It stays until it is detached or the cgroup is removed, whatever becomes of this process.
///
/// # Errors
/// The errno of bpf(2): EPERM also where an ancestor has a program that allows none beneath.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attach = Attach {
        cgroup: number(cgroup),
        program: number(program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced: replaced.map_or(0, number),
    };
    // SAFETY: no pointers.
    unsafe { bpf(PROG_ATTACH, attach) }.map(drop)
}

/// Takes a program off a cgroup directory.
///
/// # Errors
/// The errno of bpf(2): ENOENT if it is not attached there.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let detach = Attach {
        cgroup: number(cgroup),
        program: number(program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: no pointers.
    unsafe { bpf(PROG_DETACH, detach) }.map(drop)
}

/// The programs attached to a cgroup directory itself, those of its ancestors left out, by id.
///
/// # Errors
/// The errno of bpf(2).
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = vec![0_u32; MAX_ATTACHED];
    let query = Query {
        cgroup: number(cgroup),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(ids.len()).map_err(|_| Errno::TOOBIG)?,
        padding: 0,
    };
    // SAFETY: there is room for `count` ids.
    let (_, query) = unsafe { bpf(PROG_QUERY, query) }?;
    ids.truncate(usize::try_from(query.count).map_err(|_| Errno::TOOBIG)?);
    Ok(ids)
}

/// Opens a program of any kind. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of bpf(2): ENOENT if it is gone.
pub fn open_program(id: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    let (fd, _) = unsafe { bpf(PROG_GET_FD_BY_ID, id) }?;
    descriptor(fd)
}

/// The name a program was loaded with.
///
/// # Errors
/// The errno of bpf(2).
pub fn program_name(program: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut info = ProgramInfo::default();
    let question = Info {
        program: number(program),
        size: u32::try_from(size_of::<ProgramInfo>()).map_err(|_| Errno::TOOBIG)?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: `info` is alive and of that size, and asks for nothing to be written anywhere else.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, question) }?;
    let end = info.name.iter().position(|byte| *byte == 0);
    let name = &info.name[..end.unwrap_or(info.name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}
