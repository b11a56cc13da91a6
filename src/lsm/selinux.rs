//! SELinux: whether it is on, what its policy gives containers, and the pairs of categories of pods.
//!
//! ```text
//!   /sys/fs/selinux          enforcing or permissive, levels or none, whether the policy knows a context
//!   /etc/selinux             which policy it is, and its defaults for containers (contexts/lxc_contexts)
//!   labels                   what a container gets                                                  (pure)
//!   level                    levels, and the pairs that keep pods apart                             (pure)
//!   relabel                  labels of volumes
//! ```
//!
//! Where SELinux is off in the kernel or in the configuration, or its policy does not know containers, nothing is
//! labelled, and what requests say about it has no effect, as in other runtimes.

pub(crate) mod labels;
pub(crate) mod level;
mod relabel;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use self::labels::Policy;
pub(crate) use self::labels::{Labels, Wanted, check};
use self::level::Pairs;
pub(crate) use self::level::{HeldPair, Level};
pub(crate) use self::relabel::relabel;
use super::LsmError;
use crate::error::chain;
use crate::proto::v1;

const SELINUXFS: &str = "/sys/fs/selinux";
const SETTINGS: &str = "/etc/selinux";
/// The extended attribute of labels.
pub(crate) const ATTRIBUTE: &str = "security.selinux";

/// SELinux on this node.
#[derive(Debug)]
pub struct SeLinux {
    state: State,
    pairs: Pairs,
    /// Whether a request that has no effect was reported.
    reported: AtomicBool,
}

#[derive(Debug)]
enum State {
    On(Policy),
    /// Nothing is labelled, for this reason.
    Off(String),
}

/// What a pod's record keeps of it. A record without it is that of a pod in which nothing is labelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLabel {
    /// None in a policy without levels.
    pub level: Option<Level>,
}

impl SeLinux {
    /// Looks at this node. `enable` is the configuration's.
    pub fn open(enable: bool) -> Self {
        let state = if enable {
            read_policy().map_or_else(State::Off, State::On)
        } else {
            State::Off("enable_selinux is false in the configuration".to_owned())
        };
        match &state {
            State::On(policy) => {
                tracing::info!(process = %policy.process, file = %policy.file, "containers are labelled for SELinux");
            }
            State::Off(reason) if Path::new(SELINUXFS).join("enforce").exists() => {
                tracing::warn!(reason, "SELinux is on and containers are not labelled for it");
            }
            State::Off(_) => {}
        }
        Self {
            state,
            pairs: Pairs::default(),
            reported: AtomicBool::new(false),
        }
    }

    fn policy(&self) -> Option<&Policy> {
        match &self.state {
            State::On(policy) => Some(policy),
            State::Off(_) => None,
        }
    }

    /// The label of a new pod, which keeps its pair as long as what comes with it. None where nothing is labelled.
    ///
    /// # Errors
    /// All pairs are in use.
    pub fn label_pod(
        &self,
        asked: Option<&v1::SeLinuxOption>,
    ) -> Result<Option<(PodLabel, Option<HeldPair>)>, LsmError> {
        let Some(policy) = self.policy() else {
            return Ok(None);
        };
        let asked = asked.and_then(|options| options.level.parse::<Level>().ok());
        let (level, held) = match (policy.levels, asked) {
            (false, _) => (None, None),
            (true, Some(level)) => {
                let held = level.pair().map(|pair| self.pairs.hold(pair));
                (Some(level), held)
            }
            (true, None) => {
                let held = self.pairs.take().ok_or(LsmError::PairsExhausted)?;
                (Some(Level::of(policy.sensitivity(), held.pair())), Some(held))
            }
        };
        Ok(Some((PodLabel { level }, held)))
    }

    /// Keeps the pair of a pod that has a label already.
    pub fn hold(&self, label: Option<&PodLabel>) -> Option<HeldPair> {
        let pair = label?.level.as_ref()?.pair()?;
        Some(self.pairs.hold(pair))
    }

    /// The contexts of a container, or of a pod's own files. None where nothing is labelled.
    ///
    /// # Errors
    /// The policy does not know one of them.
    pub fn labels(&self, pod: Option<&PodLabel>, wanted: &Wanted<'_>) -> Result<Option<Labels>, LsmError> {
        let (Some(policy), Some(pod)) = (self.policy(), pod) else {
            self.report_ignored(wanted);
            return Ok(None);
        };
        let wanted = Wanted {
            level: pod.level.as_ref(),
            ..*wanted
        };
        let labels = labels::labels(policy, &wanted);
        for context in [&labels.process, &labels.file] {
            if !is_known(context)? {
                return Err(LsmError::UnknownContext {
                    context: context.clone(),
                });
            }
        }
        Ok(Some(labels))
    }

    /// Says once that options have no effect.
    fn report_ignored(&self, wanted: &Wanted<'_>) {
        let State::Off(reason) = &self.state else { return };
        let asks = wanted.pod.is_some() || wanted.container.is_some();
        if asks && !self.reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "a pod asks for an SELinux label, which has no effect here; this is not said again"
            );
        }
    }

    /// What is in force, for Status.
    pub fn describe(&self) -> serde_json::Value {
        let enforcing = fs::read_to_string(Path::new(SELINUXFS).join("enforce"));
        let (labels, process, file, reason) = match &self.state {
            State::On(policy) => (true, policy.process.to_string(), policy.file.to_string(), ""),
            State::Off(reason) => (false, String::new(), String::new(), reason.as_str()),
        };
        serde_json::json!({
            "enabled": enforcing.is_ok(),
            "enforcing": enforcing.is_ok_and(|text| text.trim() == "1"),
            "labelsContainers": labels,
            "process": process,
            "file": file,
            "reason": reason,
        })
    }
}

/// What the node's policy gives containers, or why they cannot be labelled.
fn read_policy() -> Result<Policy, String> {
    if !Path::new(SELINUXFS).join("enforce").exists() {
        return Err("SELinux is not enabled in this kernel: selinux_options have no effect".to_owned());
    }
    // The label of all processes until a policy is loaded.
    if fs::read_to_string("/proc/self/attr/current")
        .is_ok_and(|label| label.trim_end_matches(['\0', '\n']) == "kernel")
    {
        return Err("SELinux has no policy loaded".to_owned());
    }
    let levels = fs::read_to_string(Path::new(SELINUXFS).join("mls")).is_ok_and(|text| text.trim() == "1");
    let settings = fs::read_to_string(Path::new(SETTINGS).join("config")).unwrap_or_default();
    let contexts =
        policy_name(&settings).map(|name| Path::new(SETTINGS).join(name).join("contexts/lxc_contexts"));
    let contexts = contexts.and_then(|path| fs::read_to_string(path).ok());
    let policy = Policy::parse(&contexts.unwrap_or_default(), levels);
    for context in [&policy.process, &policy.file] {
        let mut context = context.clone();
        if levels && context.level.is_none() {
            context.level = policy.sensitivity().parse().ok();
        }
        match is_known(&context.to_string()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "SELinux's policy does not know {context}: install its module for containers (container-selinux)"
                ));
            }
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(policy)
}

/// The policy that `/etc/selinux/config` names.
fn policy_name(settings: &str) -> Option<&str> {
    let value = settings
        .lines()
        .find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))?;
    let name = value.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && !name.starts_with('.') && name.chars().all(plain)).then_some(name)
}

/// Whether the policy in the kernel has this context.
fn is_known(context: &str) -> Result<bool, LsmError> {
    let path = Path::new(SELINUXFS).join("context");
    let written = fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(context.as_bytes()));
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(false),
        Err(source) => Err(LsmError::Io {
            action: "ask SELinux about a context: write",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
