//! A cache of seccomp filters compiled to programs.
//!
//! A node runs many containers under few profiles, and every exec needs the program again. The key is the resolved
//! filter, which depends on profile, capabilities and machine, so an entry is never stale.

use std::collections::VecDeque;

use oci_spec::runtime::LinuxSeccomp;
use parking_lot::Mutex;
use pausa_seccomp::Architecture;

use super::error::OciError;

/// More than a node uses at a time.
const KEPT: usize = 32;

/// A program and the flags of seccomp(2), as the plan carries them.
type Program = (Vec<u8>, u32);

/// The programs compiled last, the latest first.
#[derive(Debug, Default)]
pub struct SeccompPrograms {
    recent: Mutex<VecDeque<(LinuxSeccomp, Program)>>,
}

impl SeccompPrograms {
    /// The program of a filter for this machine.
    ///
    /// # Errors
    /// As [`pausa_seccomp::compile`]; or there are no tables for this machine.
    pub fn program(&self, filter: &LinuxSeccomp) -> Result<Program, OciError> {
        if let Some(known) = self.lookup(filter) {
            return Ok(known);
        }
        let native = Architecture::current().ok_or_else(|| {
            OciError::lacks(
                "linux.seccomp",
                std::env::consts::ARCH,
                "there are no seccomp tables for this machine",
            )
        })?;
        let compiled = pausa_seccomp::compile(filter, native).map_err(|source| OciError::Seccomp {
            field: "linux.seccomp".into(),
            source,
        })?;
        if !compiled.unknown_syscalls().is_empty() {
            tracing::debug!(names = ?compiled.unknown_syscalls(), "seccomp profile names unknown system calls");
        }
        let program = (compiled.to_bytes(), compiled.flags());
        let mut recent = self.recent.lock();
        recent.truncate(KEPT - 1);
        recent.push_front((filter.clone(), program.clone()));
        Ok(program)
    }

    fn lookup(&self, filter: &LinuxSeccomp) -> Option<Program> {
        let mut recent = self.recent.lock();
        let at = recent.iter().position(|(known, _)| known == filter)?;
        let hit = recent.remove(at)?;
        let program = hit.1.clone();
        recent.push_front(hit);
        Some(program)
    }
}
