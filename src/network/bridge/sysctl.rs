//! Sysctls of the bridge and the pods, in the calling thread's network namespace.

use std::io;

use pausa_netlink::sysctl::exchange;

use crate::error::chain;

/// Sets `path` beneath `/proc/sys/net` to `value`, unless it is. A failure is logged, with what it leads to. A sysctl that
/// does not exist is none: the kernel lacks the protocol, or the interface is gone.
pub(super) fn set(path: &str, value: &str, consequence: &'static str) {
    if let Err(error) = exchange(path, value) {
        report(path, value, &error, consequence);
    }
}

/// Calls `act` while `path` is `value`, and sets it to what it was before. Failures are treated as by [`set`].
pub(super) fn during<T>(path: &str, value: &str, consequence: &'static str, act: impl FnOnce() -> T) -> T {
    let before = exchange(path, value);
    let outcome = act();
    let restored = before.and_then(|before| exchange(path, &before));
    if let Err(error) = restored {
        report(path, value, &error, consequence);
    }
    outcome
}

fn report(path: &str, value: &str, error: &io::Error, consequence: &'static str) {
    if error.kind() != io::ErrorKind::NotFound {
        tracing::warn!(
            sysctl = format!("net/{path}"),
            value,
            error = chain(error),
            "cannot set this sysctl; {consequence}"
        );
    }
}
