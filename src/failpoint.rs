//! Places where a test can have the daemon die as by a power cut: before each step that makes a change durable or known.
//!
//! `PAUSA_FAILPOINT=name` kills the process with SIGKILL the first time it gets there, `name:3` the third time. Only
//! builds with debug assertions have failpoints, and places where a test can have work in the background wait.

use std::path::PathBuf;

/// Dies here if a test wants it.
#[inline(always)]
pub(crate) fn failpoint(name: &str) {
    die_at(|wanted| wanted == name);
}

/// Dies here if a test wants it: before `step` of `operation`, as in `run_pod.publish`.
#[inline(always)]
pub(crate) fn failpoint_before(operation: &str, step: &str) {
    die_at(|wanted| wanted.split_once('.') == Some((operation, step)));
}

/// Waits here, on a thread of its own, as long as a test has this file.
#[cfg(debug_assertions)]
pub(crate) fn hold(file: impl FnOnce() -> PathBuf) {
    let file = file();
    while file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hold(_: impl FnOnce() -> PathBuf) {}

#[cfg(debug_assertions)]
fn die_at(is_here: impl FnOnce(&str) -> bool) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static WANTED: OnceLock<Option<(String, usize)>> = OnceLock::new();
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("PAUSA_FAILPOINT").ok()?;
        Some(match text.split_once(':') {
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    let Some((name, nth)) = wanted.as_ref().filter(|(name, _)| is_here(name)) else {
        return;
    };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        tracing::error!(name, "reached a failpoint: the daemon ends here");
        // No destructor, no buffer, no goodbye. Should the kill be refused, abort is as sudden.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
fn die_at(_: impl FnOnce(&str) -> bool) {}
