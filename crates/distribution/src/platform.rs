//! Platforms (OCI image spec, image-index.md "platform") and the choice of an index's manifest for a platform.
//!
//! A platform has an ordered list of platforms whose programs it can run, best first; the index entry that comes first in that
//! list is chosen, and among equal entries the first of the index. Attestation entries (`unknown/unknown`) are never chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Operating system and processor a manifest is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the operating system.
    pub os: String,
    /// Go's name of the architecture.
    pub architecture: String,
    /// Version of the architecture: `v7`, `v8`, `v3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform from Go's names and a version of the architecture.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// This node's platform, with the processor's level, so that an image built for `amd64/v3` is chosen if it can run.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, level()).normalised()
    }

    /// Common spellings (`x86_64`, `aarch64`, `armhf`) turned into the registered ones, default variants filled in.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let os = self.os.to_ascii_lowercase();
        let variant = self
            .variant
            .as_deref()
            .filter(|v| !v.is_empty())
            .map(str::to_ascii_lowercase);
        let named = |name: &str| variant.clone().or_else(|| Some(name.to_owned()));
        let (architecture, variant) = match self.architecture.to_ascii_lowercase().as_str() {
            "amd64" | "x86_64" | "x86-64" => ("amd64".to_owned(), variant.filter(|v| v != "v1")),
            "arm64" | "aarch64" => {
                let number = variant.as_deref().map_or("8", |v| v.trim_start_matches('v'));
                ("arm64".to_owned(), Some(format!("v{number}")))
            }
            "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
            "armel" => ("arm".to_owned(), Some("v6".to_owned())),
            "arm" => {
                let number = named("v7").map(|v| v.trim_start_matches('v').to_owned());
                ("arm".to_owned(), number.map(|n| format!("v{n}")))
            }
            "386" | "i386" | "i686" | "x86" => ("386".to_owned(), None),
            "powerpc64le" => ("ppc64le".to_owned(), variant),
            other => (other.to_owned(), variant),
        };
        Self {
            os,
            architecture,
            variant,
        }
    }

    /// The platforms whose programs this platform can run, best first.
    fn runs(&self) -> Vec<Self> {
        let own = self.normalised();
        let level = |default: u32| {
            own.variant
                .as_deref()
                .and_then(|v| v.trim_start_matches('v').parse::<u32>().ok())
                .unwrap_or(default)
                .min(99)
        };
        let arm = |from: u32| {
            (5..=from)
                .rev()
                .map(|n| Self::new(&own.os, "arm", Some(&format!("v{n}"))))
        };
        let mut list = vec![own.clone()];
        match own.architecture.as_str() {
            "amd64" => {
                list.extend(
                    (2..level(1))
                        .rev()
                        .map(|n| Self::new(&own.os, "amd64", Some(&format!("v{n}")))),
                );
                list.push(Self::new(&own.os, "amd64", None));
                list.push(Self::new(&own.os, "386", None));
            }
            "arm64" => {
                list.extend(
                    (8..level(8))
                        .rev()
                        .map(|n| Self::new(&own.os, "arm64", Some(&format!("v{n}")))),
                );
                // 64-bit ARM nodes that can run 32-bit programs do so up to v8.
                list.extend(arm(8));
            }
            "arm" => list.extend(arm(level(7))),
            _ => {}
        }
        list
    }

    /// The index of the best of `offered` for this platform.
    pub fn best<'a>(&self, offered: impl Iterator<Item = &'a Self>) -> Option<usize> {
        let runs = self.runs();
        offered
            .enumerate()
            .filter_map(|(at, platform)| {
                let platform = platform.normalised();
                Some((runs.iter().position(|candidate| *candidate == platform)?, at))
            })
            .min()
            .map(|(_, at)| at)
    }
}

/// The x86-64 level of this processor (psABI, "Micro-Architecture Levels"), or the ARM version this program was built for.
fn level() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let two = has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt");
        let three = has!("avx") && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("f16c");
        let three = three && has!("fma") && has!("lzcnt") && has!("movbe");
        let four =
            has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        match (two && has!("cmpxchg16b"), three, four) {
            (true, true, true) => Some("v4"),
            (true, true, false) => Some("v3"),
            (true, false, _) => Some("v2"),
            (false, _, _) => None,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        cfg!(target_arch = "arm").then_some("v7")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
