//! Which contexts a pod and its containers get: from CRI's options, the policy's defaults and the pod's level.
//!
//! Pure. Each part of a context is taken from the first that has it:
//!
//! | | user, role | type | level |
//! |---|---|---|---|
//! | process | container, pod, policy | container, pod, policy; container, `spc_t` if it is not separated | container, pod |
//! | files | container, pod, policy | policy | lower end of the process's; the pod's if it is not separated |
//!
//! Not separated are privileged containers and those of pods in the node's PID or IPC namespace, as in CRI-O: they reach
//! other processes in any case. Their files keep the pod's level, since other containers of the pod use them too.

use std::fmt;
use std::str::FromStr;

use super::level::Level;
use crate::proto::v1;

/// The type of processes that are not separated from the node.
const UNSEPARATED: &str = "spc_t";

/// `user:role:type`, and a level where the policy has levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) kind: String,
    pub(super) level: Option<Level>,
}

impl Context {
    fn new(user: &str, role: &str, kind: &str) -> Self {
        Self {
            user: user.to_owned(),
            role: role.to_owned(),
            kind: kind.to_owned(),
            level: None,
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match &self.level {
            Some(level) => write!(f, ":{level}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Context {
    /// There is one reason: it is no context.
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(4, ':');
        let mut part = || parts.next().filter(|part| is_identifier(part)).ok_or(());
        let (user, role, kind) = (part()?, part()?, part()?);
        let level = parts.next().map(str::parse).transpose().map_err(drop)?;
        Ok(Self {
            level,
            ..Self::new(user, role, kind)
        })
    }
}

/// Whether a text can be a user, role or type: what policies can name, and nothing that ends a mount option.
fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// What a policy gives containers by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) process: Context,
    pub(super) file: Context,
    /// Whether contexts have levels (MLS, MCS).
    pub(super) levels: bool,
}

impl Policy {
    /// From the policy's `contexts/lxc_contexts`, with the names of the reference policy for what is not there.
    pub(super) fn parse(lxc_contexts: &str, levels: bool) -> Self {
        let value = |key: &str| {
            let mut lines = lxc_contexts.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
            value.trim().trim_matches('"').parse::<Context>().ok()
        };
        Self {
            process: value("process").unwrap_or_else(|| Context::new("system_u", "system_r", "container_t")),
            file: value("file").unwrap_or_else(|| Context::new("system_u", "object_r", "container_file_t")),
            levels,
        }
    }

    /// The sensitivity that containers have.
    pub(super) fn sensitivity(&self) -> &str {
        self.process.level.as_ref().map_or("s0", Level::sensitivity)
    }
}

/// The contexts of a container, or of a pod's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub process: String,
    /// Of all that is mounted for it, and of volumes that are to be relabelled.
    pub file: String,
}

/// What the contexts of a container follow from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Those of the pod.
    pub pod: Option<&'a v1::SeLinuxOption>,
    /// The level that the pod has, asked for or given.
    pub level: Option<&'a Level>,
    pub container: Option<&'a v1::SeLinuxOption>,
    /// Privileged, or in the node's PID or IPC namespace.
    pub unseparated: bool,
}

/// The contexts for options that [`check`] has found right.
pub(super) fn labels(policy: &Policy, wanted: &Wanted<'_>) -> Labels {
    let given = |part: fn(&v1::SeLinuxOption) -> &String, option: Option<&v1::SeLinuxOption>| {
        option.map(part).filter(|text| !text.is_empty()).cloned()
    };
    let either = |part| given(part, wanted.container).or_else(|| given(part, wanted.pod));
    let kind = match (
        given(|option| &option.r#type, wanted.container),
        wanted.unseparated,
    ) {
        (Some(kind), _) => kind,
        (None, true) => UNSEPARATED.to_owned(),
        (None, false) => {
            given(|option| &option.r#type, wanted.pod).unwrap_or_else(|| policy.process.kind.clone())
        }
    };
    let user = either(|option| &option.user);
    let asked = given(|option| &option.level, wanted.container).and_then(|level| level.parse::<Level>().ok());
    let of_pod = wanted.level.cloned();
    let of_process = match (&asked, wanted.unseparated) {
        (Some(level), _) => Some(level.clone()),
        // That of the policy, unless somebody has asked for another one.
        (None, true) => given(|option| &option.level, wanted.pod)
            .and_then(|level| level.parse().ok())
            .or_else(|| policy.sensitivity().parse().ok()),
        (None, false) => of_pod.clone(),
    };
    let of_files = asked.or(of_pod).map(|level| level.low().parse().unwrap_or(level));
    let with_level = |level: Option<Level>| level.filter(|_| policy.levels);
    let process = Context {
        user: user.clone().unwrap_or_else(|| policy.process.user.clone()),
        role: either(|option| &option.role).unwrap_or_else(|| policy.process.role.clone()),
        kind,
        level: with_level(of_process),
    };
    let file = Context {
        user: user.unwrap_or_else(|| policy.file.user.clone()),
        level: with_level(of_files),
        ..policy.file.clone()
    };
    Labels {
        process: process.to_string(),
        file: file.to_string(),
    }
}

/// What is wrong with options, whatever the policy: the part, its value, and how it should be.
pub(crate) fn check(options: &v1::SeLinuxOption) -> Result<(), (&'static str, &str, &'static str)> {
    let names = [
        ("user", &options.user),
        ("role", &options.role),
        ("type", &options.r#type),
    ];
    for (part, name) in names {
        if !name.is_empty() && !is_identifier(name) {
            return Err((part, name, "it has letters, digits, `_`, `-` and `.`"));
        }
    }
    if !options.level.is_empty() && options.level.parse::<Level>().is_err() {
        return Err((
            "level",
            &options.level,
            "a level is as s0:c1,c2 or s0-s0:c0.c1023",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
