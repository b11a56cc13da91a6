//! The part of bpf(2) that device rules of cgroup v2 (kernel 5.6) and filters of network traffic need.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::syscall::check;

// linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const TYPE_SCHED_CLS: u32 = 3;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const MAP_TYPE_HASH: u32 = 1;
const NO_PREALLOC: u32 = 1;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// Most programs that the kernel attaches to one cgroup (BPF_CGROUP_MAX_PROGS).
const MAX_ATTACHED: usize = 64;

/// One instruction of eBPF, as `struct bpf_insn` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfInstruction {
    /// `BPF_*` of linux/bpf.h.
    pub code: u8,
    /// Destination register, below 16: written to or compared.
    pub target: u8,
    /// Source register, below 16.
    pub source: u8,
    /// Offset in memory, or distance of a jump in instructions.
    pub offset: i16,
    /// Operand that is a part of the instruction.
    pub immediate: i32,
}

impl BpfInstruction {
    /// The instruction in the machine's byte order, on which the order of the two registers in the second byte depends, too.
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

/// A command's part of `union bpf_attr`, followed by the rest of the union: the kernel writes some results at their
/// place in the union, whatever size it was given.
#[repr(C)]
struct Attributes<T> {
    command: T,
    rest: [u64; 16],
}

#[repr(C)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
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

/// The beginning of `struct bpf_prog_info`, with all its pointers null.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 8],
    name: [u8; 16],
}

/// A descriptor as the attributes hold it. Open descriptors are never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// # Safety
/// The memory that pointers in `attributes` point to is alive, and as large as what the kernel reads or writes for the command.
unsafe fn bpf<T>(command: libc::c_int, attributes: T) -> Result<(libc::c_long, T), Errno> {
    let mut attributes = Attributes {
        command: attributes,
        rest: [0; 16],
    };
    // The size of the command's part suffices: the kernel takes the rest of the union for zeros, which it is.
    let size = size_of::<T>();
    // SAFETY: `attributes` is alive, writable and at least as large as the kernel's union. What it points to is the
    // caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size) };
    check(result).map(|value| (value, attributes.command))
}

/// The descriptor that a command has returned. The kernel makes it close-on-exec.
fn descriptor(value: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(value).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor, and this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program that decides about access to devices. The kernel frees it with its last descriptor and attachment.
/// Needs CAP_BPF, or CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of bpf(2): EINVAL or EACCES if the kernel's verifier rejects the program.
pub fn load_device_program(name: &str, instructions: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    load(TYPE_CGROUP_DEVICE, name, instructions)
}

/// Loads a program that decides about packets of a network interface, for tc-bpf(8). The kernel frees it as above. Needs
/// CAP_NET_ADMIN and CAP_BPF, or CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of bpf(2): EINVAL or EACCES if the kernel's verifier rejects the program.
pub fn load_traffic_program(name: &str, instructions: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    load(TYPE_SCHED_CLS, name, instructions)
}

/// A hash table that programs look values up in, by keys and values of a fixed size in bytes. The kernel frees it with its
/// last descriptor and program.
#[derive(Debug)]
pub struct BpfMap<const KEY: usize, const VALUE: usize>(OwnedFd);

impl<const KEY: usize, const VALUE: usize> BpfMap<KEY, VALUE> {
    /// Creates an empty table, whose memory grows with its content. Needs CAP_BPF, or CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// The errno of bpf(2).
    pub fn create(name: &str, max_entries: u32) -> Result<Self, Errno> {
        let create = CreateMap {
            kind: MAP_TYPE_HASH,
            key_size: u32::try_from(KEY).map_err(|_| Errno::TOOBIG)?,
            value_size: u32::try_from(VALUE).map_err(|_| Errno::TOOBIG)?,
            max_entries,
            flags: NO_PREALLOC,
            inner: 0,
            node: 0,
            name: name_bytes(name),
        };
        // SAFETY: no pointers.
        let (fd, _) = unsafe { bpf(MAP_CREATE, create) }?;
        descriptor(fd).map(Self)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// The errno of bpf(2): E2BIG if the table is full.
    pub fn insert(&self, key: [u8; KEY], value: [u8; VALUE]) -> Result<(), Errno> {
        // SAFETY: `key` and `value` are alive and of the sizes that the table was created with.
        unsafe { bpf(MAP_UPDATE_ELEM, self.element(&key, value.as_ptr())) }.map(drop)
    }

    /// Removes a key; a missing one counts as removed.
    ///
    /// # Errors
    /// The errno of bpf(2).
    pub fn remove(&self, key: [u8; KEY]) -> Result<(), Errno> {
        // SAFETY: `key` is alive and of the size that the table was created with; the command takes no value.
        match unsafe { bpf(MAP_DELETE_ELEM, self.element(&key, std::ptr::null())) } {
            Err(Errno::NOENT) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// The two instructions that load the table's address into a register, for a helper's argument. The program that contains
    /// them must be loaded while the table exists.
    pub fn load_address(&self, register: u8) -> [BpfInstruction; 2] {
        const LOAD_LONG: u8 = 0x18;
        const PSEUDO_MAP_FD: u8 = 1;
        let first = BpfInstruction {
            code: LOAD_LONG,
            target: register,
            source: PSEUDO_MAP_FD,
            offset: 0,
            immediate: self.0.as_raw_fd(),
        };
        let second = BpfInstruction {
            code: 0,
            target: 0,
            source: 0,
            offset: 0,
            immediate: 0,
        };
        [first, second]
    }

    fn element(&self, key: &[u8; KEY], value: *const u8) -> Element {
        Element {
            map: number(self.0.as_fd()),
            padding: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.expose_provenance() as u64,
            flags: 0,
        }
    }
}

/// A name as the kernel takes it: at most 15 bytes.
fn name_bytes(name: &str) -> [u8; 16] {
    let mut buffer = [0; 16];
    // The last byte stays zero and ends the name.
    for (to, from) in buffer[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    buffer
}

fn load(kind: u32, name: &str, instructions: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    let bytes: Vec<[u8; 8]> = instructions.iter().map(|one| one.bytes()).collect();
    let load = Load {
        kind,
        count: u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: bytes.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log: [0; 2],
        kernel_version: 0,
        flags: 0,
        name: name_bytes(name),
    };
    // SAFETY: `instructions` points to `count` live instructions of eight bytes each, and the licence is a C string.
    let (fd, _) = unsafe { bpf(PROG_LOAD, load) }?;
    descriptor(fd)
}

/// Attaches a program to a cgroup directory, in addition to others or atomically in place of `replaced`. The attachment
/// outlives this process: it lasts until it is detached or the cgroup is removed.
///
/// # Errors
/// The errno of bpf(2): EPERM also if an ancestor has a program that forbids further ones below it.
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

/// Detaches a program from a cgroup directory.
///
/// # Errors
/// The errno of bpf(2): ENOENT if the program is not attached there.
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

/// Ids of the programs attached to a cgroup directory itself, without those of its ancestors.
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
    // SAFETY: `ids` is alive and has room for `count` ids.
    let (_, query) = unsafe { bpf(PROG_QUERY, query) }?;
    ids.truncate(usize::try_from(query.count).map_err(|_| Errno::TOOBIG)?);
    Ok(ids)
}

/// Opens a program by its id. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of bpf(2): ENOENT if there is no such program.
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
    // SAFETY: `info` is alive and of the size given, and its null pointers make the kernel write nowhere else.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, question) }?;
    let end = info.name.iter().position(|byte| *byte == 0);
    let name = &info.name[..end.unwrap_or(info.name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}
