use std::time::Duration;

use super::*;

/// A store with some trees that wait to be removed, one by one, as long as the file is there.
fn held(trees: usize) -> (tempfile::TempDir, GarbageCollector, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    layout.make().unwrap();
    let hold = layout.base().join("hold-removals");
    std::fs::write(&hold, "").unwrap();
    let gc = GarbageCollector::start(layout.clone()).unwrap();
    for at in 0..trees {
        let tree = layout.staging().join(at.to_string());
        std::fs::create_dir_all(tree.join("fs")).unwrap();
        gc.remove_tree(tree);
    }
    (dir, gc, hold)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn running(gc: &GarbageCollector) -> Vec<u64> {
    gc.removals.queue.lock().running.iter().copied().collect()
}

#[tokio::test]
async fn one_tree_at_a_time_is_removed_while_nobody_waits_and_the_oldest_first() {
    let (_dir, gc, hold) = held(10);
    until("all are known and one is being removed", || {
        gc.removals.queue.lock().waiting.len() == 9
    })
    .await;
    assert_eq!(running(&gc), [0]);
    let waiting = tokio::spawn({
        let gc = gc.clone();
        async move { gc.flush().await }
    });
    until("those who wait get more threads", || running(&gc) == [0, 1, 2, 3]).await;
    assert!(!waiting.is_finished());
    // Who gives up does not hurry any more.
    waiting.abort();
    waiting.await.unwrap_err();
    assert!(!gc.is_awaited());
    std::fs::remove_file(hold).unwrap();
    gc.flush().await;
    assert!(running(&gc).is_empty() && gc.removals.queue.lock().waiting.is_empty());
}

#[tokio::test]
async fn waiting_ends_with_the_trees_of_before() {
    let (dir, gc, hold) = held(2);
    let gc = Arc::new(gc);
    let waiting = tokio::spawn({
        let gc = Arc::clone(&gc);
        async move { gc.flush().await }
    });
    until("it waits", || {
        gc.removals.queue.lock().hurried == 1 && running(&gc) == [0, 1]
    })
    .await;
    std::fs::remove_file(&hold).unwrap();
    waiting.await.unwrap();
    let staging = Layout::new(dir.path()).staging();
    assert_eq!(files::names(&staging).unwrap(), Vec::<String>::new());
}
