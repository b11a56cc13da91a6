//! System call numbers by name for every ABI the crate compiles for.
//!
//! The table ends at Linux 6.18. A newer kernel's calls are unknown here: a profile that names one has the
//! name reported and no rule for it, and the filter answers `ENOSYS` (see [`crate::compile()`]).

mod syscalls;

use syscalls::SYSCALLS;

/// An ABI of the kernel: an architecture as seccomp(2) distinguishes them, or x32. The variants are in the order of the
/// columns of [`SYSCALLS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// Every system call of this ABI, sorted by name; for x32 without its marker bit.
    pub(crate) fn syscalls(self) -> impl Iterator<Item = (&'static str, u32)> {
        SYSCALLS
            .iter()
            .filter_map(move |(name, numbers)| Some((*name, Numbers(*numbers).on(self)?)))
    }

    /// The number of a system call, for x32 without its marker bit.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        numbers(name)?.on(self)
    }

    /// `AUDIT_ARCH_*`, which the kernel puts into `seccomp_data.arch`. x32 shares that of x86_64.
    pub(crate) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The first number that says nothing about a call's age: x32 keeps its own variants at 512 and above, arm
    /// its private calls at `0xf0000` and above. New system calls are numbered below.
    pub(crate) const fn private_from(self) -> u32 {
        match self {
            Self::X32 => 512,
            Self::Arm => 0xf_0000,
            Self::X86_64 | Self::X86 | Self::Aarch64 => u32::MAX,
        }
    }

    /// Whether arguments have 32 bits. (x32 passes them in 64-bit registers.)
    pub(crate) const fn is_narrow(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }
}

/// The numbers of one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers([i32; 5]);

impl Numbers {
    /// The number on one ABI, for x32 without its marker bit.
    pub(crate) fn on(self, abi: Abi) -> Option<u32> {
        u32::try_from(self.0[abi as usize]).ok()
    }
}

/// A system call's numbers, or None if no ABI has a call of this name.
pub(crate) fn numbers(name: &str) -> Option<Numbers> {
    let index = SYSCALLS.binary_search_by_key(&name, |(known, _)| known).ok()?;
    SYSCALLS.get(index).map(|(_, numbers)| Numbers(*numbers))
}

/// How a system call is reached through socketcall(2) or ipc(2) on 32-bit x86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplexed {
    /// `socketcall` or `ipc`.
    pub(crate) through: &'static str,
    /// The first argument, under `mask`.
    pub(crate) selector: u32,
    /// The bits of the first argument that select the call: ipc(2) keeps a version in the upper ones.
    pub(crate) mask: u32,
}

/// How socketcall(2) and ipc(2) call `name`, after the kernel's `linux/net.h` and `linux/ipc.h`.
pub(crate) fn multiplexed(name: &str) -> Option<Multiplexed> {
    let socket = |selector| Multiplexed {
        through: "socketcall",
        selector,
        mask: u32::MAX,
    };
    let ipc = |selector| Multiplexed {
        through: "ipc",
        selector,
        mask: 0xffff,
    };
    Some(match name {
        "socket" => socket(1),
        "bind" => socket(2),
        "connect" => socket(3),
        "listen" => socket(4),
        "accept" => socket(5),
        "getsockname" => socket(6),
        "getpeername" => socket(7),
        "socketpair" => socket(8),
        "send" => socket(9),
        "recv" => socket(10),
        "sendto" => socket(11),
        "recvfrom" => socket(12),
        "shutdown" => socket(13),
        "setsockopt" => socket(14),
        "getsockopt" => socket(15),
        "sendmsg" => socket(16),
        "recvmsg" => socket(17),
        "accept4" => socket(18),
        "recvmmsg" => socket(19),
        "sendmmsg" => socket(20),
        "semop" => ipc(1),
        "semget" => ipc(2),
        "semctl" => ipc(3),
        "semtimedop" => ipc(4),
        "msgsnd" => ipc(11),
        "msgrcv" => ipc(12),
        "msgget" => ipc(13),
        "msgctl" => ipc(14),
        "shmat" => ipc(21),
        "shmdt" => ipc(22),
        "shmget" => ipc(23),
        "shmctl" => ipc(24),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
