//! CPU, memory, PIDs: what kubelet asks for is what the kernel is told, and OOM is called by its name.

use pausa::proto::v1;

use crate::harness::cgroup::{file, is_v2, value};
use crate::harness::slot::has_slices;
use crate::harness::{Container, eventually, map, ok, on_node, on_pausa, strings};

fn unified(pairs: &[(&str, &str)]) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        unified: map(pairs),
        ..Default::default()
    }
}

async fn cpu(container: &Container<'_>) -> (String, String) {
    let pid = container.pid().await;
    let v2 = || value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    let quota = v2();
    match quota.split_once(' ') {
        Some((quota, period)) => (quota.to_owned(), period.to_owned()),
        None => (quota, value(pid, "cpu", "cpu.cfs_period_us", "cpu.max")),
    }
}

fn memory(pid: i32) -> String {
    value(pid, "memory", "memory.limit_in_bytes", "memory.max")
}

const MIB: i64 = 1024 * 1024;

fn limits() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 * MIB,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        oom_score_adj: 500,
        ..Default::default()
    }
}

/// CRI `LinuxContainerResources`: quota, period, memory, cpuset and OOM score reach the kernel.
#[test]
#[ignore = "needs root"]
fn limits_reach_the_kernel() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start_with(limits()).await;
        assert_eq!(cpu(&container).await, ("20000".to_owned(), "100000".to_owned()));
        let pid = container.pid().await;
        assert_eq!(memory(pid), (64 * MIB).to_string());
        assert_eq!(value(pid, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        assert_eq!(container.sh("cat /proc/1/oom_score_adj; nproc").await, "500\n1\n");
    });
}

/// CRI `ContainerStatus.resources` (KEP-1287): kubelet compares them with what it asked for.
#[test]
#[ignore = "needs root"]
fn the_status_has_the_resources() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start_with(limits()).await;
        let said = container.resources().await;
        assert_eq!(
            (said.cpu_quota, said.cpu_period, said.cpu_shares),
            (20_000, 100_000, 512)
        );
        assert_eq!(said.memory_limit_in_bytes, 64 * MIB);
    });
}

/// CRI UpdateContainerResources (KEP-1287): in place, up and down, seen in kernel and status.
#[test]
#[ignore = "needs root"]
fn limits_change_while_it_runs() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start_with(limits()).await;
        let pid = container.pid().await;
        for (quota, mib) in [(50_000, 128), (10_000, 32)] {
            let linux = v1::LinuxContainerResources {
                cpu_quota: quota,
                cpu_period: 100_000,
                cpu_shares: 256,
                memory_limit_in_bytes: mib * MIB,
                ..Default::default()
            };
            ok("Update", container.try_update(linux).await);
            assert_eq!(cpu(&container).await.0, quota.to_string());
            assert_eq!(memory(pid), (mib * MIB).to_string());
            let said = container.resources().await;
            assert_eq!((said.cpu_quota, said.memory_limit_in_bytes), (quota, mib * MIB));
        }
        assert_eq!(container.pid().await, pid, "the same process goes on");
    });
}

/// What is not in the update stays (CRI: "If the fields are not specified, they are not changed").
#[test]
#[ignore = "needs root"]
fn an_update_changes_only_what_it_says() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start_with(limits()).await;
        let change = v1::LinuxContainerResources {
            cpu_quota: 30_000,
            ..Default::default()
        };
        ok("Update", container.try_update(change).await);
        assert_eq!(cpu(&container).await, ("30000".to_owned(), "100000".to_owned()));
        assert_eq!(memory(container.pid().await), (64 * MIB).to_string());
    });
}

async fn update_score(container: &Container<'_>, score: i64) -> Result<(), tonic::Status> {
    let change = v1::LinuxContainerResources {
        oom_score_adj: score,
        ..Default::default()
    };
    container.try_update(change).await.map(drop)
}

/// kubelet sends a new score with a new request for memory (KEP-1287). The processes of the container get it that have the
/// old one, and those that come later; one that has chosen another keeps it.
#[test]
#[ignore = "needs root"]
fn a_new_oom_score_reaches_the_processes() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let script = "trap 'exit 0' TERM; (echo 777 > /proc/self/oom_score_adj; exec sleep 3600) & sleep 3601 & echo ready; wait";
        let container = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", script]);
                config.linux.get_or_insert_default().resources = Some(limits());
            })
            .await;
        container.says("ready").await;
        let scores = "for p in /proc/[0-9]*; do echo \"$(tr '\\0' ' ' < $p/cmdline) $(cat $p/oom_score_adj)\"; done | \
                      grep -E '^(sleep|sh -c trap)' | grep -oE '[0-9]+$' | sort; cat /proc/self/oom_score_adj";
        let own = |score: i64| format!("{score}\n{score}\n777\n{score}\n");
        eventually("the child has chosen its score", async || {
            (container.sh(scores).await == own(500)).then_some(())
        })
        .await;
        for score in [600, 550] {
            ok_update(update_score(&container, score).await);
            assert_eq!(container.sh(scores).await, own(score));
        }
        ok_update(update_score(&container, 0).await);
        assert_eq!(container.sh(scores).await, own(550), "0 is not given");
        let status = update_score(&container, 1001).await.expect_err("out of range");
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("oom_score_adj"), "{status:?}");

        let mut config = pod.container_config();
        config.linux.get_or_insert_default().resources = Some(limits());
        let created = pod.create(config).await;
        ok_update(update_score(&created, 300).await);
        created.start().await;
        assert_eq!(created.sh("cat /proc/1/oom_score_adj").await, "300\n");
    });
}

#[track_caller]
fn ok_update(answer: Result<(), tonic::Status>) {
    answer.expect("UpdateContainerResources");
}

/// kubelet's `swapBehavior`: `NoSwap`, and `LimitedSwap` as it asks for it on either version (KEP-2400).
#[test]
#[ignore = "needs root"]
fn swap_is_limited_as_kubelet_asks() {
    on_node(async |node| {
        let pod = node.pod().await;
        let both = |both: i64| v1::LinuxContainerResources {
            memory_limit_in_bytes: 64 * MIB,
            memory_swap_limit_in_bytes: both,
            ..Default::default()
        };
        let alone = |swap: &str| v1::LinuxContainerResources {
            memory_limit_in_bytes: 64 * MIB,
            ..unified(&[("memory.swap.max", swap)])
        };
        let swap = |bytes: i64| match is_v2() {
            true => bytes.to_string(),
            false => (64 * MIB + bytes).to_string(),
        };
        let mut cases = vec![
            (both(0), swap(0)),
            (both(64 * MIB), swap(0)),
            (both(96 * MIB), swap(32 * MIB)),
        ];
        if is_v2() {
            cases.push((both(-1), "max".to_owned()));
            cases.push((alone("0"), "0".to_owned()));
            cases.push((alone("1048576"), "1048576".to_owned()));
        } else {
            // The largest number of pages.
            cases.push((both(-1), (i64::MAX / 4096 * 4096).to_string()));
        }
        let now = |pid| value(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        for (resources, expected) in cases {
            let container = pod.start_with(resources.clone()).await;
            assert_eq!(now(container.pid().await), expected, "{resources:?}");
        }
        // What a resize of memory leaves of it.
        let container = pod.start_with(both(96 * MIB)).await;
        for mib in [128, 48] {
            let change = v1::LinuxContainerResources {
                memory_limit_in_bytes: mib * MIB,
                ..Default::default()
            };
            ok("UpdateContainerResources", container.try_update(change).await);
            let pid = container.pid().await;
            assert_eq!(memory(pid), (mib * MIB).to_string());
            let expected = if is_v2() { 32 } else { mib + 32 } * MIB;
            assert_eq!(now(pid), expected.to_string());
        }
    });
}

/// kubelet sends a limit for every page size of the node, 0 for those that the container does not ask for. Where the
/// controller is missing the container runs without, and the log says so.
#[test]
#[ignore = "needs root"]
fn hugepages_are_limited() {
    on_pausa(async |node| {
        let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").expect("hugepages");
        let sizes = sizes
            .flatten()
            .map(|entry| entry.file_name().into_string().expect("a name"));
        let sizes: Vec<i64> = sizes
            .map(|name| {
                name["hugepages-".len()..name.len() - "kB".len()]
                    .parse()
                    .expect("a number")
            })
            .collect();
        let name = |kib: i64| match kib >> 20 {
            0 => format!("{}MB", kib >> 10),
            gib => format!("{gib}GB"),
        };
        let pages = |size: i64| if size == 2048 { 3 } else { 0 };
        let limits = sizes.iter().map(|size| v1::HugepageLimit {
            page_size: name(*size),
            limit: u64::try_from(pages(*size) * size * 1024).expect("not negative"),
        });
        let pod = node.pod().await;
        let resources = v1::LinuxContainerResources {
            hugepage_limits: limits.collect(),
            ..Default::default()
        };
        let container = pod.start_with(resources).await;
        for size in sizes {
            let (v1, v2) = (
                format!("hugetlb.{}.limit_in_bytes", name(size)),
                format!("hugetlb.{}.max", name(size)),
            );
            let file = file(container.pid().await, "hugetlb", &v1, &v2);
            match std::fs::read_to_string(file) {
                Ok(limit) => assert_eq!(limit.trim_end(), (pages(size) * size * 1024).to_string()),
                Err(_) => assert!(node.daemon_log().contains("a hugepage limit is not enforced")),
            }
        }
    });
}

/// `memory.high`, which kubelet's memory QoS sets (KEP-2570): the container is slowed down, and goes on.
#[test]
#[ignore = "needs root"]
fn memory_above_high_slows_a_container_down() {
    on_node(async |node| {
        if !is_v2() {
            return eprintln!("skipped: memory.high is of cgroup v2");
        }
        let pod = node.pod().await;
        let high = (32 * MIB).to_string();
        let container = pod.start_with(unified(&[("memory.high", &high)])).await;
        let pid = container.pid().await;
        assert_eq!(value(pid, "memory", "", "memory.high"), high);
        // tail keeps what it reads: a line without an end.
        container.sh("head -c 36000000 /dev/zero | tail | wc -c").await;
        let events = value(pid, "memory", "", "memory.events");
        let high = events.lines().find_map(|line| line.strip_prefix("high "));
        assert_ne!(high, Some("0"), "{events}");
        assert!(events.contains("oom_kill 0"), "{events}");
    });
}

/// `memory.oom.group`, which kubelet sets unless `singleProcessOOMKill` is on: all processes of the container or one.
#[test]
#[ignore = "needs root"]
fn out_of_memory_ends_one_process_or_all() {
    on_node(async |node| {
        if !is_v2() {
            return eprintln!("skipped: memory.oom.group is of cgroup v2");
        }
        let pod = node.pod().await;
        for (group, code) in [("0", 0), ("1", 137)] {
            let ended = pod.run(|config| {
                config.command = strings(&["sh", "-c", "tail /dev/zero; echo \"tail: $?\""]);
                config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
                    memory_limit_in_bytes: 24 * MIB,
                    ..unified(&[("memory.oom.group", group)])
                });
            });
            let ended = ended.await;
            let expected = if code == 0 { "tail: 137\n" } else { "" };
            assert_eq!(
                (ended.status.exit_code, ended.stdout().as_str()),
                (code, expected)
            );
        }
    });
}

/// The kernel's OOM killer ended PID 1: exit code 137 and the reason users look for.
#[test]
#[ignore = "needs root"]
fn running_out_of_memory_is_called_oom_killed() {
    on_node(async |node| {
        let pod = node.pod().await;
        // tail keeps what it reads: a line without an end.
        let ended = pod.run(|config| {
            config.command = strings(&["tail", "/dev/zero"]);
            config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: 24 * MIB,
                ..Default::default()
            });
        });
        let ended = ended.await.status;
        assert_eq!(
            (ended.exit_code, ended.reason.as_str()),
            (137, "OOMKilled"),
            "{ended:?}"
        );
    });
}

/// Containers sit below the cgroup that kubelet chose, in a directory named by their id (cAdvisor looks for it).
#[test]
#[ignore = "needs root"]
fn the_cgroup_is_below_the_pods() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let paths =
            std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid().await)).expect("cgroups");
        let parent = &pod.config.linux.as_ref().expect("linux").cgroup_parent;
        let memory = paths
            .lines()
            .find(|line| line.contains(":memory:") || line.starts_with("0::/pausa"));
        let path = memory
            .expect("a memory cgroup")
            .rsplit(':')
            .next()
            .expect("a path");
        let expected = if has_slices() {
            let slot = node.slot().cgroup();
            format!("/{slot}/{parent}/pausa-{}.scope", container.id)
        } else {
            format!("{parent}/{}", container.id)
        };
        assert_eq!(path, expected);
    });
}

/// CRI `unified` on version 1 nodes cannot be honoured, and wrong values are named; nothing half made is left.
#[test]
#[ignore = "needs root"]
fn a_limit_the_kernel_refuses_is_named() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        for resources in [
            v1::LinuxContainerResources {
                cpuset_cpus: "4096".to_owned(),
                ..Default::default()
            },
            v1::LinuxContainerResources {
                cpuset_cpus: "not a list".to_owned(),
                ..Default::default()
            },
            unified(&[("../../escape", "1")]),
        ] {
            let mut config = pod.container_config();
            config.linux.get_or_insert_default().resources = Some(resources.clone());
            let status = match pod.try_create(&config).await {
                Err(status) => status,
                Ok(answer) => {
                    let container_id = answer.into_inner().container_id;
                    let mut runtime = node.runtime();
                    let request = v1::StartContainerRequest { container_id };
                    let started = runtime.start_container(request).await;
                    started.expect_err("the kernel does not take this")
                }
            };
            let text = status.message();
            assert!(
                text.contains("cpu") || text.contains("unified"),
                "{resources:?}: {status:?}"
            );
        }
    });
}
