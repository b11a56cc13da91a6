//! What this node offers to containers, probed once at start.
//!
//! Must never be probed while a container starts: it reads `/proc` and `/sys`.

use std::fs;
use std::path::Path;

use oci_spec::runtime::Capabilities;
use pausa_seccomp::{Architecture, KernelVersion, Profile};

use super::error::OciError;
use super::security::{self, Seccomp};
use super::{SeccompPrograms, prepare};

/// The configuration's key of the profile for `RuntimeDefault`.
const DEFAULT_SECCOMP: &str = "seccomp.default_profile";

/// Facts about the node that are the same for all its containers.
#[derive(Debug, Clone)]
pub struct Host {
    /// Capabilities that this process may pass on: bit n for capability number n.
    pub capabilities: u64,
    /// Whether seccomp filters can be installed.
    pub seccomp: bool,
    /// The configured profile for seccomp `RuntimeDefault`; pausa's own if none.
    pub seccomp_default: Option<Profile>,
    /// None if there are no seccomp tables for this machine.
    pub architecture: Option<Architecture>,
    pub kernel: KernelVersion,
}

impl Host {
    /// Looks at this node. A feature that cannot be determined counts as missing.
    pub fn probe() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        Self {
            capabilities: capabilities(),
            seccomp: fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false),
            seccomp_default: None,
            architecture: Architecture::current(),
            // Every release so far begins with two numbers; no seccomp rule asks for a kernel before 3.
            kernel: release.parse().unwrap_or(KernelVersion::new(5, 15)),
        }
    }

    /// Replaces the seccomp profile of `RuntimeDefault` with the one in a file, which is read now and not again. Where
    /// this machine has filters, the profile is compiled as a test: a start that fails is better than pods that do.
    ///
    /// # Errors
    /// The file cannot be read, is not a profile, or cannot be compiled for this machine.
    pub fn read_seccomp_default(&mut self, path: &Path) -> Result<(), OciError> {
        self.seccomp_default = Some(prepare::read_profile(DEFAULT_SECCOMP, path)?);
        if self.seccomp && self.architecture.is_some() {
            let none = Capabilities::new();
            let filter = security::seccomp(&Seccomp::RuntimeDefault, &none, self)?;
            let tried = filter.map(|filter| SeccompPrograms::default().program(&filter));
            tried.transpose().map_err(|error| match error {
                OciError::Seccomp { source, .. } => OciError::Seccomp {
                    field: DEFAULT_SECCOMP.into(),
                    source,
                },
                other => other,
            })?;
        }
        Ok(())
    }
}

/// Capabilities that are permitted and in the bounding set.
fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    };
    set("CapBnd:") & set("CapPrm:")
}
