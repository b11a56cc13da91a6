//! System call numbers by name for every ABI the crate compiles for.
//!
//! The tables end at Linux 6.18. A newer kernel's calls are unknown here: a profile that names one has the
//! name reported and no rule for it, and the filter answers `ENOSYS` (see [`crate::compile`]).

mod aarch64;
mod arm;
mod x32;
mod x86;
mod x86_64;

use std::collections::HashMap;
use std::sync::LazyLock;

/// A way to call the kernel: an architecture as seccomp(2) tells them apart, and x32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    pub(crate) const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// Every system call, sorted by name.
    pub(crate) const fn syscalls(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::X86_64 => x86_64::SYSCALLS,
            Self::X86 => x86::SYSCALLS,
            Self::X32 => x32::SYSCALLS,
            Self::Aarch64 => aarch64::SYSCALLS,
            Self::Arm => arm::SYSCALLS,
        }
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

    /// Where numbers stop to say anything about age: x32 keeps its own variants at 512 and above, arm its
    /// private calls at `0xf0000` and above. New system calls are numbered below.
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

/// The old multiplexed way to reach a system call on 32-bit x86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplexed {
    /// `socketcall` or `ipc`.
    pub(crate) through: &'static str,
    /// What the first argument holds.
    pub(crate) selector: u32,
    /// Which bits of the first argument select: ipc(2) has a version above.
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

/// The numbers of one system call, by ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    x86_64: Option<u32>,
    x86: Option<u32>,
    x32: Option<u32>,
    aarch64: Option<u32>,
    arm: Option<u32>,
}

impl Numbers {
    /// The number on one ABI, for x32 without its marker bit.
    pub(crate) fn on(self, abi: Abi) -> Option<u32> {
        match abi {
            Abi::X86_64 => self.x86_64,
            Abi::X86 => self.x86,
            Abi::X32 => self.x32,
            Abi::Aarch64 => self.aarch64,
            Abi::Arm => self.arm,
        }
    }

    fn set(&mut self, abi: Abi, number: u32) {
        let slot = match abi {
            Abi::X86_64 => &mut self.x86_64,
            Abi::X86 => &mut self.x86,
            Abi::X32 => &mut self.x32,
            Abi::Aarch64 => &mut self.aarch64,
            Abi::Arm => &mut self.arm,
        };
        *slot = Some(number);
    }
}

/// All tables by name. A profile has hundreds of names, each wanted on up to three ABIs: one look-up serves
/// them all.
static BY_NAME: LazyLock<HashMap<&'static str, Numbers>> = LazyLock::new(|| {
    let mut by_name: HashMap<_, Numbers> = HashMap::with_capacity(600);
    for abi in Abi::ALL {
        for (name, number) in abi.syscalls() {
            by_name.entry(*name).or_default().set(abi, *number);
        }
    }
    by_name
});

/// A system call's numbers, or None if it is one on no ABI.
pub(crate) fn numbers(name: &str) -> Option<Numbers> {
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests;
