//! ADD and DEL of a pod's whole chain (bridge, host-local, portmap), in process and by binaries, side by side.
//!
//! ```text
//! cargo bench -p pausa-cni-plugins --bench chain -- [--pods 500] [--ports 2000] [--calls 50] [--plugins /usr/lib/cni] [--in-process]
//! ```
//!
//! `--pods` are attached before, in process, and have `--ports` host ports together. Needs root; everything happens in
//! network namespaces of its own. The pod that is measured has one host port. Calls of both kinds alternate.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends with a panic and prints its figures"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use pausa_cni::{NetworkConfigList, Request, Runtime};
use serde_json::json;

/// Calls of the plugins in process, by type and command.
static OF_PLUGINS: Mutex<BTreeMap<(String, &str), Vec<Duration>>> = Mutex::new(BTreeMap::new());

const SETTLE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(60);

struct Options {
    pods: usize,
    ports: usize,
    calls: usize,
    plugins: PathBuf,
    /// How many of the two are measured.
    kinds: usize,
}

fn options() -> Options {
    let mut options = Options {
        pods: 0,
        ports: 0,
        calls: 50,
        plugins: PathBuf::from("/usr/lib/cni"),
        kinds: 2,
    };
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        if name == "--in-process" {
            options.kinds = 1;
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        match name.as_str() {
            "--pods" => options.pods = value.parse().unwrap(),
            "--ports" => options.ports = value.parse().unwrap(),
            "--calls" => options.calls = value.parse().unwrap(),
            "--plugins" => options.plugins = PathBuf::from(value),
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// A network namespace for a pod; the thread stays in the node's.
fn pod(node: &File) -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let pod = File::open("/proc/thread-self/ns/net").unwrap();
    setns(node, CloneFlags::CLONE_NEWNET).unwrap();
    pod
}

fn request(id: &str, pod: &File, ports: &[usize]) -> Request {
    let mappings: Vec<_> = ports
        .iter()
        .map(|port| json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"}))
        .collect();
    Request {
        container_id: id.to_owned(),
        netns: PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), pod.as_raw_fd())),
        if_name: "eth0".to_owned(),
        args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
        capability_args: json!({"portMappings": mappings}).as_object().unwrap().clone(),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn main() {
    let options = options();
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let node = File::open("/proc/thread-self/ns/net").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let list = json!({"cniVersion": "1.0.0", "name": "bench", "plugins": [
        {"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {
            "type": "host-local", "dataDir": dir.path().join("ipam"), "ranges": [[{"subnet": "10.77.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let list = NetworkConfigList::parse(list.to_string().as_bytes(), Path::new("bench")).unwrap();
    let runtime =
        |in_process| Runtime::new(vec![options.plugins.clone()], &dir.path().join("cni"), in_process);
    let kinds = [
        (
            "in process",
            runtime(pausa_cni_plugins::all()).with_observer(|call| {
                let plugin = call.plugin.unwrap_or("chain").to_owned();
                let mut calls = OF_PLUGINS.lock().unwrap();
                calls
                    .entry((plugin, call.command.as_str()))
                    .or_default()
                    .push(call.took);
            }),
        ),
        ("binaries", runtime(BTreeMap::new())),
    ];
    // Its threads are started by this one, and so in the same namespace.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    let mut others = Vec::new();
    for number in 0..options.pods {
        let netns = pod(&node);
        let share = |number: usize| number * options.ports / options.pods;
        let ports: Vec<usize> = (share(number)..share(number + 1))
            .map(|port| 10_000 + port)
            .collect();
        let request = request(&format!("other-{number}"), &netns, &ports);
        tokio.block_on(kinds[0].1.add(&list, &request)).unwrap();
        others.push(netns);
    }
    if options.pods > 0 {
        // New interfaces look for routers over IPv6, which a bridge floods to all others.
        std::thread::sleep(SETTLE);
    }
    OF_PLUGINS.lock().unwrap().clear();
    let mut times: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for call in 0..=options.calls {
        for (kind, runtime) in &kinds[..options.kinds] {
            let netns = pod(&node);
            let request = request(&format!("pod-{call}"), &netns, &[8080]);
            let begin = Instant::now();
            tokio.block_on(runtime.add(&list, &request)).unwrap();
            let added = Instant::now();
            tokio.block_on(runtime.del(Some(&list), &request)).unwrap();
            let deleted = added.elapsed();
            // The kernel finishes deleting the links, which the next call would wait for.
            std::thread::sleep(PAUSE);
            // The first of each makes what stays.
            if call > 0 {
                times.entry((*kind, "ADD")).or_default().push(added - begin);
                times.entry((*kind, "DEL")).or_default().push(deleted);
            }
        }
    }
    println!("{} other pods with {} host ports", options.pods, options.ports);
    for ((kind, command), times) in times {
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        println!(
            "{kind:>12} {command}: median {:.2} ms, {:.2} to {:.2}",
            median(times.clone()),
            first.as_secs_f64() * 1000.0,
            last.as_secs_f64() * 1000.0
        );
    }
    for ((plugin, command), times) in &*OF_PLUGINS.lock().unwrap() {
        println!(
            "{plugin:>12} {command}: median {:.2} ms, in process",
            median(times.clone())
        );
    }
}
