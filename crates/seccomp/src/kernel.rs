//! The kernel version as profiles compare it: major and minor, as in `minKernel: "4.8"`.
//!
//! Must never compare more than these two: what follows is the distribution's own business.

use std::str::FromStr;

/// A kernel version, without patch level and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The 6 of `6.18`.
    pub major: u32,
    /// The 18 of `6.18`.
    pub minor: u32,
}

impl KernelVersion {
    /// A version from its two numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

/// The text is not a kernel version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a kernel version: it must start with two numbers, as 6.18 or 5.15.0-91-generic do")]
pub struct ParseKernelVersionError {
    /// The given text, shortened.
    pub text: String,
}

impl FromStr for KernelVersion {
    type Err = ParseKernelVersionError;

    /// Reads a profile's `minKernel` as well as the release that uname(2) gives.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseKernelVersionError {
            text: text.chars().take(64).collect(),
        };
        let (major, rest) = text.split_once('.').ok_or_else(error)?;
        let minor = rest
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        let number = |digits: &str| digits.parse().map_err(|_| error());
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

#[cfg(test)]
mod tests;
