//! Adjustments of a spec, mistakes of plugins, and the message about a container.

mod linux;
mod mistakes;
mod properties;

use oci_spec::runtime::{Linux, LinuxSchedulerFlag};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::proto::{
    CdiDevice, HugepageLimit, LinuxContainerAdjustment, LinuxCpu, LinuxDevice, LinuxDeviceCgroup,
    LinuxIoPriority, LinuxMemory, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxRdt,
    LinuxResources, LinuxScheduler, LinuxSeccomp, LinuxSeccompArg, LinuxSyscall, Mount, OptionalBool,
    OptionalFileMode, OptionalInt, OptionalInt64, OptionalRepeatedString, OptionalString, OptionalUInt32,
    OptionalUInt64, PosixRlimit, User,
};

const RULES: Rules = Rules { hugetlb: true };

/// A spec as the runtime writes it, small.
fn spec() -> Spec {
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "cwd": "/",
            "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
            "args": ["sleep", "1"],
            "env": ["PATH=/bin", "A=1", "odd", "B=2"],
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 8}],
            "oomScoreAdj": 5,
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/data", "type": "bind", "source": "/host/data", "options": ["rbind", "ro"]},
        ],
        "annotations": {"a": "1", "b": "2"},
        "linux": {
            "cgroupsPath": "/pods/x",
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 438}],
            "namespaces": [
                {"type": "network", "path": "/run/netns/x"}, {"type": "ipc"}, {"type": "mount"}, {"type": "uts"},
            ],
            "resources": {
                "memory": {"limit": 12345, "swap": 23456},
                "cpu": {"shares": 45678, "quota": 87654, "period": 54321, "cpus": "0-111", "mems": "0-4"},
                "pids": {"limit": 1},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "unified": {"memory.low": "0"},
                "devices": [{"allow": false, "access": "rwm"}],
            },
            "sysctl": {"net.core.somaxconn": "1", "kernel.shmmax": "2"},
            "intelRdt": {"closID": "bar", "schemata": ["L3:0=f"]},
        },
    });
    serde_json::from_value(spec).unwrap()
}

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

fn resources(resources: LinuxResources) -> ContainerAdjustment {
    linux(LinuxContainerAdjustment {
        resources: Some(resources),
        ..LinuxContainerAdjustment::default()
    })
}

fn applied(adjustment: &ContainerAdjustment) -> (Value, Rest) {
    let mut spec = spec();
    let rest = apply(adjustment, &mut spec, RULES).unwrap();
    (serde_json::to_value(spec).unwrap(), rest)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn env(pairs: &[(&str, &str)]) -> ContainerAdjustment {
    let env = pairs.iter().map(|(key, value)| KeyValue {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    ContainerAdjustment {
        env: env.collect(),
        ..ContainerAdjustment::default()
    }
}

fn mount(destination: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        r#type: "bind".to_owned(),
        source: source.to_owned(),
        options: owned(options),
    }
}

fn mounts(mounts: &[Mount]) -> ContainerAdjustment {
    ContainerAdjustment {
        mounts: mounts.to_vec(),
        ..ContainerAdjustment::default()
    }
}

fn device(path: &str, kind: &str, major: i64, minor: i64) -> LinuxDevice {
    LinuxDevice {
        path: path.to_owned(),
        r#type: kind.to_owned(),
        major,
        minor,
        ..LinuxDevice::default()
    }
}

fn seccomp() -> LinuxSeccomp {
    LinuxSeccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno: Some(OptionalUInt32 { value: 38 }),
        architectures: owned(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
        flags: owned(&["SECCOMP_FILTER_FLAG_LOG"]),
        listener_path: "/run/agent.sock".to_owned(),
        listener_metadata: "x".to_owned(),
        syscalls: vec![LinuxSyscall {
            names: owned(&["sched_getaffinity"]),
            action: "SCMP_ACT_NOTIFY".to_owned(),
            errno_ret: Some(OptionalUInt32 { value: 1 }),
            args: vec![LinuxSeccompArg {
                index: 5,
                value: 1,
                value_two: 2,
                op: "SCMP_CMP_MASKED_EQ".to_owned(),
            }],
        }],
    }
}

#[test]
fn nothing_changes_nothing() {
    let everything_empty = ContainerAdjustment {
        hooks: None,
        ..resources(LinuxResources {
            memory: Some(LinuxMemory::default()),
            cpu: Some(LinuxCpu::default()),
            ..LinuxResources::default()
        })
    };
    for adjustment in [ContainerAdjustment::default(), everything_empty] {
        let mut adjusted = spec();
        let rest = apply(&adjustment, &mut adjusted, RULES).unwrap();
        assert_eq!((adjusted, rest), (spec(), Rest::default()));
    }
}

#[test]
fn env_keeps_its_order() {
    let (spec, _) = applied(&env(&[("C", "3"), ("A", "x=y"), ("-B", ""), ("-D", "")]));
    assert_eq!(
        spec["process"]["env"],
        json!(["PATH=/bin", "A=x=y", "odd", "C=3"])
    );
    let (spec, _) = applied(&env(&[("-A", ""), ("A", "2"), ("odd", "1")]));
    assert_eq!(
        spec["process"]["env"],
        json!(["PATH=/bin", "A=2", "odd=1", "B=2"])
    );
}

#[test]
fn annotations_args_and_limits_are_set() {
    let (spec, _) = applied(&ContainerAdjustment {
        annotations: pairs(&[("-a", ""), ("-b", ""), ("b", "3"), ("c", "4")]),
        args: owned(&["echo", "x"]),
        rlimits: vec![
            PosixRlimit {
                r#type: "RLIMIT_NOFILE".to_owned(),
                hard: 456,
                soft: 123,
            },
            PosixRlimit {
                r#type: "RLIMIT_CORE".to_owned(),
                hard: u64::MAX,
                soft: 0,
            },
        ],
        cdi_devices: Vec::new(),
        ..ContainerAdjustment::default()
    });
    assert_eq!(spec["annotations"], json!({"b": "3", "c": "4"}));
    assert_eq!(spec["process"]["args"], json!(["echo", "x"]));
    let expected = json!([
        {"type": "RLIMIT_NOFILE", "hard": 456, "soft": 123},
        {"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0},
    ]);
    assert_eq!(spec["process"]["rlimits"], expected);
}

#[test]
fn hooks_are_added_to_those_there_are() {
    let hook = |path: &str, timeout: Option<i64>| proto::Hook {
        path: path.to_owned(),
        args: owned(&["hook", "x"]),
        env: owned(&["A=1"]),
        timeout: timeout.map(|value| OptionalInt { value }),
    };
    let adjustment = ContainerAdjustment {
        hooks: Some(Hooks {
            prestart: vec![hook("/1", None)],
            create_runtime: vec![hook("/2", None)],
            create_container: vec![hook("/3", None)],
            start_container: vec![hook("/4", None)],
            poststart: vec![hook("/5", None)],
            poststop: vec![hook("/6", Some(7))],
        }),
        ..ContainerAdjustment::default()
    };
    let mut spec = spec();
    apply(&adjustment, &mut spec, RULES).unwrap();
    assert_eq!(container_message(&spec).hooks, adjustment.hooks);
    apply(&adjustment, &mut spec, RULES).unwrap();
    let spec = serde_json::to_value(spec).unwrap();
    let poststop = json!({"path": "/6", "args": ["hook", "x"], "env": ["A=1"], "timeout": 7});
    assert_eq!(spec["hooks"]["poststop"], json!([poststop, poststop]));
}

#[test]
fn mounts_are_replaced_removed_and_sorted_by_depth() {
    let (spec, rest) = applied(&mounts(&[
        mount("/a/b/c/d/e", "/host/e", &["rbind", "rprivate"]),
        mount("/a/b/c", "/host/c", &[]),
        mount("/a/b", "/host/b", &["relabel", "ro"]),
        mount("/a", "/host/a", &[]),
        mount("/data/", "/host/new", &[]),
        mount("-/dev", "", &[]),
        mount("-/nowhere", "", &[]),
    ]));
    let mounts: Vec<_> = spec["mounts"].as_array().unwrap().iter().collect();
    let destinations: Vec<_> = mounts
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    assert_eq!(
        destinations,
        ["/proc", "/a", "/data/", "/a/b", "/a/b/c", "/a/b/c/d/e"]
    );
    assert_eq!(mounts[2]["source"], "/host/new");
    assert_eq!(mounts[3]["options"], json!(["ro"]));
    assert_eq!(rest.relabel, [PathBuf::from("/host/b")]);
    assert!(rest.propagated.is_empty() && spec["linux"]["rootfsPropagation"].is_null());
}

#[test]
fn propagation_reaches_the_root() {
    let shared = ("/shared", true);
    let slave = ("/slave", false);
    for (options, before, root, expected) in [
        (&[&["rslave"][..]][..], None, Some("rslave"), &[slave][..]),
        (&[&["rshared"]], None, Some("rshared"), &[shared]),
        (
            &[&["rslave"], &["rshared"]],
            None,
            Some("rshared"),
            &[slave, shared],
        ),
        (
            &[&["rshared"], &["rslave"]],
            None,
            Some("rshared"),
            &[shared, slave],
        ),
        (&[&["rslave"]], Some("rshared"), Some("rshared"), &[slave]),
        (&[&["rshared", "rprivate"]], None, None, &[]),
        (&[&["rshared"], &[]], Some("rslave"), Some("rshared"), &[shared]),
    ] {
        let mut spec = spec();
        let linux = spec.linux_mut().as_mut().unwrap();
        linux.set_rootfs_propagation(before.map(str::to_owned));
        let list: Vec<_> = options
            .iter()
            .enumerate()
            .map(|(index, options)| {
                let source = if options.contains(&"rslave") {
                    "/slave"
                } else {
                    "/shared"
                };
                mount(&format!("/{index}"), source, options)
            })
            .collect();
        let rest = apply(&mounts(&list), &mut spec, RULES).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.rootfs_propagation().as_deref(), root, "{options:?}");
        let propagated: Vec<_> = rest
            .propagated
            .iter()
            .map(|one| (one.source.to_str().unwrap(), one.shared))
            .collect();
        assert_eq!(propagated, expected, "{options:?}");
    }
}

#[test]
fn what_the_spec_cannot_say_is_left() {
    let adjustment = ContainerAdjustment {
        cdi_devices: vec![CdiDevice {
            name: "vendor.com/class=x".to_owned(),
        }],
        ..ContainerAdjustment::default()
    };
    assert_eq!(applied(&adjustment).1.cdi_devices, ["vendor.com/class=x"]);
}
