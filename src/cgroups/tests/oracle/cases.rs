//! What is compared.

use std::fs;

use super::super::Playground;
use crate::cgroups::Limits;
use crate::proto::v1;

const MIB: i64 = 1 << 20;

/// Limits of a container, from its beginning on.
pub(super) struct Case {
    pub(super) name: String,
    /// The first are those it is created with, the others are updates.
    pub(super) steps: Vec<Limits>,
    /// The last of them cannot be.
    pub(super) refused: bool,
    /// What its pod may use of 100 ms of CPU, in microseconds. On v1 only.
    pub(super) quota_of_pod: Option<&'static str>,
}

fn case(name: impl Into<String>, steps: impl IntoIterator<Item = v1::LinuxContainerResources>) -> Case {
    Case {
        name: name.into(),
        steps: steps.into_iter().map(Limits::from).collect(),
        refused: false,
        quota_of_pod: None,
    }
}

fn refused(name: impl Into<String>, steps: impl IntoIterator<Item = v1::LinuxContainerResources>) -> Case {
    Case {
        refused: true,
        ..case(name, steps)
    }
}

fn shares(cpu_shares: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_shares,
        ..Default::default()
    }
}

fn quota(cpu_quota: i64, cpu_period: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_quota,
        cpu_period,
        ..Default::default()
    }
}

fn cpuset(cpus: &str, mems: &str) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpuset_cpus: cpus.to_owned(),
        cpuset_mems: mems.to_owned(),
        ..Default::default()
    }
}

fn memory(limit: i64, both: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: both,
        ..Default::default()
    }
}

fn hugepages(size: &str, limit: u64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: size.to_owned(),
            limit,
        }],
        ..Default::default()
    }
}

/// As kubelet has them for a container with requests and limits.
fn kubelet(cpus: i64, mebibytes: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_shares: cpus * 1024,
        memory_swap_limit_in_bytes: mebibytes * MIB,
        memory_limit_in_bytes: mebibytes * MIB,
        ..quota(cpus * 100_000, 100_000)
    }
}

fn unified(files: &[(&str, &str)]) -> v1::LinuxContainerResources {
    let files = files
        .iter()
        .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()));
    v1::LinuxContainerResources {
        unified: files.collect(),
        ..Default::default()
    }
}

pub(super) fn all(ground: &Playground) -> Vec<Case> {
    let mut cases = vec![
        case("nothing", [v1::LinuxContainerResources::default()]),
        case("shares change", [1024, 2, 262_144, 0, 100].map(shares)),
        case("quota with period", [quota(50_000, 100_000)]),
        case("quota alone", [quota(50_000, 0)]),
        case("period alone", [quota(0, 50_000)]),
        case("no quota", [quota(-1, 0)]),
        case("no quota, with period", [quota(-1, 50_000)]),
        refused("quota below a millisecond", [quota(500, 100_000)]),
        case(
            "quota and period change",
            [
                quota(50_000, 100_000),
                quota(5_000, 10_000),
                quota(200_000, 100_000),
                quota(-1, 100_000),
                quota(100_000, 1_000_000),
            ],
        ),
        case(
            "quota changes alone",
            [quota(50_000, 50_000), quota(20_000, 0), quota(-1, 0)],
        ),
        case(
            "period changes alone",
            [quota(50_000, 100_000), quota(0, 200_000)],
        ),
        case(
            "period changes without quota",
            [quota(0, 50_000), quota(0, 200_000)],
        ),
        case(
            "cpus and memory nodes",
            [
                cpuset("0-1", "0"),
                cpuset("0", ""),
                cpuset("0,1", ""),
                cpuset("1", "0"),
            ],
        ),
        case("cpus alone", [cpuset("0", "")]),
        case("memory nodes alone", [cpuset("", "0")]),
        refused("cpus that are not there", [cpuset("4000", "")]),
        case("memory that is not whole pages", [memory(100_000_001, 0)]),
        case(
            "memory changes, and so swap",
            [
                memory(64 * MIB, 128 * MIB),
                memory(128 * MIB, 256 * MIB),
                memory(32 * MIB, 64 * MIB),
                memory(200 * MIB, 200 * MIB),
                memory(32 * MIB, 400 * MIB),
                memory(-1, -1),
                memory(64 * MIB, 65 * MIB),
            ],
        ),
        case("memory grows alone", [memory(64 * MIB, 0), memory(128 * MIB, 0)]),
        case(
            "memory shrinks alone",
            [memory(64 * MIB, 128 * MIB), memory(32 * MIB, 0)],
        ),
        case(
            "memory is no longer limited",
            [memory(64 * MIB, 0), memory(-1, 0)],
        ),
        case(
            "swap goes",
            [memory(64 * MIB, 128 * MIB), memory(64 * MIB, 64 * MIB)],
        ),
        case(
            "hugepages",
            [4 << 20, 8 << 20, 0].map(|limit| hugepages("2MB", limit)),
        ),
        case("hugepages of another size", [hugepages("512KB", 0)]),
        case(
            "as kubelet has them",
            [kubelet(1, 256), kubelet(2, 512), kubelet(1, 128)],
        ),
        Case {
            steps: vec![Limits {
                resources: v1::LinuxContainerResources {
                    cpuset_cpus: "0".to_owned(),
                    cpuset_mems: "0".to_owned(),
                    ..kubelet(1, 256)
                },
                pids: Some(100),
                ..Limits::default()
            }],
            ..case("everything", [])
        },
    ];
    for number in [
        1, 2, 3, 10, 100, 512, 1023, 1024, 1025, 2048, 10_000, 100_000, 262_144, 300_000,
    ] {
        cases.push(case(format!("{number} shares"), [shares(number)]));
    }
    let bytes = |mebibytes: i64| if mebibytes > 0 { mebibytes * MIB } else { mebibytes };
    let of_memory = |(limit, both)| {
        let name = format!("memory {limit}, memory and swap {both}");
        (name, [memory(bytes(limit), bytes(both))])
    };
    for sizes in [(64, 0), (64, 64), (64, 128), (64, -1), (-1, 0), (-1, -1)] {
        let (name, steps) = of_memory(sizes);
        cases.push(case(name, steps));
    }
    for sizes in [(0, 128), (-1, 128), (64, 32)] {
        let (name, steps) = of_memory(sizes);
        cases.push(refused(name, steps));
    }
    cases.extend(if ground.cgroups.layout.is_v2() {
        of_v2(ground)
    } else {
        of_v1()
    });
    cases
}

fn of_v1() -> Vec<Case> {
    let in_pod = |case| Case {
        quota_of_pod: Some("50000"),
        ..case
    };
    vec![
        in_pod(case(
            "quota and period grow in a pod",
            [quota(5_000, 10_000), quota(40_000, 100_000)],
        )),
        in_pod(case(
            "quota and period shrink in a pod",
            [quota(50_000, 100_000), quota(5_000, 10_000)],
        )),
        in_pod(refused(
            "more than the pod",
            [quota(5_000, 10_000), quota(90_000, 100_000)],
        )),
        refused("unified", [unified(&[("memory.high", "33554432")])]),
    ]
}

fn of_v2(ground: &Playground) -> Vec<Case> {
    let mut cases = vec![
        case(
            "memory's own files",
            [
                unified(&[
                    ("memory.high", "33554432"),
                    ("memory.low", "16777216"),
                    ("memory.min", "8388608"),
                    ("memory.oom.group", "1"),
                ]),
                unified(&[("memory.high", "max"), ("memory.swap.high", "67108864")]),
            ],
        ),
        case(
            "burst",
            [v1::LinuxContainerResources {
                unified: [("cpu.max.burst".to_owned(), "20000".to_owned())].into(),
                ..quota(50_000, 100_000)
            }],
        ),
        case("idle", [unified(&[("cpu.idle", "1")])]),
        case(
            "unified before the fields",
            [v1::LinuxContainerResources {
                unified: [
                    ("memory.max", "67108864"),
                    ("cpu.weight", "77"),
                    ("cpu.max", "max 20000"),
                ]
                .map(|(file, value)| (file.to_owned(), value.to_owned()))
                .into(),
                ..kubelet(1, 128)
            }],
        ),
        Case {
            steps: vec![Limits {
                resources: unified(&[("pids.max", "70")]),
                pids: Some(100),
                ..Limits::default()
            }],
            ..case("unified before the handler", [])
        },
        refused("no such file", [unified(&[("memory.nothing", "1")])]),
        refused("a value that is none", [unified(&[("memory.high", "much")])]),
        case("a file of no controller", [unified(&[("cgroup.max.depth", "3")])]),
    ];
    let disk = disk();
    for (file, values) in [
        (
            "io.max",
            vec![
                format!("{disk} rbps=1048576 wiops=120"),
                format!("{disk} rbps=max"),
            ],
        ),
        ("io.latency", vec![format!("{disk} target=75000")]),
        ("io.weight", vec!["default 50".to_owned()]),
    ] {
        if exists(ground, file) {
            cases.push(case(file, values.iter().map(|value| unified(&[(file, value)]))));
        } else {
            println!("not compared: {file}, which this kernel does not have");
        }
    }
    cases
}

/// Whether the cgroups of this node have a file.
fn exists(ground: &Playground, file: &str) -> bool {
    let mut cgroups = fs::read_dir(ground.root("io"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    cgroups.any(|cgroup| cgroup.join(file).exists())
}

/// Major and minor number of a disk.
fn disk() -> String {
    let mut disks = fs::read_dir("/sys/block")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let disk = disks.find(|disk| disk.join("device").exists()).unwrap();
    fs::read_to_string(disk.join("dev")).unwrap().trim().to_owned()
}
