//! Linux security modules that confine containers by name: AppArmor and SELinux.
//!
//! Only kernel interfaces are used, no C library: securityfs and selinuxfs, `/proc/self/attr`, extended attributes.
//! `apparmor_parser` is run to load a profile, since only it can compile one. What a container is to have is decided in
//! `oci` from these modules' facts; its first process sets it, see `crates/container-init`.
//!
//! See `docs/design/0012-lsm.md`.

pub(crate) mod apparmor;
pub(crate) mod selinux;

use std::io;
use std::path::PathBuf;

use crate::error::{ErrorKind, Kinded};
use crate::tool::ToolError;

/// Why a security module cannot confine a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LsmError {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The default profile could not be loaded.
    #[error("cannot load the AppArmor profile {profile}; run `journalctl -k` for the kernel's word on it")]
    Load {
        profile: String,
        #[source]
        source: ToolError,
    },
    /// A profile that only its owner can load.
    #[error(
        "the AppArmor profile {profile} is not loaded on this node: load it with `apparmor_parser -r FILE`; `aa-status` lists those that are"
    )]
    NotLoaded { profile: String },
    /// SELinux's policy does not have a label.
    #[error(
        "SELinux's policy on this node does not know {context}: correct selinux_options, or install the policy's module that has it"
    )]
    UnknownContext { context: String },
    /// Every pod has two categories of its own.
    #[error(
        "all pairs of SELinux categories are in use: remove pods, or give them levels in selinux_options"
    )]
    PairsExhausted,
}

impl Kinded for LsmError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Internal,
            Self::Load { .. } | Self::NotLoaded { .. } | Self::UnknownContext { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::PairsExhausted => ErrorKind::ResourceExhausted,
        }
    }
}
