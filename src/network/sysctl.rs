//! Sysctls of the bridge and the pods, in the calling thread's network namespace.

use std::io;

use pausa_netlink::sysctl::exchange;

use crate::error::chain;

/// Sets `path` beneath `/proc/sys/net` to `value`, unless it is. A failure is logged, with what it leads to. A sysctl that
/// does not exist is none: the kernel lacks the protocol, or the interface is gone.
pub(super) fn set(path: &str, value: &str, consequence: &'static str) {
    if let Err(error) = exchange(path, value)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(
            sysctl = format!("net/{path}"),
            value,
            error = chain(&error),
            "cannot set this sysctl; {consequence}"
        );
    }
}
