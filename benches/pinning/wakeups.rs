//! What a container gains: how late a task wakes up that sleeps for a millisecond at a time, beside containers that use all the
//! CPU they can get.
//!
//! The task is this program itself, which joins the cgroups of the container, so that the container's image needs no
//! compiled program.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Options;
use crate::harness::{Container, Node, strings};
use crate::node::{PINNING, one_cpu};

const PERIOD: Duration = Duration::from_millis(1);

/// The containers, by what they have.
const CASES: [(&str, &str); 3] = [
    ("in the pool", "[cpu]\npinning = \"none\"\n"),
    ("pinned", PINNING),
    (
        "in a partition",
        "[cpu]\npinning = \"static\"\nisolation = \"partition\"\nmove_interrupts = true\n",
    ),
];

/// Sleeps and prints how late it woke up, in nanoseconds.
pub(crate) fn sleeper(periods: usize) {
    // The parent moves this process meanwhile.
    std::thread::sleep(Duration::from_millis(100));
    let delays: Vec<u128> = (0..periods)
        .map(|_| {
            let begun = Instant::now();
            std::thread::sleep(PERIOD);
            begun.elapsed().saturating_sub(PERIOD).as_nanos()
        })
        .collect();
    for delay in delays {
        println!("{delay}");
    }
}

pub(crate) async fn measure(node: &Node, options: &Options) {
    println!("delay of wake-ups, beside four busy threads     median      99 %    99.9 %");
    for (name, configuration) in CASES {
        node.restart_with(Some(configuration)).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let spin = "for i in 1 2 3 4; do (while :; do :; done) & done; wait";
        crowd
            .start(|config| config.command = strings(&["sh", "-c", spin]))
            .await;
        let container = pod.start(one_cpu).await;
        let mut delays = wake_up_in(&container, options.periods).await;
        delays.sort_unstable();
        let at = |thousandths: usize| delays[(delays.len() * thousandths / 1000).min(delays.len() - 1)];
        let isolated = fs::read_to_string(format!("/proc/{}/cgroup", container.pid().await))
            .ok()
            .and_then(|cgroups| {
                let path = cgroups
                    .lines()
                    .find_map(|line| line.strip_prefix("0::/"))?
                    .to_owned();
                fs::read_to_string(format!("/sys/fs/cgroup/{path}/cpuset.cpus.partition")).ok()
            });
        let isolated =
            isolated.map_or_else(|| "no partitions here".to_owned(), |text| text.trim().to_owned());
        println!(
            "{:45} {:>9.1?} {:>9.1?} {:>9.1?}",
            format!("{name} ({isolated})"),
            at(500),
            at(990),
            at(999)
        );
        crowd.remove().await;
        pod.remove().await;
    }
}

async fn wake_up_in(container: &Container<'_>, periods: usize) -> Vec<Duration> {
    let pid = container.pid().await;
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--wake-up", &periods.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let root = match controllers {
            "" => "/sys/fs/cgroup".to_owned(),
            some => format!("/sys/fs/cgroup/{some}"),
        };
        // A hierarchy without controllers may be somewhere else: no file may be made there. Only cpu and cpuset matter.
        let file = fs::File::options()
            .write(true)
            .open(format!("{root}{path}/cgroup.procs"));
        if let Ok(mut file) = file {
            file.write_all(child.id().to_string().as_bytes()).ok();
        }
    }
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = output.await.expect("a thread").expect("its output");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines()
        .map(|line| Duration::from_nanos(line.parse().expect("a number")))
        .collect()
}
