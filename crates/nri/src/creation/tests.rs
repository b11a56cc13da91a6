//! Adjustments of one container by several plugins: what is merged, what conflicts, and what the next plugin sees.

mod properties;

use super::*;
use crate::proto::{
    CdiDevice, Hook, KeyValue, LinuxDevice, LinuxIoPriority, LinuxMemoryPolicy, LinuxNamespace,
    LinuxNetDevice, LinuxResources, LinuxScheduler, LinuxSeccomp, Mount, OptionalBool, OptionalInt,
    OptionalRepeatedString, OptionalString, PosixRlimit,
};
use crate::update::tests::samples;

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn mount(destination: &str, source: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        source: source.to_owned(),
        ..Mount::default()
    }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn device(path: &str, minor: i64) -> LinuxDevice {
    LinuxDevice {
        path: path.to_owned(),
        r#type: "c".to_owned(),
        major: 313,
        minor,
        ..LinuxDevice::default()
    }
}

fn namespace(kind: &str, path: &str) -> LinuxNamespace {
    LinuxNamespace {
        r#type: kind.to_owned(),
        path: path.to_owned(),
    }
}

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

fn pairs<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> BTreeMap<String, V> {
    let pairs = pairs.into_iter();
    pairs.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What plugins can do; those that can be taken away from another plugin first.
const SUBJECTS: [&str; 24] = [
    "annotation",
    "mount",
    "environment",
    "arguments",
    "device",
    "net device",
    "sysctl",
    "RDT",
    "namespace",
    "rlimit",
    "CDI device",
    "I/O priority",
    "scheduler",
    "memory policy",
    "OOM score",
    "cgroups path",
    "seccomp",
    "hooks",
    "cpu",
    "memory",
    "classes",
    "huge pages",
    "unified",
    "pids",
];

const REMOVABLE: usize = 8;

/// What a plugin wants of a subject. If it replaces, it first takes away what others want.
fn wanted(subject: &str, plugin: &str, replace: bool) -> ContainerAdjustment {
    let nothing = ContainerAdjustment::default;
    let value = plugin.to_owned();
    /// The entry that removes, if it replaces.
    fn first<T>(replace: bool, marked: T) -> impl Iterator<Item = T> {
        Some(marked).filter(|_| replace).into_iter()
    }
    let l = LinuxContainerAdjustment::default;
    match subject {
        "annotation" => ContainerAdjustment {
            annotations: pairs(first(replace, ("-key", String::new())).chain([("key", value)])),
            ..nothing()
        },
        "mount" => ContainerAdjustment {
            mounts: first(replace, mount("-/mnt/test", ""))
                .chain([mount("/mnt/test", plugin)])
                .collect(),
            ..nothing()
        },
        "environment" => ContainerAdjustment {
            env: first(replace, variable("-key", ""))
                .chain([variable("key", plugin)])
                .collect(),
            ..nothing()
        },
        "arguments" => ContainerAdjustment {
            args: first(replace, "")
                .chain(["echo", plugin])
                .map(str::to_owned)
                .collect(),
            ..nothing()
        },
        "device" => linux(LinuxContainerAdjustment {
            devices: first(replace, device("-/dev/test", 0))
                .chain([device("/dev/test", plugin.as_bytes()[0].into())])
                .collect(),
            ..l()
        }),
        "net device" => linux(LinuxContainerAdjustment {
            net_devices: pairs(
                first(replace, ("-host0", LinuxNetDevice::default()))
                    .chain([("host0", LinuxNetDevice { name: value })]),
            ),
            ..l()
        }),
        "sysctl" => linux(LinuxContainerAdjustment {
            sysctl: pairs(
                first(replace, ("-net.core.somaxconn", String::new())).chain([("net.core.somaxconn", value)]),
            ),
            ..l()
        }),
        "RDT" => linux(LinuxContainerAdjustment {
            rdt: Some(LinuxRdt {
                clos_id: Some(OptionalString { value }),
                schemata: Some(OptionalRepeatedString {
                    value: owned(&["L3:0=ff"]),
                }),
                enable_monitoring: Some(OptionalBool { value: true }),
                remove: replace,
            }),
            ..l()
        }),
        "namespace" => linux(LinuxContainerAdjustment {
            namespaces: vec![namespace("cgroup", "/run/cgroupns/new")],
            ..l()
        }),
        "rlimit" => ContainerAdjustment {
            rlimits: vec![PosixRlimit {
                r#type: "RLIMIT_NOFILE".to_owned(),
                hard: 456,
                soft: 123,
            }],
            ..nothing()
        },
        "CDI device" => ContainerAdjustment {
            cdi_devices: vec![CdiDevice {
                name: "vendor0.com/dev=dev0".to_owned(),
            }],
            ..nothing()
        },
        "I/O priority" => linux(LinuxContainerAdjustment {
            io_priority: Some(LinuxIoPriority {
                class: 1,
                priority: 5,
            }),
            ..l()
        }),
        "scheduler" => linux(LinuxContainerAdjustment {
            scheduler: Some(LinuxScheduler {
                policy: 2,
                priority: 10,
                flags: vec![0],
                ..LinuxScheduler::default()
            }),
            ..l()
        }),
        "memory policy" => linux(LinuxContainerAdjustment {
            memory_policy: Some(LinuxMemoryPolicy {
                mode: 3,
                nodes: "0,1".to_owned(),
                flags: vec![0],
            }),
            ..l()
        }),
        "OOM score" => linux(LinuxContainerAdjustment {
            oom_score_adj: Some(OptionalInt { value: 7 }),
            ..l()
        }),
        "cgroups path" => linux(LinuxContainerAdjustment {
            cgroups_path: format!("/{plugin}"),
            ..l()
        }),
        "seccomp" => linux(LinuxContainerAdjustment {
            seccomp_policy: Some(LinuxSeccomp {
                default_action: "SCMP_ACT_ALLOW".to_owned(),
                ..LinuxSeccomp::default()
            }),
            ..l()
        }),
        "hooks" => ContainerAdjustment {
            hooks: Some(Hooks {
                prestart: vec![Hook {
                    path: format!("/bin/{plugin}"),
                    ..Hook::default()
                }],
                ..Hooks::default()
            }),
            ..nothing()
        },
        kind => {
            let (_, resources) = samples(plugin)
                .into_iter()
                .find(|(known, _)| *known == kind)
                .unwrap();
            linux(LinuxContainerAdjustment {
                resources: Some(resources),
                ..l()
            })
        }
    }
}

fn pristine() -> Container {
    Container {
        id: "ctr0".to_owned(),
        args: owned(&["echo", "original"]),
        env: owned(&["PATH=/bin", "key=original"]),
        mounts: vec![mount("/proc", "proc"), mount("/mnt/test", "original")],
        annotations: pairs([("key", "original".to_owned())]),
        linux: Some(LinuxContainer {
            namespaces: vec![namespace("pid", ""), namespace("cgroup", "/run/cgroupns/old")],
            ..LinuxContainer::default()
        }),
        ..Container::default()
    }
}

fn creation() -> Creation {
    Creation::new(CreateContainerRequest {
        container: Some(pristine()),
        ..CreateContainerRequest::default()
    })
}

fn apply(creation: &mut Creation, plugin: &str, adjust: ContainerAdjustment) -> Result<(), Conflict> {
    let response = CreateContainerResponse {
        adjust: Some(adjust),
        ..CreateContainerResponse::default()
    };
    creation.apply(plugin, response)
}

fn seen(creation: &Creation) -> Container {
    creation.request().container.clone().unwrap()
}

fn merged(creation: Creation) -> ContainerAdjustment {
    creation.finish(Vec::new()).validation.adjust.unwrap()
}

#[test]
fn what_one_plugin_wants_is_the_result() {
    for subject in SUBJECTS {
        let mut creation = creation();
        let adjust = wanted(subject, "00-a", false);
        apply(&mut creation, "00-a", adjust.clone()).unwrap();
        assert_eq!(merged(creation), adjust, "{subject}");
    }
}

#[test]
fn two_plugins_conflict_except_in_hooks() {
    for subject in SUBJECTS {
        let mut creation = creation();
        apply(&mut creation, "00-a", wanted(subject, "00-a", false)).unwrap();
        let second = apply(&mut creation, "10-b", wanted(subject, "10-b", false));
        match subject {
            "hooks" => {
                second.unwrap();
                let hooks = merged(creation).hooks.unwrap().prestart;
                let paths: Vec<_> = hooks.iter().map(|hook| hook.path.as_str()).collect();
                assert_eq!(paths, ["/bin/00-a", "/bin/10-b"]);
            }
            _ => {
                let text = second.expect_err(subject).to_string();
                assert!(text.contains("\"00-a\" and \"10-b\""), "{text}");
            }
        }
    }
}

#[test]
fn who_removes_first_replaces() {
    for subject in &SUBJECTS[..REMOVABLE] {
        let mut creation = creation();
        apply(&mut creation, "00-a", wanted(subject, "00-a", false)).unwrap();
        apply(&mut creation, "10-b", wanted(subject, "10-b", true)).unwrap();
        // Maps keep the removal. A list needs none beside the new entry, which replaces that of the container.
        let kept = matches!(*subject, "annotation" | "net device" | "sysctl");
        let expected = wanted(subject, "10-b", kept);
        assert_eq!(merged(creation), expected, "{subject}");
    }
}

#[test]
fn who_removes_is_the_one_to_set_anew() {
    for subject in &SUBJECTS[..REMOVABLE] {
        let mut creation = creation();
        apply(&mut creation, "00-a", wanted(subject, "00-a", false)).unwrap();
        apply(&mut creation, "10-b", wanted(subject, "10-b", true)).unwrap();
        apply(&mut creation, "20-c", wanted(subject, "20-c", false)).expect_err(subject);
    }
}

#[test]
fn a_removal_alone_reaches_the_container() {
    let mut creation = creation();
    let adjust = ContainerAdjustment {
        annotations: pairs([("-key", String::new())]),
        mounts: vec![mount("-/mnt/test", "")],
        env: vec![variable("-key", "")],
        linux: Some(LinuxContainerAdjustment {
            devices: vec![LinuxDevice {
                path: "-/dev/test".to_owned(),
                ..LinuxDevice::default()
            }],
            namespaces: vec![namespace("-cgroup", "")],
            sysctl: pairs([("-net.core.somaxconn", String::new())]),
            ..LinuxContainerAdjustment::default()
        }),
        ..ContainerAdjustment::default()
    };
    apply(&mut creation, "00-a", adjust.clone()).unwrap();
    let left = seen(&creation);
    assert_eq!(
        (left.env, left.mounts),
        (owned(&["PATH=/bin"]), vec![mount("/proc", "proc")])
    );
    assert!(left.annotations.is_empty());
    assert_eq!(left.linux.unwrap().namespaces, [namespace("pid", "")]);
    assert_eq!(merged(creation), adjust);
}

#[test]
fn what_a_plugin_adds_another_removes_for_good() {
    let subjects = [
        "annotation",
        "mount",
        "environment",
        "device",
        "net device",
        "sysctl",
    ];
    for subject in subjects {
        let mut creation = creation();
        apply(&mut creation, "00-a", wanted(subject, "00-a", false)).unwrap();
        let mut removal = wanted(subject, "10-b", true);
        removal.annotations.retain(|key, _| key.starts_with(REMOVAL));
        removal.mounts.truncate(1);
        removal.env.truncate(1);
        if let Some(linux) = &mut removal.linux {
            linux.devices.truncate(1);
            linux.net_devices.retain(|key, _| key.starts_with(REMOVAL));
            linux.sysctl.retain(|key, _| key.starts_with(REMOVAL));
        }
        apply(&mut creation, "10-b", removal.clone()).unwrap();
        apply(&mut creation, "20-c", wanted(subject, "20-c", false)).expect_err(subject);
        apply(&mut creation, "20-c", removal.clone()).unwrap();
        assert_eq!(merged(creation), removal, "{subject}");
    }
}

#[test]
fn the_next_plugin_sees_what_was_adjusted() {
    let mut creation = creation();
    for (index, subject) in SUBJECTS.iter().enumerate() {
        let plugin = format!("{index:02}-x");
        apply(&mut creation, &plugin, wanted(subject, "x", false)).unwrap();
    }
    let container = seen(&creation);
    let linux = container.linux.unwrap();
    let wanted_linux = |subject| wanted(subject, "x", false).linux.unwrap();
    assert_eq!(container.annotations, pairs([("key", "x".to_owned())]));
    assert_eq!(container.env, ["PATH=/bin", "key=x"]);
    assert_eq!(
        container.mounts,
        [mount("/proc", "proc"), mount("/mnt/test", "x")]
    );
    assert_eq!(container.args, ["echo", "x"]);
    assert_eq!(container.hooks, wanted("hooks", "x", false).hooks);
    assert_eq!(container.rlimits, wanted("rlimit", "x", false).rlimits);
    assert!(container.cdi_devices.is_empty());
    assert_eq!(
        linux.namespaces,
        [namespace("pid", ""), namespace("cgroup", "/run/cgroupns/new")]
    );
    assert_eq!(linux.devices, [device("/dev/test", 120)]);
    assert_eq!(linux.net_devices, wanted_linux("net device").net_devices);
    assert_eq!(linux.sysctl, wanted_linux("sysctl").sysctl);
    assert_eq!(linux.io_priority, wanted_linux("I/O priority").io_priority);
    assert_eq!(linux.scheduler, wanted_linux("scheduler").scheduler);
    assert_eq!(linux.oom_score_adj, wanted_linux("OOM score").oom_score_adj);
    assert_eq!(linux.seccomp_policy, wanted_linux("seccomp").seccomp_policy);
    assert_eq!(linux.cgroups_path, "/x");
    let mut resources = LinuxResources::default();
    for (_, sample) in samples("x") {
        overlay(&mut resources, &sample);
    }
    assert_eq!(linux.resources, Some(resources));
}

#[test]
fn arguments_are_given_back_to_the_container() {
    let mut creation = creation();
    apply(&mut creation, "00-a", wanted("arguments", "00-a", false)).unwrap();
    let adjust = ContainerAdjustment {
        args: owned(&[""]),
        ..ContainerAdjustment::default()
    };
    apply(&mut creation, "10-b", adjust).unwrap();
    assert_eq!(seen(&creation).args, pristine().args);
    assert!(merged(creation).args.is_empty());
}

#[test]
fn rdt_is_removed() {
    let mut creation = creation();
    apply(&mut creation, "00-a", wanted("RDT", "00-a", false)).unwrap();
    let rdt = LinuxRdt {
        remove: true,
        ..LinuxRdt::default()
    };
    let removal = linux(LinuxContainerAdjustment {
        rdt: Some(rdt),
        ..LinuxContainerAdjustment::default()
    });
    apply(&mut creation, "10-b", removal.clone()).unwrap();
    assert_eq!(merged(creation), removal);
}

#[test]
fn only_containers_that_exist_are_updated() {
    let update = |id: &str| CreateContainerResponse {
        update: vec![crate::proto::ContainerUpdate {
            container_id: id.to_owned(),
            linux: None,
            ignore_failure: true,
        }],
        ..CreateContainerResponse::default()
    };
    let mut creation = creation();
    creation.apply("00-a", update("ctr1")).unwrap();
    let expected = Conflict::NotCreated {
        container: "ctr0".to_owned(),
        plugin: "10-b".to_owned(),
    };
    assert_eq!(creation.apply("10-b", update("ctr0")), Err(expected));
    assert_eq!(
        creation.finish(Vec::new()).validation.update,
        update("ctr1").update
    );
}

#[test]
fn validators_get_all_of_it() {
    let mut creation = creation();
    apply(&mut creation, "00-a", wanted("environment", "00-a", false)).unwrap();
    let plugins = ["a", "b"].map(|name| PluginInstance {
        name: name.to_owned(),
        index: "00".to_owned(),
    });
    let validation = creation.finish(plugins.to_vec()).validation;
    assert_eq!(validation.container, Some(pristine()));
    assert_eq!(validation.adjust, Some(wanted("environment", "00-a", false)));
    assert_eq!(validation.plugins, plugins);
    let owners = &validation.owners.unwrap().owners["ctr0"];
    let env = &owners.compound[&Field::Env.into()];
    assert_eq!(env.owners, pairs([("key", "00-a".to_owned())]));
}
