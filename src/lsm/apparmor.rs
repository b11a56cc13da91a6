//! AppArmor: whether it is on, which profiles are loaded, and the default profile of containers.
//!
//! The default profile is pausa's own, `pausa-default` ([`profile`]), unless the configuration names another one. It is
//! loaded at the daemon's start, which replaces that of an earlier version, for running containers too. Others unload
//! it, as `aa-remove-unknown` does with everything that is not in `/etc/apparmor.d`; so it is looked for before every
//! process that is to have it, and loaded again. Looking costs one read: the kernel counts the changes of its policy.
//!
//! Must never: load a profile that is not pausa's, or unload any.
//!
//! Sources: apparmor.d(5), apparmor_parser(8), `security/apparmor/apparmorfs.c` of the kernel.

mod profile;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, open};

use super::LsmError;
use crate::error::chain;
use crate::tool;

pub(crate) use profile::NAME as OWN_PROFILE;

/// The label of a process without a profile.
pub(crate) const UNCONFINED: &str = "unconfined";

/// All profiles of this policy namespace, one a line.
pub(crate) const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// A number that every change of the policy raises (Linux 4.13).
const REVISION: &str = "/sys/kernel/security/apparmor/revision";

const NO_PARSER: &str = "there is no apparmor_parser to load a default profile with: containers without a Localhost profile are not confined by AppArmor; install the package apparmor";

/// AppArmor on this node.
#[derive(Debug)]
pub struct AppArmor {
    /// None if the kernel does not enforce it.
    enabled: Option<Enabled>,
}

#[derive(Debug)]
struct Enabled {
    default: DefaultProfile,
    /// The profiles of the revision that was looked at last.
    seen: Mutex<Option<(u64, Arc<BTreeSet<String>>)>>,
    /// Why the default profile could not be loaded the last time.
    problem: Mutex<Option<String>>,
}

/// Where the profile for RuntimeDefault comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DefaultProfile {
    /// pausa's, loaded with this program.
    Own { parser: PathBuf },
    /// That of the configuration, loaded by the administrator.
    Configured(String),
    /// There is no program to load pausa's with. Somebody else may have loaded one of this name.
    NoParser,
}

impl AppArmor {
    /// Looks at this node and loads the default profile, where it is pausa's. A failure is logged, and shown by
    /// [`describe`](Self::describe): containers that need the profile are refused until it can be loaded.
    pub fn open(configured: Option<&str>) -> Self {
        if !is_enabled() {
            return Self::off();
        }
        let default = match (configured, tool::find("apparmor_parser")) {
            (Some(name), _) => DefaultProfile::Configured(name.to_owned()),
            (None, Some(parser)) => DefaultProfile::Own { parser },
            (None, None) => DefaultProfile::NoParser,
        };
        let enabled = Enabled {
            default,
            seen: Mutex::default(),
            problem: Mutex::default(),
        };
        let loaded = match &enabled.default {
            DefaultProfile::Own { parser } => enabled.load(parser),
            DefaultProfile::Configured(name) => enabled.expect_loaded(name),
            DefaultProfile::NoParser => {
                tracing::warn!(profile = OWN_PROFILE, "AppArmor is on, but {NO_PARSER}");
                Ok(())
            }
        };
        if let Err(error) = loaded {
            tracing::error!(
                error = chain(&error),
                "AppArmor's default profile for containers is not there: containers that are to have it are refused until it is"
            );
        }
        Self {
            enabled: Some(enabled),
        }
    }

    /// A node without AppArmor.
    pub fn off() -> Self {
        Self { enabled: None }
    }

    pub fn is_on(&self) -> bool {
        self.enabled.is_some()
    }

    /// The profile for RuntimeDefault, which is loaded if it was not; none if AppArmor does not confine by default here.
    /// May block.
    ///
    /// # Errors
    /// It is not loaded and cannot be.
    pub fn default_profile(&self) -> Result<Option<&str>, LsmError> {
        let Some(enabled) = &self.enabled else {
            return Ok(None);
        };
        let name = enabled.default_name();
        match &enabled.default {
            DefaultProfile::NoParser => Ok(enabled.is_loaded(name)?.then_some(name)),
            DefaultProfile::Own { .. } | DefaultProfile::Configured(_) => {
                enabled.ensure(name).map(|()| Some(name))
            }
        }
    }

    /// Whether a process can be given this profile now.
    pub fn is_in_place(&self, profile: &str) -> bool {
        profile == UNCONFINED
            || self
                .enabled
                .as_ref()
                .is_some_and(|enabled| enabled.is_loaded(profile).unwrap_or(false))
    }

    /// Has a profile loaded: the default one is loaded if it was not. May block.
    ///
    /// # Errors
    /// It is not loaded and cannot be.
    pub fn ensure(&self, profile: &str) -> Result<(), LsmError> {
        match &self.enabled {
            Some(enabled) if profile != UNCONFINED => enabled.ensure(profile),
            _ => Ok(()),
        }
    }

    /// What is in force, for Status.
    pub fn describe(&self) -> serde_json::Value {
        let Some(enabled) = &self.enabled else {
            return serde_json::json!({
                "enabled": false,
                "confinesByDefault": false,
                "reason": "AppArmor is not enabled in this kernel, or securityfs is not mounted: RuntimeDefault has no effect, Localhost profiles are refused",
            });
        };
        let name = enabled.default_name();
        let confines = enabled.is_loaded(name).unwrap_or(false);
        let problem = enabled.problem.lock().clone();
        let reason = match (&enabled.default, problem) {
            _ if confines => String::new(),
            (DefaultProfile::NoParser, _) => NO_PARSER.to_owned(),
            (DefaultProfile::Configured(_), _) => chain(&LsmError::NotLoaded {
                profile: name.to_owned(),
            }),
            (DefaultProfile::Own { .. }, Some(problem)) => problem,
            (DefaultProfile::Own { .. }, None) => {
                "it was unloaded; the next container loads it again".to_owned()
            }
        };
        serde_json::json!({
            "enabled": true,
            "defaultProfile": name,
            "confinesByDefault": confines,
            "reason": reason,
        })
    }
}

impl Enabled {
    fn default_name(&self) -> &str {
        match &self.default {
            DefaultProfile::Configured(name) => name,
            DefaultProfile::Own { .. } | DefaultProfile::NoParser => OWN_PROFILE,
        }
    }

    fn ensure(&self, profile: &str) -> Result<(), LsmError> {
        match &self.default {
            DefaultProfile::Own { parser } if profile == OWN_PROFILE => {
                if self.is_loaded(profile)? {
                    return Ok(());
                }
                if self.problem.lock().is_none() {
                    tracing::warn!(
                        profile,
                        "somebody has unloaded AppArmor's default profile; it is loaded again, but containers that were running meanwhile are unconfined"
                    );
                }
                self.load(parser)
            }
            _ => self.expect_loaded(profile),
        }
    }

    fn expect_loaded(&self, profile: &str) -> Result<(), LsmError> {
        if self.is_loaded(profile)? {
            return Ok(());
        }
        let profile = profile.to_owned();
        Err(LsmError::NotLoaded { profile })
    }

    fn load(&self, parser: &Path) -> Result<(), LsmError> {
        // Never from the cache, which knows files by their time.
        let loaded = tool::run(parser, &["--replace", "--skip-cache"], &profile::text(parser));
        let loaded = loaded.map_err(|source| LsmError::Load {
            profile: OWN_PROFILE.to_owned(),
            source,
        });
        *self.problem.lock() = loaded.as_ref().err().map(|error| chain(error));
        loaded
    }

    fn is_loaded(&self, profile: &str) -> Result<bool, LsmError> {
        Ok(self.profiles()?.contains(profile))
    }

    /// The names of all loaded profiles.
    fn profiles(&self) -> Result<Arc<BTreeSet<String>>, LsmError> {
        // Before the list is read: a change in between is then seen the next time.
        let revision = revision();
        if let Some((number, profiles)) = &*self.seen.lock()
            && revision == Some(*number)
        {
            return Ok(Arc::clone(profiles));
        }
        let list = fs::read_to_string(PROFILES).map_err(|source| LsmError::Io {
            action: "read",
            path: PROFILES.into(),
            source,
        })?;
        let profiles = Arc::new(names(&list));
        *self.seen.lock() = revision.map(|number| (number, Arc::clone(&profiles)));
        Ok(profiles)
    }
}

/// Whether the kernel enforces AppArmor, and shows it: a daemon in a container may lack securityfs.
pub(crate) fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
        && Path::new(PROFILES).exists()
}

/// The number of the policy's last change; none before Linux 4.13.
fn revision() -> Option<u64> {
    // The first read of an open file never waits; should a kernel think otherwise, it fails.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(REVISION, flags, Mode::empty()).ok()?;
    let mut buffer = [0_u8; 32];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    text.trim().parse().ok()
}

/// The names in a list of profiles, whose lines are `NAME (MODE)`. A name may have spaces.
pub(crate) fn names(list: &str) -> BTreeSet<String> {
    list.lines()
        .filter_map(|line| Some(line.rsplit_once(" (")?.0.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
