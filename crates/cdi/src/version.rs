//! Versions of the CDI specification.
//!
//! A spec file that uses something newer than the version it declares is refused, as the reference implementation does: a
//! runtime that keeps to the declared version would leave that out.

/// A released version that is supported. Ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_0,
    /// Types of mounts.
    V0_4_0,
    /// Paths of device nodes on the host; names of devices that begin with a digit.
    V0_5_0,
    /// Annotations; dots in the class.
    V0_6_0,
    /// RDT; additional groups.
    V0_7_0,
    V0_8_0,
    V1_0_0,
    /// Network devices; RDT schemata and monitoring.
    V1_1_0,
}

impl Version {
    const ALL: [Self; 8] = [
        Self::V0_3_0,
        Self::V0_4_0,
        Self::V0_5_0,
        Self::V0_6_0,
        Self::V0_7_0,
        Self::V0_8_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_4_0 => "0.4.0",
            Self::V0_5_0 => "0.5.0",
            Self::V0_6_0 => "0.6.0",
            Self::V0_7_0 => "0.7.0",
            Self::V0_8_0 => "0.8.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// None for one that is not supported. A `v` may stand before it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}
