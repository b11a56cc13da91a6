//! What is in `linux` of a spec or of its process, and the message that says so.

use super::*;

#[test]
fn devices_come_with_the_right_to_use_them() {
    let with_mode = LinuxDevice {
        file_mode: Some(OptionalFileMode { value: 0o20_640 }),
        uid: Some(OptionalUInt32 { value: 7 }),
        gid: Some(OptionalUInt32 { value: 8 }),
        ..device("/dev/new", "c", 313, 100)
    };
    let (spec, _) = applied(&linux(LinuxContainerAdjustment {
        devices: vec![
            device("-/dev/x", "", 0, 0),
            with_mode,
            device("/dev/disk", "b", 8, 1),
            device("/dev/fifo", "p", 0, 0),
        ],
        ..LinuxContainerAdjustment::default()
    }));
    let expected = json!([
        {"path": "/dev/new", "type": "c", "major": 313, "minor": 100, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/disk", "type": "b", "major": 8, "minor": 1},
        {"path": "/dev/fifo", "type": "p", "major": 0, "minor": 0},
    ]);
    assert_eq!(spec["linux"]["devices"], expected);
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 313, "minor": 100, "access": "rw"},
        {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "rwm"},
    ]);
    assert_eq!(spec["linux"]["resources"]["devices"], rules);
}

#[test]
fn resources_are_set_one_by_one() {
    let int = |value| Some(OptionalInt64 { value });
    let uint = |value| Some(OptionalUInt64 { value });
    let of = |memory: LinuxMemory| {
        let memory = Some(memory);
        let (spec, _) = applied(&resources(LinuxResources {
            memory,
            ..LinuxResources::default()
        }));
        spec["linux"]["resources"]["memory"].clone()
    };
    let memory = LinuxMemory::default();
    let limit = LinuxMemory {
        limit: int(11_111),
        ..memory
    };
    assert_eq!(of(limit), json!({"limit": 11_111, "swap": 11_111}));
    let both = LinuxMemory {
        swap: int(22_222),
        ..limit
    };
    assert_eq!(of(both), json!({"limit": 11_111, "swap": 22_222}));
    let zero = LinuxMemory {
        limit: int(0),
        swappiness: uint(7),
        ..memory
    };
    assert_eq!(
        of(zero),
        json!({"limit": 12_345, "swap": 23_456, "swappiness": 7})
    );

    let (spec, rest) = applied(&resources(LinuxResources {
        cpu: Some(LinuxCpu {
            shares: uint(1),
            realtime_runtime: int(3),
            realtime_period: uint(4),
            cpus: "5,6".to_owned(),
            ..LinuxCpu::default()
        }),
        hugepage_limits: vec![
            HugepageLimit {
                page_size: "2MB".to_owned(),
                limit: 4096,
            },
            HugepageLimit {
                page_size: "1GB".to_owned(),
                limit: 0,
            },
        ],
        unified: pairs(&[("memory.low", "1"), ("memory.high", "max")]),
        pids: Some(LinuxPids { limit: -7 }),
        devices: vec![LinuxDeviceCgroup {
            allow: true,
            r#type: "b".to_owned(),
            major: int(8),
            minor: None,
            access: "r".to_owned(),
        }],
        blockio_class: Some(OptionalString {
            value: "slow".to_owned(),
        }),
        ..LinuxResources::default()
    }));
    let expected = json!({
        "memory": {"limit": 12_345, "swap": 23_456},
        "cpu": {
            "shares": 1, "quota": 87_654, "period": 54_321, "realtimeRuntime": 3, "realtimePeriod": 4,
            "cpus": "5,6", "mems": "0-4",
        },
        "pids": {"limit": -1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}, {"pageSize": "1GB", "limit": 0}],
        "unified": {"memory.low": "1", "memory.high": "max"},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "r"}],
    });
    assert_eq!(spec["linux"]["resources"], expected);
    assert_eq!(rest.blockio_class.as_deref(), Some("slow"));
}

#[test]
fn without_the_controller_there_are_no_limits_of_huge_pages() {
    let limit = HugepageLimit {
        page_size: "1GB".to_owned(),
        limit: 1,
    };
    let adjustment = resources(LinuxResources {
        hugepage_limits: vec![limit],
        ..LinuxResources::default()
    });
    let mut adjusted = spec();
    apply(&adjustment, &mut adjusted, Rules { hugetlb: false }).unwrap();
    assert_eq!(adjusted, spec());
}

#[test]
fn rdt_is_set_and_removed() {
    let text = |value: &str| OptionalString {
        value: value.to_owned(),
    };
    let nothing = LinuxRdt::default;
    for (class, rdt, expected) in [
        (Some("gold"), None, json!({"closID": "gold"})),
        (Some(""), None, Value::Null),
        (
            Some("gold"),
            Some(LinuxRdt {
                enable_monitoring: Some(OptionalBool { value: true }),
                ..nothing()
            }),
            json!({"closID": "gold", "enableMonitoring": true}),
        ),
        (
            None,
            Some(LinuxRdt {
                clos_id: Some(text("foo")),
                ..nothing()
            }),
            json!({"closID": "foo", "schemata": ["L3:0=f"]}),
        ),
        (
            None,
            Some(LinuxRdt {
                remove: true,
                ..nothing()
            }),
            Value::Null,
        ),
        (
            None,
            Some(LinuxRdt {
                schemata: Some(OptionalRepeatedString {
                    value: owned(&["MB:0=50"]),
                }),
                remove: true,
                ..nothing()
            }),
            json!({"schemata": ["MB:0=50"]}),
        ),
    ] {
        let rdt_class = class.map(text);
        let (spec, rest) = applied(&linux(LinuxContainerAdjustment {
            resources: Some(LinuxResources {
                rdt_class,
                ..LinuxResources::default()
            }),
            rdt: rdt.clone(),
            ..LinuxContainerAdjustment::default()
        }));
        assert_eq!(spec["linux"]["intelRdt"], expected, "{class:?} {rdt:?}");
        assert_eq!(rest.rdt_class.as_deref(), class);
    }
}

#[test]
fn namespaces_and_what_belongs_to_them() {
    let namespace = |kind: &str, path: &str| LinuxNamespace {
        r#type: kind.to_owned(),
        path: path.to_owned(),
    };
    let (spec, _) = applied(&linux(LinuxContainerAdjustment {
        namespaces: vec![
            namespace("network", "/run/netns/y"),
            namespace("-mount", ""),
            namespace("cgroup", ""),
        ],
        sysctl: pairs(&[
            ("-kernel.shmmax", ""),
            ("-net.core.somaxconn", ""),
            ("net/core/somaxconn", "256"),
            ("kernel.domainname", "x"),
        ]),
        net_devices: [("eth9", "net1"), ("eth8", "")]
            .map(|(host, name)| {
                (
                    host.to_owned(),
                    LinuxNetDevice {
                        name: name.to_owned(),
                    },
                )
            })
            .into(),
        ..LinuxContainerAdjustment::default()
    }));
    let expected = json!([
        {"type": "network", "path": "/run/netns/y"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"},
    ]);
    assert_eq!(spec["linux"]["namespaces"], expected);
    let expected = json!({"net.core.somaxconn": "256", "kernel.domainname": "x"});
    assert_eq!(spec["linux"]["sysctl"], expected);
    let expected = json!({"eth9": {"name": "net1"}, "eth8": {"name": ""}});
    assert_eq!(spec["linux"]["netDevices"], expected);
}

#[test]
fn a_sysctl_of_the_node_is_refused() {
    for (namespace, name) in [
        ("-network", "net.core.somaxconn"),
        ("-ipc", "kernel.shmmax"),
        ("-uts", "kernel.domainname"),
        ("cgroup", "vm.swappiness"),
        ("cgroup", "kernel.panic"),
    ] {
        let adjustment = linux(LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace {
                r#type: namespace.to_owned(),
                path: String::new(),
            }],
            sysctl: pairs(&[(name, "1")]),
            ..LinuxContainerAdjustment::default()
        });
        apply(&adjustment, &mut spec(), RULES).expect_err(name);
    }
}

#[test]
fn policies_of_the_process_are_set() {
    let adjustment = LinuxContainerAdjustment {
        cgroups_path: "pods.slice:x:y".to_owned(),
        oom_score_adj: Some(OptionalInt { value: -1000 }),
        io_priority: Some(LinuxIoPriority {
            class: 1,
            priority: 5,
        }),
        seccomp_policy: Some(seccomp()),
        scheduler: Some(LinuxScheduler {
            policy: 6,
            nice: 5,
            flags: vec![0, 1],
            ..LinuxScheduler::default()
        }),
        memory_policy: Some(LinuxMemoryPolicy {
            mode: 3,
            nodes: "0,1".to_owned(),
            flags: vec![0],
        }),
        ..LinuxContainerAdjustment::default()
    };
    let mut spec = spec();
    let rest = apply(&linux(adjustment.clone()), &mut spec, RULES).unwrap();
    assert_eq!(rest.scheduler_flags, ["SCHED_FLAG_RESET_ON_FORK"]);
    let flags = spec
        .process()
        .as_ref()
        .unwrap()
        .scheduler()
        .as_ref()
        .unwrap()
        .flags()
        .clone();
    assert_eq!(
        flags,
        Some(vec![
            LinuxSchedulerFlag::SchedResetOnFork,
            LinuxSchedulerFlag::SchedFlagReclaim
        ])
    );
    // With a release that spells it SCHED_FLAG_RESET_ON_FORK, the rest is not needed any more.
    let json = serde_json::to_value(&spec).unwrap();
    let names = json!(["SCHED_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"]);
    assert_eq!(json["process"]["scheduler"]["flags"], names);
    let message = container_message(&spec).linux.unwrap();
    assert_eq!(message.cgroups_path, adjustment.cgroups_path);
    assert_eq!(message.oom_score_adj, adjustment.oom_score_adj);
    assert_eq!(message.io_priority, adjustment.io_priority);
    assert_eq!(message.seccomp_policy, adjustment.seccomp_policy);
    assert_eq!(message.scheduler, adjustment.scheduler);
    assert_eq!(
        json["process"]["ioPriority"],
        json!({"class": "IOPRIO_CLASS_RT", "priority": 5})
    );
    let expected = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0,1", "flags": ["MPOL_F_STATIC_NODES"]});
    assert_eq!(json["linux"]["memoryPolicy"], expected);

    let nothing = linux(LinuxContainerAdjustment {
        io_priority: Some(LinuxIoPriority::default()),
        scheduler: Some(LinuxScheduler::default()),
        ..LinuxContainerAdjustment::default()
    });
    apply(&nothing, &mut spec, RULES).unwrap();
    let process = spec.process().as_ref().unwrap();
    assert!(process.io_priority().is_none() && process.scheduler().is_none());
}

#[test]
fn the_message_says_what_the_spec_says() {
    let message = container_message(&spec());
    assert_eq!(message.args, ["sleep", "1"]);
    assert_eq!(message.env, ["PATH=/bin", "A=1", "odd", "B=2"]);
    assert_eq!(message.mounts.len(), 3);
    assert_eq!(message.mounts[2], mount("/data", "/host/data", &["rbind", "ro"]));
    assert_eq!(message.hooks, None);
    let user = User {
        uid: 1,
        gid: 2,
        additional_gids: vec![3],
    };
    assert_eq!(message.user, Some(user));
    assert_eq!(message.rlimits[0].r#type, "RLIMIT_NOFILE");
    let linux = message.linux.unwrap();
    let namespaces: Vec<_> = linux
        .namespaces
        .iter()
        .map(|one| (one.r#type.as_str(), one.path.as_str()))
        .collect();
    assert_eq!(
        namespaces,
        [
            ("network", "/run/netns/x"),
            ("ipc", ""),
            ("mount", ""),
            ("uts", "")
        ]
    );
    let expected = LinuxDevice {
        file_mode: Some(OptionalFileMode { value: 0o666 }),
        ..device("/dev/x", "c", 1, 2)
    };
    assert_eq!(linux.devices, [expected]);
    assert_eq!(linux.cgroups_path, "/pods/x");
    assert_eq!(linux.oom_score_adj, Some(OptionalInt { value: 5 }));
    assert_eq!(
        linux.io_priority,
        Some(LinuxIoPriority {
            class: 2,
            priority: 4
        })
    );
    assert_eq!(linux.sysctl.len(), 2);
    assert_eq!(
        linux.rdt.unwrap().clos_id.map(|id| id.value),
        Some("bar".to_owned())
    );
    let resources = linux.resources.unwrap();
    assert_eq!(
        resources.memory.unwrap().swap,
        Some(OptionalInt64 { value: 23_456 })
    );
    assert_eq!(resources.cpu.unwrap().cpus, "0-111");
    assert_eq!(resources.pids, Some(LinuxPids { limit: 1 }));
    assert_eq!(resources.hugepage_limits[0].page_size, "2MB");
    assert_eq!(resources.unified, pairs(&[("memory.low", "0")]));
    assert_eq!(resources.devices[0].access, "rwm");
    assert_eq!(resources.devices[0].major, None);
}
