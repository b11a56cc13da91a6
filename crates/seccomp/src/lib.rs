//! Seccomp profiles: Docker-style JSON to the OCI form, and the OCI form to BPF.
//!
//! ```text
//! Localhost profile (JSON) ──Profile::parse──▶ Profile ──resolve──┐
//!                                                                 ├─▶ LinuxSeccomp ──compile──▶ Program
//! RuntimeDefault ────────────default_profile──────────────────────┘
//! ```
//!
//! A profile depends on properties of the container and the node: architecture, capabilities, kernel. [`Target`] has
//! them; the result is the plain `linux.seccomp` of the OCI runtime spec, so that every runtime handler gets the same. [`compile()`] turns that into the classic BPF program which the
//! built-in handler installs with `seccomp(SECCOMP_SET_MODE_FILTER, flags, program)`.
//!
//! Pure functions: this crate reads no file, asks the kernel nothing and holds no `unsafe`. Profiles are
//! hostile input: they are limited in size, every index and number is checked, nothing panics.
//!
//! References: OCI runtime spec `config-linux.md#seccomp`, seccomp(2), the kernel's
//! `Documentation/userspace-api/seccomp_filter.rst`, Kubernetes KEP-135 and KEP-2413.

mod architecture;
mod compile;
mod default_profile;
mod error;
mod kernel;
mod profile;
mod program;
mod projects;
mod table;
#[cfg(test)]
mod testing;

pub use architecture::{Architecture, Target};
pub use compile::compile;
pub use default_profile::default_profile;
pub use error::{Error, ErrorKind, Place};
pub use kernel::{KernelVersion, ParseKernelVersionError};
pub use profile::{MAX_PROFILE_SIZE, Profile};
pub use program::{Instruction, MAX_INSTRUCTIONS, Program};
pub use projects::keep_projects;
