//! Writable layers that have reached their limit: each is said once, when somebody samples it.
//!
//! The kernel tells the program that writes (EDQUOT, on xfs ENOSPC) and nobody else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pausa_sys::ProjectQuota;

use crate::id::Id;

/// A layer that nobody has seen full for so long may be said to be full again.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A write may need more than what is left: with less than this, or than a sixteenth, a layer is full.
const REST: u64 = 1 << 20;

/// Those that have been said.
#[derive(Debug, Default)]
pub(super) struct FullLayers {
    /// By container, or by pod where its containers share a limit; when each was last seen full.
    known: Mutex<HashMap<Id, Instant>>,
}

impl FullLayers {
    /// Logs that a layer is full, unless it was said before.
    pub(super) fn look(&self, container: &Id, pod: &Id, shared: bool, quota: &ProjectQuota) {
        if !is_full(quota) || !self.is_news(if shared { pod } else { container }, Instant::now()) {
            return;
        }
        let (used, limit) = (quota.bytes, quota.limit);
        if shared {
            let pod = pod.short();
            tracing::warn!(
                pod,
                used,
                limit,
                "the writable layers of a pod's containers have reached their limit together: writes into them fail"
            );
        } else {
            let container = container.short();
            tracing::warn!(
                container,
                used,
                limit,
                "writable layer has reached its limit: writes into it fail"
            );
        }
    }

    fn is_news(&self, id: &Id, now: Instant) -> bool {
        let mut known = self.known.lock();
        known.retain(|_, seen| now.saturating_duration_since(*seen) < FORGOTTEN);
        known.insert(id.clone(), now).is_none()
    }
}

fn is_full(quota: &ProjectQuota) -> bool {
    let rest = quota.limit.saturating_sub(quota.bytes);
    quota.limit > 0 && rest < REST.min(quota.limit / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(bytes: u64, limit: u64) -> ProjectQuota {
        ProjectQuota {
            bytes,
            limit,
            inodes: 2,
        }
    }

    #[test]
    fn full_is_what_a_usual_write_fails_in() {
        const MIB: u64 = 1 << 20;
        assert!(!is_full(&quota(u64::MAX, 0)), "there is no limit");
        assert!(!is_full(&quota(0, MIB)));
        assert!(!is_full(&quota(9 * MIB, 10 * MIB)));
        assert!(is_full(&quota(10 * MIB - 4096, 10 * MIB)));
        assert!(is_full(&quota(11 * MIB, 10 * MIB)));
        assert!(!is_full(&quota(98 * MIB, 100 * MIB)));
        assert!(is_full(&quota(100 * MIB - 1, 100 * MIB)));
    }

    #[test]
    fn it_is_said_once_while_it_lasts() {
        let (full, id, start) = (FullLayers::default(), Id::random(), Instant::now());
        assert!(full.is_news(&id, start));
        assert!(!full.is_news(&id, start + FORGOTTEN / 2));
        assert!(!full.is_news(&id, start + FORGOTTEN));
        assert!(full.is_news(&Id::random(), start));
        assert!(full.is_news(&id, start + 3 * FORGOTTEN));
        assert_eq!(full.known.lock().len(), 1);
    }
}
