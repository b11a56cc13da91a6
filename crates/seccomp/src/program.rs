//! The compiled filter: classic BPF as seccomp(2) takes it, and what to install it with.
//!
//! Invariant: a [`Program`] has between 1 and [`MAX_INSTRUCTIONS`] instructions and every path ends in a
//! return. Installing it is the caller's business.

/// The kernel's `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction, field by field the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation: `BPF_*` of linux/bpf_common.h.
    pub code: u16,
    /// How many instructions to skip if a test is true.
    pub jt: u8,
    /// How many instructions to skip if a test is false.
    pub jf: u8,
    /// Operand: what is loaded or compared, or returned.
    pub k: u32,
}

impl Instruction {
    /// The instruction in memory on a little-endian machine.
    pub fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_le_bytes();
        let [k0, k1, k2, k3] = self.k.to_le_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// A filter ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) flags: u32,
    pub(crate) unknown_syscalls: Vec<String>,
}

impl Program {
    /// The instructions in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The instructions as an array of `struct sock_filter`, which `struct sock_fprog` points to.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.instructions
            .iter()
            .flat_map(|instruction| instruction.to_bytes())
            .collect()
    }

    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2).
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Names in the profile that are a system call nowhere, sorted: typing errors, or newer than the tables.
    /// Their rules have no effect.
    pub fn unknown_syscalls(&self) -> &[String] {
        &self.unknown_syscalls
    }
}
