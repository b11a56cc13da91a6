//! Values that no spec can have.

use super::*;

#[test]
fn mistakes_name_the_field() {
    let hook = |path: &str, timeout| ContainerAdjustment {
        hooks: Some(Hooks {
            poststop: vec![proto::Hook {
                path: path.to_owned(),
                timeout: Some(OptionalInt { value: timeout }),
                ..proto::Hook::default()
            }],
            ..Hooks::default()
        }),
        ..ContainerAdjustment::default()
    };
    let rlimit = |name: &str, soft| ContainerAdjustment {
        rlimits: vec![PosixRlimit {
            r#type: name.to_owned(),
            hard: 1,
            soft,
        }],
        ..ContainerAdjustment::default()
    };
    let l = LinuxContainerAdjustment::default;
    let devices = |one| {
        linux(LinuxContainerAdjustment {
            devices: vec![one],
            ..l()
        })
    };
    let sysctl = |name: &str, value: &str| {
        linux(LinuxContainerAdjustment {
            sysctl: pairs(&[(name, value)]),
            ..l()
        })
    };
    let net_device = |host: &str, name: &str| {
        linux(LinuxContainerAdjustment {
            net_devices: [(
                host.to_owned(),
                LinuxNetDevice {
                    name: name.to_owned(),
                },
            )]
            .into(),
            ..l()
        })
    };
    let namespace = |kind: &str, path: &str| {
        linux(LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace {
                r#type: kind.to_owned(),
                path: path.to_owned(),
            }],
            ..l()
        })
    };
    let io_priority = |class, priority| {
        linux(LinuxContainerAdjustment {
            io_priority: Some(LinuxIoPriority { class, priority }),
            ..l()
        })
    };
    let scheduler = |scheduler| {
        linux(LinuxContainerAdjustment {
            scheduler: Some(scheduler),
            ..l()
        })
    };
    let policy = |change: fn(&mut LinuxSeccomp)| {
        let mut policy = seccomp();
        change(&mut policy);
        linux(LinuxContainerAdjustment {
            seccomp_policy: Some(policy),
            ..l()
        })
    };
    let memory_policy = |mode, nodes: &str, flag| {
        linux(LinuxContainerAdjustment {
            memory_policy: Some(LinuxMemoryPolicy {
                mode,
                nodes: nodes.to_owned(),
                flags: vec![flag],
            }),
            ..l()
        })
    };
    let rdt = |clos_id: &str| {
        linux(LinuxContainerAdjustment {
            rdt: Some(LinuxRdt {
                clos_id: Some(OptionalString {
                    value: clos_id.to_owned(),
                }),
                ..LinuxRdt::default()
            }),
            ..l()
        })
    };
    let cpus = |cpus: &str| {
        resources(LinuxResources {
            cpu: Some(LinuxCpu {
                cpus: cpus.to_owned(),
                ..LinuxCpu::default()
            }),
            ..LinuxResources::default()
        })
    };
    let huge = |size: &str, limit| {
        resources(LinuxResources {
            hugepage_limits: vec![HugepageLimit {
                page_size: size.to_owned(),
                limit,
            }],
            ..LinuxResources::default()
        })
    };
    let rule = |kind: &str, access: &str| {
        resources(LinuxResources {
            devices: vec![LinuxDeviceCgroup {
                r#type: kind.to_owned(),
                access: access.to_owned(),
                ..LinuxDeviceCgroup::default()
            }],
            ..LinuxResources::default()
        })
    };
    for (field, adjustment) in [
        ("env.key", env(&[("", "x")])),
        ("env.key", env(&[("A=B", "x")])),
        ("env.key", env(&[("-A\0", "x")])),
        ("env", env(&[("A", "\0")])),
        (
            "args",
            ContainerAdjustment {
                args: owned(&["\0"]),
                ..ContainerAdjustment::default()
            },
        ),
        (
            "annotations",
            ContainerAdjustment {
                annotations: pairs(&[("-", "")]),
                ..ContainerAdjustment::default()
            },
        ),
        ("rlimits.type", rlimit("nofile", 0)),
        ("rlimits.soft", rlimit("RLIMIT_NOFILE", 2)),
        ("hooks.path", hook("hook", 1)),
        ("hooks.timeout", hook("/hook", 0)),
        ("mounts.destination", mounts(&[mount("data", "/x", &[])])),
        ("mounts.destination", mounts(&[mount("/a/../b", "/x", &[])])),
        ("mounts.destination", mounts(&[mount("--/a", "/x", &[])])),
        ("mounts.destination", mounts(&[mount("-a", "", &[])])),
        ("mounts.source", mounts(&[mount("/data", "x", &[])])),
        ("mounts.source", mounts(&[mount("/data", "/x\0", &[])])),
        ("mounts.options", mounts(&[mount("/data", "/x", &["\0"])])),
        ("linux.devices.path", devices(device("x", "c", 1, 1))),
        ("linux.devices.type", devices(device("/dev/x", "a", 1, 1))),
        ("linux.devices.type", devices(device("/dev/x", "", 1, 1))),
        ("linux.devices.major", devices(device("/dev/x", "c", 4096, 1))),
        ("linux.devices.minor", devices(device("/dev/x", "c", 1, -1))),
        ("linux.sysctl", sysctl("net..x", "1")),
        ("linux.sysctl", sysctl("-", "1")),
        ("linux.sysctl", sysctl("net/../../x", "1")),
        ("linux.sysctl", sysctl("net.x", "1\0")),
        ("linux.net_devices", net_device("", "eth1")),
        ("linux.net_devices", net_device("-a/b", "eth1")),
        ("linux.net_devices.name", net_device("eth1", "abcdefghijklmnop")),
        ("linux.namespaces.type", namespace("net", "")),
        ("linux.namespaces.path", namespace("network", "x")),
        ("linux.io_priority.class", io_priority(4, 1)),
        ("linux.io_priority.priority", io_priority(1, 8)),
        (
            "linux.scheduler.policy",
            scheduler(LinuxScheduler {
                policy: 8,
                ..LinuxScheduler::default()
            }),
        ),
        (
            "linux.scheduler.flags",
            scheduler(LinuxScheduler {
                policy: 1,
                flags: vec![7],
                ..LinuxScheduler::default()
            }),
        ),
        (
            "linux.scheduler.nice",
            scheduler(LinuxScheduler {
                policy: 1,
                nice: 20,
                ..LinuxScheduler::default()
            }),
        ),
        (
            "linux.scheduler.priority",
            scheduler(LinuxScheduler {
                policy: 2,
                priority: 100,
                ..LinuxScheduler::default()
            }),
        ),
        (
            "linux.seccomp_policy.default_action",
            policy(|policy| policy.default_action.clear()),
        ),
        (
            "linux.seccomp_policy.architectures",
            policy(|policy| policy.architectures.push("x86".to_owned())),
        ),
        (
            "linux.seccomp_policy.flags",
            policy(|policy| policy.flags.push("x".to_owned())),
        ),
        (
            "linux.seccomp_policy.listener_path",
            policy(|policy| policy.listener_path = "x".to_owned()),
        ),
        (
            "linux.seccomp_policy.syscalls.names",
            policy(|policy| policy.syscalls[0].names.clear()),
        ),
        (
            "linux.seccomp_policy.syscalls.action",
            policy(|policy| policy.syscalls[0].action.clear()),
        ),
        (
            "linux.seccomp_policy.syscalls.args.index",
            policy(|policy| policy.syscalls[0].args[0].index = 6),
        ),
        (
            "linux.seccomp_policy.syscalls.args.op",
            policy(|policy| policy.syscalls[0].args[0].op.clear()),
        ),
        ("linux.memory_policy.mode", memory_policy(7, "0", 0)),
        ("linux.memory_policy.nodes", memory_policy(1, "x", 0)),
        ("linux.memory_policy.flags", memory_policy(1, "0", 3)),
        ("linux.rdt.clos_id", rdt("../x")),
        ("linux.rdt.clos_id", rdt("")),
        ("linux.resources.cpu.cpus", cpus("0-")),
        (
            "linux.resources.hugepage_limits.page_size",
            huge("../memory.max", 1),
        ),
        ("linux.resources.hugepage_limits.limit", huge("2MB", u64::MAX)),
        ("linux.resources.devices.type", rule("p", "r")),
        ("linux.resources.devices.access", rule("c", "x")),
        (
            "linux.resources.unified",
            resources(LinuxResources {
                unified: pairs(&[("../memory.max", "1")]),
                ..LinuxResources::default()
            }),
        ),
        (
            "linux.resources.rdt_class",
            resources(LinuxResources {
                rdt_class: Some(OptionalString {
                    value: "a/b".to_owned(),
                }),
                ..LinuxResources::default()
            }),
        ),
        (
            "linux.oom_score_adj",
            linux(LinuxContainerAdjustment {
                oom_score_adj: Some(OptionalInt { value: 1001 }),
                ..l()
            }),
        ),
        (
            "linux.cgroups_path",
            linux(LinuxContainerAdjustment {
                cgroups_path: "/a/../..".to_owned(),
                ..l()
            }),
        ),
    ] {
        match apply(&adjustment, &mut spec(), RULES) {
            Err(SpecError::Invalid { field: found, .. }) => assert_eq!(found, field, "{adjustment:?}"),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn a_mistake_reads_as_one_sentence_and_tells_no_secret() {
    let error = apply(&mounts(&[mount("data", "/x", &[])]), &mut spec(), RULES).unwrap_err();
    let expected = "an NRI plugin adjusts mounts.destination to \"data\": \
                    it must be an absolute path without `..` and NUL";
    assert_eq!(error.to_string(), expected);
    let error = apply(&env(&[("TOKEN", "secret\0")]), &mut spec(), RULES).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[test]
fn a_spec_of_no_container_is_refused() {
    let mut spec = spec();
    spec.set_linux(None::<Linux>);
    let error = apply(&linux(LinuxContainerAdjustment::default()), &mut spec, RULES).unwrap_err();
    assert_eq!(error, SpecError::Missing { field: "linux" });
    spec.set_process(None);
    let error = apply(&ContainerAdjustment::default(), &mut spec, RULES).unwrap_err();
    assert_eq!(error, SpecError::Missing { field: "process" });
    assert_eq!(container_message(&spec).args, [""; 0]);
}
