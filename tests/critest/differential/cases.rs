//! What is compared.

use std::path::PathBuf;

use pausa::proto::v1;
use pausa::proto::v1::security_profile::ProfileType;
use pausa::proto::v1::{MountPropagation, NamespaceMode};

use crate::harness::Node;
use crate::harness::node::{reference, spec};
use crate::harness::pod::{bind, pod_security, security, share_pids};
use crate::harness::strings;

/// A container, as it differs from the usual one.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) pod: fn(&Node, &mut v1::PodSandboxConfig),
    pub(super) container: fn(&Node, &mut v1::ContainerConfig),
}

const fn case(name: &'static str, container: fn(&Node, &mut v1::ContainerConfig)) -> Case {
    Case {
        name,
        pod: |_, _| {},
        container,
    }
}

fn int(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn seccomp(config: &mut v1::ContainerConfig) {
    security(config).seccomp = Some(v1::SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
}

fn add(config: &mut v1::ContainerConfig, capabilities: &[&str]) {
    let sets = security(config).capabilities.get_or_insert_default();
    sets.add_capabilities.extend(strings(capabilities));
}

/// A shared mount of the node with something in it.
fn volume(node: &Node) -> v1::Mount {
    let directory: PathBuf = node.dir().join("volume");
    std::fs::write(directory.join("file"), "").expect("a file");
    bind(&directory, "/volume")
}

fn namespaces(pod: &mut v1::PodSandboxConfig, change: impl FnOnce(&mut v1::NamespaceOption)) {
    change(pod_security(pod).namespace_options.get_or_insert_default());
}

pub(super) const CASES: &[Case] = &[
    case("usual", |_, _| {}),
    case("user", |_, config| {
        let security = security(config);
        security.run_as_user = int(1000);
        security.run_as_group = int(3000);
        security.supplemental_groups = vec![7777, 8888];
    }),
    case("user without a name, no new privileges, seccomp", |_, config| {
        security(config).run_as_user = int(4242);
        security(config).no_new_privs = true;
        seccomp(config);
    }),
    case("seccomp", |_, config| seccomp(config)),
    case("seccomp with SYS_ADMIN", |_, config| {
        seccomp(config);
        add(config, &["SYS_ADMIN", "SYS_PTRACE"]);
    }),
    case("capabilities added and dropped", |_, config| {
        add(config, &["NET_ADMIN", "SYS_TIME"]);
        let sets = security(config).capabilities.get_or_insert_default();
        sets.drop_capabilities = strings(&["CHOWN", "MKNOD"]);
    }),
    case("all capabilities", |_, config| add(config, &["ALL"])),
    case("no capabilities", |_, config| {
        security(config)
            .capabilities
            .get_or_insert_default()
            .drop_capabilities = strings(&["ALL"]);
    }),
    case("ambient capabilities", |_, config| {
        security(config).run_as_user = int(1000);
        add(config, &["NET_RAW"]);
        let sets = security(config).capabilities.get_or_insert_default();
        sets.add_ambient_capabilities = strings(&["NET_RAW"]);
    }),
    case("read-only root", |_, config| {
        security(config).readonly_rootfs = true;
    }),
    case("unmasked", |_, config| {
        security(config).masked_paths.clear();
        security(config).readonly_paths.clear();
    }),
    case("masked and read-only paths", |_, config| {
        let security = security(config);
        security.masked_paths = strings(&[
            "/etc/passwd",
            "/home",
            "/proc/keys",
            "/not/there",
            "/sys/firmware",
        ]);
        security.readonly_paths = strings(&["/var", "/etc/group", "/proc/sys", "/not/there", "/dev/shm"]);
    }),
    case("a volume", |node, config| config.mounts.push(volume(node))),
    case("a read-only volume", |node, config| {
        config.mounts.push(v1::Mount {
            readonly: true,
            ..volume(node)
        });
    }),
    case("a volume with propagation", |node, config| {
        config.mounts.push(v1::Mount {
            propagation: MountPropagation::PropagationHostToContainer.into(),
            ..volume(node)
        });
    }),
    case("a volume with propagation to the node", |node, config| {
        config.mounts.push(v1::Mount {
            propagation: MountPropagation::PropagationBidirectional.into(),
            ..volume(node)
        });
    }),
    case("a file as volume, in /etc", |node, config| {
        let volume = volume(node);
        let file = PathBuf::from(volume.host_path).join("file");
        config.mounts.push(bind(&file, "/etc/hosts"));
    }),
    case("a device", |_, config| {
        config.devices = vec![v1::Device {
            container_path: "/dev/below/mine".to_owned(),
            host_path: "/dev/zero".to_owned(),
            permissions: "r".to_owned(),
        }];
    }),
    case("limits", |_, config| {
        let linux = config.linux.get_or_insert_default();
        linux.resources = Some(v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: 500,
            cpuset_cpus: "0".to_owned(),
            ..Default::default()
        });
    }),
    case(
        "an image with a volume, a directory and an environment",
        |_, config| {
            config.image = Some(spec(&reference("rich")));
            config.envs = vec![v1::KeyValue {
                key: "OWN".to_owned(),
                value: b"of the request".to_vec(),
            }];
        },
    ),
    case("a working directory that is missing", |_, config| {
        config.working_dir = "/made/by/runtime".to_owned();
        security(config).run_as_user = int(1000);
    }),
    case("a terminal", |_, config| config.tty = true),
    case("a terminal of a user", |_, config| {
        config.tty = true;
        security(config).run_as_user = int(1000);
        seccomp(config);
    }),
    Case {
        name: "sysctls",
        pod: |_, pod| {
            let sysctls = &mut pod.linux.get_or_insert_default().sysctls;
            for (key, value) in [
                ("kernel.shmmax", "65536"),
                ("net.ipv4.ip_unprivileged_port_start", "80"),
            ] {
                sysctls.insert(key.to_owned(), value.to_owned());
            }
        },
        container: |_, _| {},
    },
    Case {
        name: "privileged",
        pod: |_, pod| pod_security(pod).privileged = true,
        container: |_, config| security(config).privileged = true,
    },
    Case {
        name: "on the host's network",
        pod: |_, pod| {
            pod.hostname.clear();
            namespaces(pod, |options| options.network = NamespaceMode::Node.into());
        },
        container: |_, _| {},
    },
    Case {
        name: "with the host's processes",
        pod: |_, pod| namespaces(pod, |options| options.pid = NamespaceMode::Node.into()),
        container: |_, _| {},
    },
    Case {
        name: "with the host's IPC",
        pod: |_, pod| namespaces(pod, |options| options.ipc = NamespaceMode::Node.into()),
        container: |_, _| {},
    },
    Case {
        name: "with the pod's processes",
        pod: |_, pod| share_pids(pod),
        container: |_, config| seccomp(config),
    },
];
