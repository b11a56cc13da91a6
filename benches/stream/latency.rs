//! The duration of a short command with its streams, and its CPU time.

use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use crate::harness::stream::{Event, Transport, Want};
use crate::table::Table;
use crate::target::Target;

/// Runs `echo x`; the runtimes take turns.
pub(crate) async fn measure(targets: &[Target<'_>], transport: Transport, calls: u32, table: &mut Table) {
    for target in targets {
        // The first command of a container is slower and not measured.
        one(target, transport).await;
    }
    let before: Vec<f64> = targets.iter().map(Target::cpu_with_children).collect();
    for _ in 0..calls {
        for target in targets {
            let (first, status) = one(target, transport).await;
            table.time("exec `echo x`, to the first byte", target.name, first);
            table.time("exec `echo x`, to its status", target.name, status);
        }
    }
    if calls > 0 {
        for (target, before) in targets.iter().zip(before) {
            let milliseconds = (target.cpu_with_children() - before) * 1000.0 / f64::from(calls);
            let what = "– CPU time with ended children, mean";
            table.add(what, "ms", target.name, milliseconds);
        }
    }
}

/// Durations from the call of Exec to the first byte of output, and to the status.
async fn one(target: &Target<'_>, transport: Transport) -> (Duration, Duration) {
    let (mut first, mut status) = (None, None);
    let begin = Instant::now();
    let command = async {
        let mut remote = target.exec(transport, &["echo", "x"], Want::OUTPUT).await;
        // The streams are independent: the status may arrive first.
        while let Some(event) = remote.events.recv().await {
            let now = begin.elapsed();
            match event {
                // Some servers begin with an empty message on each channel of a WebSocket.
                Event::Stdout(text) if text.is_empty() => {}
                Event::Stdout(_) => first = first.or(Some(now)),
                Event::Stderr(text) => panic!("{}: {}", target.name, String::from_utf8_lossy(&text)),
                Event::Error(text) => {
                    succeeded(target, &text);
                    status = Some(now);
                }
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, command).await;
    ended.unwrap_or_else(|_| panic!("{}: `echo x` did not end in {PATIENCE:?}", target.name));
    first
        .zip(status)
        .unwrap_or_else(|| panic!("{}: `echo x` ended without output or status", target.name))
}

/// Panics unless a status (`metav1.Status`) is success.
pub(crate) fn succeeded(target: &Target<'_>, status: &[u8]) {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(status).ok();
    let good = parsed.is_some_and(|parsed| parsed["status"] == "Success");
    assert!(good, "{}: {}", target.name, String::from_utf8_lossy(status));
}
