//! What pinning costs on this node: the start of a pod with it and without, and a move of the pool with many containers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::harness::{Container, Node, Pod, strings};
use crate::table::Table;
use crate::{Options, runtimes, wakeups};

pub(crate) const PINNING: &str = "[cpu]\npinning = \"static\"\n";

/// The resources of a Guaranteed pod's container with one CPU.
pub(crate) fn one_cpu(config: &mut v1::ContainerConfig) {
    config.command = strings(&["sh", "-c", "echo up; exec sleep 3600"]);
    config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        cpu_shares: 1024,
        cpu_quota: 100_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
}

/// Returns whether nothing is left behind.
pub(crate) async fn measure(options: &Options) -> bool {
    let own = async |name: &str| (name.to_owned(), Node::own("info").await);
    let nodes = vec![own("off").await, own("on").await];
    for (_, node) in &nodes {
        node.pull("base").await;
    }
    let (_, pinning) = &nodes[1];
    pinning.restart_with(Some(PINNING)).await;
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    for (_, node) in &nodes {
        // The first pods of a daemon are slower.
        start(node, &mut Table::default(), "").await;
    }
    for _ in 0..options.rounds {
        for (name, node) in &nodes {
            start(node, &mut table, name).await;
        }
    }
    println!("{table}");
    moves(pinning, options).await;
    wakeups::measure(pinning, options).await;
    runtimes::finish(nodes).await
}

/// A Guaranteed pod with one CPU, from nothing to its first line, and its end.
async fn start(node: &Node, table: &mut Table, name: &str) {
    let begun = Instant::now();
    let pod = node.run_pod(node.pod_config()).await;
    let container = create(&pod).await;
    container.start().await;
    while std::fs::metadata(&container.log).map_or(0, |log| log.len()) == 0 {
        std::thread::sleep(Duration::from_micros(50));
    }
    table.time("pod start to first log line", name, begun.elapsed());
    let begun = Instant::now();
    pod.stop().await;
    pod.remove().await;
    table.time("stop and remove", name, begun.elapsed());
}

async fn create<'a>(pod: &'a Pod<'_>) -> Container<'a> {
    let mut config = pod.container_config();
    one_cpu(&mut config);
    pod.create(config).await
}

/// Moves of the pool: a container that gets a CPU is created, which answers when everybody else has left it. Meanwhile
/// another client asks for the version all the time.
async fn moves(node: &Node, options: &Options) {
    let mut crowd = Vec::new();
    while crowd.len() * 10 < options.containers {
        crowd.push(node.pod().await);
    }
    for pod in &crowd {
        for _ in 0..10 {
            pod.start(|config| config.command = strings(&["sleep", "3600"]))
                .await;
        }
    }
    let (mut runtime, done) = (node.runtime(), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&done);
    let watching = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            runtime
                .version(v1::VersionRequest::default())
                .await
                .expect("Version");
            longest = longest.max(begun.elapsed());
        }
        longest
    });
    let (mut created, mut alone) = (Vec::new(), Vec::new());
    let pod = node.pod().await;
    for _ in 0..options.rounds {
        let begun = Instant::now();
        let moving = create(&pod).await;
        created.push(begun.elapsed());
        moving.remove().await;
        // One that moves nothing.
        let mut config = pod.container_config();
        config.command = strings(&["sleep", "3600"]);
        let begun = Instant::now();
        let still = pod.create(config).await;
        alone.push(begun.elapsed());
        still.remove().await;
    }
    done.store(true, Ordering::Relaxed);
    let longest = watching.await.expect("the other client");
    let running = crowd.len() * 10;
    println!(
        "CreateContainer with {running} containers in the pool: {:.1?} with a move of the pool, {:.1?} without; longest call of \
         another client meanwhile: {longest:.1?}\n",
        median(created),
        median(alone),
    );
    for pod in crowd {
        pod.remove().await;
    }
    pod.remove().await;
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
