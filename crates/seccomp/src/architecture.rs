//! The target of a profile: the machine, the container's capabilities and the kernel.
//!
//! Only the architectures a node can run are here. The 32-bit relatives of each (x86 and x32, arm) are ABIs
//! of the same kernel and live in [`crate::table`].

use crate::kernel::KernelVersion;
use oci_spec::runtime::{Arch, Capabilities};

/// The native architecture of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// 64-bit x86, called `amd64` by Go.
    X86_64,
    /// 64-bit Arm, called `arm64` by Go.
    Aarch64,
}

impl Architecture {
    /// The architecture this program was built for, if it is one that the crate knows.
    pub const fn current() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The name in the OCI runtime spec.
    pub const fn oci(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::Aarch64 => Arch::ScmpArchAarch64,
        }
    }

    /// This architecture and the 32-bit ABIs that its kernel can serve.
    pub(crate) fn abis(self) -> Vec<Arch> {
        match self {
            Self::X86_64 => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
            Self::Aarch64 => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        }
    }

    /// Whether a profile means this architecture. Profiles write Go's, the kernel's or the OCI name.
    pub(crate) fn is_called(self, name: &str) -> bool {
        match self {
            Self::X86_64 => matches!(name, "amd64" | "x86_64" | "SCMP_ARCH_X86_64"),
            Self::Aarch64 => matches!(name, "arm64" | "aarch64" | "SCMP_ARCH_AARCH64"),
        }
    }
}

/// The properties of container and node that a profile depends on.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The node's architecture.
    pub architecture: Architecture,
    /// The container's bounding set, not the capabilities of its first process.
    pub capabilities: &'a Capabilities,
    /// The running kernel.
    pub kernel: KernelVersion,
}
