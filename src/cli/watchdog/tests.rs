use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;

use tokio::runtime::Runtime;

use super::*;

const PERIOD: Duration = Duration::from_millis(5);

/// A runtime with two workers and one thread for blocking work, whose pings are counted.
fn pinged() -> (Runtime, Arc<AtomicUsize>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    let ping = move || _ = counted.fetch_add(1, Ordering::SeqCst);
    runtime.spawn(ping_while(PERIOD, || async {}, ping));
    (runtime, pings)
}

fn await_more(pings: &AtomicUsize) {
    let before = pings.load(Ordering::SeqCst);
    while pings.load(Ordering::SeqCst) == before {
        sleep(PERIOD);
    }
}

/// Work that says that it has begun and goes on until it is told.
fn stuck() -> (impl FnOnce() + Send + 'static, Receiver<()>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (release, released) = channel::<()>();
    let work = move || {
        begun.send(()).unwrap();
        // Ends with an error, when the sender is dropped.
        released.recv().ok();
    };
    (work, has_begun, release)
}

fn assert_silent(pings: &AtomicUsize) {
    let before = pings.load(Ordering::SeqCst);
    sleep(PERIOD * 20);
    // One may have been on its way.
    assert!(pings.load(Ordering::SeqCst) <= before + 1);
}

#[test]
fn a_runtime_whose_workers_hang_does_not_ping() {
    let (runtime, pings) = pinged();
    await_more(&pings);
    let mut held = Vec::new();
    for _ in 0..2 {
        let (work, begun, release) = stuck();
        runtime.spawn(async move { work() });
        begun.recv().unwrap();
        held.push(release);
    }
    assert_silent(&pings);
    drop(held);
    await_more(&pings);
}

#[test]
fn without_a_thread_for_blocking_work_there_is_no_ping() {
    let (runtime, pings) = pinged();
    await_more(&pings);
    let (work, begun, release) = stuck();
    runtime.spawn_blocking(work);
    begun.recv().unwrap();
    assert_silent(&pings);
    drop(release);
    await_more(&pings);
}

#[test]
fn what_does_not_answer_stops_the_pings() {
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ping = move || _ = counted.fetch_add(1, Ordering::SeqCst);
    runtime.spawn(ping_while(PERIOD, std::future::pending, ping));
    sleep(PERIOD * 20);
    assert_eq!(pings.load(Ordering::SeqCst), 0);
}
