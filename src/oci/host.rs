//! What this node offers, looked up once at start.
//!
//! Must never be asked on a container's way: it reads `/proc` and `/sys`.

use std::fs;
use std::path::Path;

use oci_spec::runtime::Capabilities;
use pausa_seccomp::{Architecture, KernelVersion, Profile};

use super::error::OciError;
use super::security::{self, Seccomp};
use super::{SeccompPrograms, prepare};

/// The configuration's key of the profile for `RuntimeDefault`.
const DEFAULT_SECCOMP: &str = "seccomp.default_profile";

/// What is the same for every container of this node.
#[derive(Debug, Clone)]
pub struct Host {
    /// Capabilities this process may hand on: bit n for capability number n.
    pub capabilities: u64,
    /// Whether seccomp filters can be installed.
    pub seccomp: bool,
    /// What seccomp `RuntimeDefault` means instead of the profile pausa brings.
    pub seccomp_default: Option<Profile>,
    /// The machine, where a seccomp profile can be compiled for it.
    pub architecture: Option<Architecture>,
    /// The running kernel.
    pub kernel: KernelVersion,
    /// AppArmor, where it is on.
    pub apparmor: Option<AppArmor>,
    /// Whether SELinux is on.
    pub selinux: bool,
}

/// AppArmor on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppArmor {
    /// The profile that `RuntimeDefault` means, if one is loaded.
    pub default_profile: Option<String>,
}

/// The profile an administrator may load for `RuntimeDefault`.
const DEFAULT_APPARMOR_PROFILE: &str = "pausa-default";

impl Host {
    /// Looks at this node. What cannot be found out counts as not there.
    pub fn probe() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        Self {
            capabilities: capabilities(),
            seccomp: fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false),
            seccomp_default: None,
            architecture: Architecture::current(),
            // Two numbers come first in every release there has been; no rule asks for less than 3.
            kernel: release.parse().unwrap_or(KernelVersion::new(5, 15)),
            apparmor: apparmor(),
            selinux: fs::exists("/sys/fs/selinux/enforce").unwrap_or(false),
        }
    }

    /// Makes seccomp `RuntimeDefault` the profile in a file, which is read now and not again. Where this machine
    /// has filters, it is tried as well: better no daemon than one whose every pod fails.
    ///
    /// # Errors
    /// The file cannot be read, is no profile, or one that cannot be compiled for this machine.
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

/// What is both in the bounding set and permitted.
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

fn apparmor() -> Option<AppArmor> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
    if !enabled.starts_with('Y') {
        return None;
    }
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let default_profile = loaded
        .lines()
        .any(|line| line.split(' ').next() == Some(DEFAULT_APPARMOR_PROFILE))
        .then(|| DEFAULT_APPARMOR_PROFILE.to_owned());
    Some(AppArmor { default_profile })
}
