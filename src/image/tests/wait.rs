//! Bounded waiting, and pulls that run beside a test.

use super::*;

/// Waits until `look` finds something.
pub(super) async fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    found(what, || holds().then_some(())).await;
}

pub(super) fn begin(images: &Images, name: String) -> tokio::task::JoinHandle<Result<String, ImageError>> {
    let images = images.clone();
    tokio::spawn(async move { images.pull(&name, None).await })
}
