//! Places where a test can have the daemon die as by a power cut: at each step of the commit order.
//!
//! `PAUSA_FAILPOINT=name` kills the process the first time it gets there, `name:3` the third time. Only in builds with debug
//! assertions; in others there is nothing here.

/// Dies here if a test wants it.
#[cfg(debug_assertions)]
pub(super) fn failpoint(name: &str) {
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
    let Some((_, nth)) = wanted.as_ref().filter(|(wanted, _)| wanted == name) else {
        return;
    };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        // No destructor, no buffer, no goodbye. Should the kill be refused, abort is as sudden.
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        tracing::error!(?killed, name, "a failpoint was reached");
        std::process::abort();
    }
}

/// Costs nothing where it is not wanted.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn failpoint(_: &str) {}
