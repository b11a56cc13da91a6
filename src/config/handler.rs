//! Runtime handlers, and what their containers get that neither CRI nor the image says.

use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::PosixRlimitType;
use serde::{Deserialize, Serialize};

use crate::quantity;

/// One runtime handler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handler {
    pub kind: HandlerKind,
    /// Environment of containers. The image's variables and CRI's come after it.
    pub default_env: Vec<Variable>,
    /// Resource limits of processes; all others are those of the daemon.
    pub default_ulimits: Vec<Ulimit>,
    /// How many processes and threads a container may have; 0 is no limit.
    pub pids_limit: u32,
    /// How much of its CFS quota a container may save up in idle periods and use on top of it later, in percent of the quota.
    pub cpu_burst: u32,
    /// How much a container may write into its root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_layer_limit: Option<Size>,
    /// How much the containers of a pod may write into their root file systems together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_writable_layer_limit: Option<Size>,
}

/// What runs the containers of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandlerKind {
    /// pausa itself.
    #[default]
    Builtin,
}

/// A text that is none of these values.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ValueError {
    text: String,
    expected: &'static str,
}

/// An amount of space in Kubernetes' form, `500Mi` or `10Gi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// Less is not enough for the directories themselves; the kernel counts no more.
    const BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 60;
    const SUFFIXES: [&str; 6] = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];

    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = quantity::parse(text).filter(|bytes| Self::BYTES.contains(bytes));
        bytes.map(Self).ok_or_else(|| ValueError {
            text: text.chars().take(100).collect(),
            expected: "a size from 1Mi to 1Ei, such as 500Mi or 10Gi",
        })
    }
}

impl TryFrom<String> for Size {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let (mut number, mut suffixes) = (size.0, Size::SUFFIXES.into_iter());
        let mut suffix = suffixes.next();
        while number % 1024 == 0
            && let Some(next) = suffixes.next()
        {
            (number, suffix) = (number / 1024, Some(next));
        }
        format!("{number}{}", suffix.unwrap_or_default())
    }
}

/// An environment variable, `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Variable(String);

impl Variable {
    /// `NAME=value`.
    pub fn entry(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Variable {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text.find('=').is_some_and(|at| at > 0) && !text.contains('\0') {
            return Ok(Self(text));
        }
        let expected = "an environment variable, NAME=value without NUL";
        Err(ValueError { text, expected })
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> Self {
        variable.0
    }
}

/// A limit of setrlimit(2) in Docker's form, `NAME=SOFT:HARD` or `NAME=BOTH`; -1 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulimit {
    pub resource: PosixRlimitType,
    /// `u64::MAX` is no limit.
    pub soft: u64,
    pub hard: u64,
}

const RESOURCES: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

impl FromStr for Ulimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = |text: &str| match text {
            "-1" => Some(u64::MAX),
            text => text.parse().ok(),
        };
        let parse = || {
            let (name, limits) = text.split_once('=')?;
            let (_, resource) = RESOURCES.into_iter().find(|(known, _)| *known == name)?;
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            let (soft, hard) = (number(soft)?, number(hard)?);
            (soft <= hard).then_some(Self { resource, soft, hard })
        };
        parse().ok_or_else(|| ValueError {
            text: text.to_owned(),
            expected: "a limit such as nofile=1024:4096 (soft and hard, at most equal), core=0 or memlock=-1",
        })
    }
}

impl TryFrom<String> for Ulimit {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Ulimit> for String {
    fn from(limit: Ulimit) -> Self {
        limit.to_string()
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut known = RESOURCES.into_iter();
        let name = known.find(|(_, resource)| *resource == self.resource);
        let number = |limit: u64| match limit {
            u64::MAX => "-1".to_owned(),
            limit => limit.to_string(),
        };
        let name = name.map_or("", |(name, _)| name);
        write!(f, "{name}={}:{}", number(self.soft), number(self.hard))
    }
}
