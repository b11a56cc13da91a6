//! Seccomp filters compiled to programs, the last few kept.
//!
//! A node runs many containers under few profiles, and every exec needs the program again. The key is the
//! resolved filter itself, in which profile, capabilities and machine are already in: nothing can be stale.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::LinuxSeccomp;
use pausa_seccomp::Architecture;

use super::error::OciError;

/// More different ones than a node has at a time.
const KEPT: usize = 32;

/// A program and the flags of seccomp(2), as the plan carries them.
type Program = (Vec<u8>, u32);

/// The programs compiled lately.
#[derive(Debug, Default)]
pub struct SeccompPrograms {
    recent: Mutex<VecDeque<(LinuxSeccomp, Program)>>,
}

impl SeccompPrograms {
    /// The program of a filter for this machine.
    ///
    /// # Errors
    /// As [`pausa_seccomp::compile`]; or the machine is none that profiles can be compiled for.
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
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(KEPT - 1);
        recent.push_front((filter.clone(), program.clone()));
        Ok(program)
    }

    fn lookup(&self, filter: &LinuxSeccomp) -> Option<Program> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(known, _)| known == filter)?;
        let hit = recent.remove(at)?;
        let program = hit.1.clone();
        recent.push_front(hit);
        Some(program)
    }
}
