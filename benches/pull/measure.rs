//! Measures one pull and one removal: time, CPU and memory of the daemon, disk space.

use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::harness::node::spec;
use crate::harness::{Node, ok, strings};
use crate::memory;
use crate::process;
use crate::publish::Published;
use crate::table::Table;

/// Pulls `image`, starts a container of it if `start` is set, and removes everything again.
pub(crate) async fn one(name: &str, node: &Node, image: &Published, start: bool, table: &mut Table) {
    let row = |what: &str| format!("{}: {what}", image.compression.name());
    let daemon = memory::daemon(node.socket());
    let pod = match start {
        true => Some(node.run_pod(node.pod_config()).await),
        false => None,
    };
    let place = image_filesystem(node).await;
    write_out();
    let free = free_bytes(&place);
    let peak_reset = daemon.is_some_and(process::reset_peak);
    let cpu = daemon.map(process::cpu_seconds);
    let begin = Instant::now();
    let request = v1::PullImageRequest {
        image: Some(spec(&image.reference)),
        ..Default::default()
    };
    ok("PullImage", node.images().pull_image(request).await);
    let pulled = begin.elapsed();
    if let Some(pod) = &pod {
        let container = pod.start(|config| {
            config.image = Some(spec(&image.reference));
            config.command = strings(&["/bin/busybox", "sleep", "3600"]);
        });
        container.await;
        table.time(&row("pull to started container"), name, begin.elapsed());
    }
    let used = daemon.map(process::cpu_seconds).zip(cpu);
    table.time(&row("PullImage"), name, pulled);
    if let Some((after, before)) = used {
        table.add(
            &row("the daemon's CPU, with its children"),
            "s",
            name,
            after - before,
        );
    }
    if let Some(peak) = daemon.and_then(process::peak).filter(|_| peak_reset) {
        table.add(&row("the daemon's peak RSS"), "MiB", name, peak / 1024.0);
    }
    if let Some(pod) = pod {
        pod.stop().await;
        pod.remove().await;
    }
    write_out();
    let taken = free.saturating_sub(free_bytes(&place));
    table.add(&row("disk"), "MiB", name, mebibytes(taken));
    let begin = Instant::now();
    let request = v1::RemoveImageRequest {
        image: Some(spec(&image.reference)),
    };
    ok("RemoveImage", node.images().remove_image(request).await);
    table.time(&row("RemoveImage"), name, begin.elapsed());
    wait_for_space(&place, free.saturating_sub(taken / 50)).await;
    table.time(
        &row("RemoveImage, until the space is free"),
        name,
        begin.elapsed(),
    );
    write_out();
    let kept = free.saturating_sub(free_bytes(&place));
    table.add(&row("disk after RemoveImage"), "MiB", name, mebibytes(kept));
}

/// The file system of the images, as the runtime reports it.
async fn image_filesystem(node: &Node) -> String {
    let info = ok(
        "ImageFsInfo",
        node.images().image_fs_info(v1::ImageFsInfoRequest {}).await,
    );
    let first = info.image_filesystems.into_iter().next();
    let place = first
        .and_then(|filesystem| filesystem.fs_id)
        .map(|id| id.mountpoint);
    place.expect("a file system for images")
}

/// Waits until this many bytes are free, or for five seconds: a runtime may keep something.
async fn wait_for_space(place: &str, bytes: u64) {
    let begin = Instant::now();
    while free_bytes(place) < bytes && begin.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Writes out dirty pages. Delayed allocation would hide used space, and the next pull would pay for it.
fn write_out() {
    rustix::fs::sync();
}

/// Free bytes of the file system.
fn free_bytes(place: &str) -> u64 {
    let stat = rustix::fs::statvfs(place).expect("the file system of the images");
    stat.f_bfree * stat.f_frsize
}

fn mebibytes(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    f64::from(kib) / 1024.0
}
