//! What both versions need.

use super::{HUGEPAGES, PERIOD, SHARES};
use crate::cgroups::error::CgroupError;
use crate::proto::v1;

/// The kernel's range of `cpu.shares`.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// Shares for the kernel; none if not given.
pub(super) fn shares(cri: &v1::LinuxContainerResources) -> Result<Option<u64>, CgroupError> {
    match u64::try_from(cri.cpu_shares) {
        Ok(0) => Ok(None),
        Ok(shares) => Ok(Some(shares.clamp(MIN_SHARES, MAX_SHARES))),
        Err(_) => Err(CgroupError::invalid(
            SHARES,
            cri.cpu_shares,
            "it must not be negative",
        )),
    }
}

/// `cpu.weight` for shares: 2 is 1, 1024 is 100, 262144 is 10000, and a curve through them, so that a container
/// keeps its weight against processes outside Kubernetes (which have the default, 100).
pub(super) fn weight(shares: u64) -> u64 {
    // The three points are met exactly; between them 2^53 is far away.
    let shares = shares.clamp(MIN_SHARES, MAX_SHARES);
    #[expect(clippy::cast_precision_loss, reason = "at most 262144")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to 10000"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// A limit where -1 is none: the value, `unlimited`, or nothing for "not given".
pub(super) fn limit(field: &'static str, given: i64, unlimited: &str) -> Result<Option<String>, CgroupError> {
    match given {
        0 => Ok(None),
        -1 => Ok(Some(unlimited.to_owned())),
        1.. => Ok(Some(given.to_string())),
        _ => {
            let reason = "it must be positive, or -1 for no limit";
            Err(CgroupError::invalid(field, given, reason))
        }
    }
}

/// The CFS period; none if not given.
pub(super) fn period(cri: &v1::LinuxContainerResources) -> Result<Option<u64>, CgroupError> {
    u64::try_from(cri.cpu_period)
        .map(|period| (period > 0).then_some(period))
        .map_err(|_| CgroupError::invalid(PERIOD, cri.cpu_period, "it must not be negative"))
}

/// The name of a page size in the files of hugetlb: `2MB`, `1GB`.
pub(super) fn page_size(limit: &v1::HugepageLimit) -> Result<&str, CgroupError> {
    let size = limit.page_size.as_str();
    let known = !size.is_empty() && size.len() <= 16 && size.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if known {
        Ok(size)
    } else {
        let field = format!("{HUGEPAGES}.page_size");
        Err(CgroupError::invalid(field, size, "it must be a size like 2MB"))
    }
}
