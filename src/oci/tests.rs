mod arbitrary;

use std::path::Path;

use oci_spec::image::{Config, ConfigBuilder, ImageConfiguration};
use oci_spec::runtime::Spec;
use pausa_monitor_protocol::{ContainerPlan, IoPlan, MountSource, Namespace};
use pausa_seccomp::KernelVersion;
use proptest::prelude::*;

use self::arbitrary::any_config;
use super::security::Seccomp;
use super::*;
use crate::cgroups::blockio::{Device, Parameter, Rule};
use crate::cgroups::{Hierarchy, Layout, Limits};
use crate::config::Handler;
use crate::error::{ErrorKind, Kinded};
use crate::lsm::selinux::Labels;
use crate::proto::v1;

/// A node that is the same everywhere.
pub(super) fn host() -> Host {
    Host {
        capabilities: (1 << 41) - 1,
        seccomp: true,
        seccomp_default: None,
        architecture: pausa_seccomp::Architecture::current(),
        kernel: KernelVersion::new(5, 15),
    }
}

pub(super) fn v2_layout() -> Layout {
    Layout::V2 {
        mount_point: "/sys/fs/cgroup".into(),
        flags: vec!["nsdelegate".to_owned()],
    }
}

pub(super) fn v1_layout() -> Layout {
    let hierarchy = |controllers: &[&str], name: &str| Hierarchy {
        controllers: controllers.iter().map(|&one| one.to_owned()).collect(),
        mount_point: Path::new("/sys/fs/cgroup").join(name),
    };
    Layout::V1 {
        hierarchies: vec![
            hierarchy(&["cpu", "cpuacct"], "cpu,cpuacct"),
            hierarchy(&["memory"], "memory"),
            hierarchy(&["name=systemd"], "systemd"),
        ],
    }
}

/// Everything a container's spec follows from, owned.
pub(super) struct Case {
    pub(super) config: v1::ContainerConfig,
    pub(super) pod: v1::PodSandboxConfig,
    pub(super) image: ImageConfiguration,
    pub(super) user: ResolvedUser,
    pub(super) host: Host,
    pub(super) handler: Handler,
    pub(super) cgroups: Layout,
    pub(super) prepared: Prepared,
    pub(super) labels: Option<Labels>,
    pub(super) limited_layer: bool,
    /// Without its resources, which are those of `config`.
    pub(super) limits: Limits,
    pub(super) rdt_class: Option<&'static str>,
    files: PodFiles,
}

impl Case {
    /// busybox with nothing asked for.
    pub(super) fn new() -> Self {
        let config: Config = ConfigBuilder::default()
            .cmd(vec!["sh".to_owned()])
            .env(vec!["PATH=/bin".to_owned()])
            .build()
            .unwrap();
        let mut image = ImageConfiguration::default();
        image.set_config(Some(config));
        Self {
            config: v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata {
                    name: "main".to_owned(),
                    attempt: 0,
                }),
                image: Some(v1::ImageSpec {
                    image: "sha256:1234".to_owned(),
                    user_specified_image: "busybox:1.36".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            pod: v1::PodSandboxConfig {
                metadata: Some(v1::PodSandboxMetadata {
                    name: "web".to_owned(),
                    uid: "u-1".to_owned(),
                    namespace: "default".to_owned(),
                    attempt: 0,
                }),
                ..Default::default()
            },
            image,
            user: ResolvedUser {
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: "/root".to_owned(),
            },
            host: host(),
            handler: Handler::default(),
            cgroups: v2_layout(),
            prepared: Prepared::default(),
            labels: None,
            limited_layer: false,
            limits: Limits::default(),
            rdt_class: None,
            files: PodFiles {
                hosts: Some("/run/pod/hosts".into()),
                hostname: Some("/run/pod/hostname".into()),
                resolv_conf: Some("/run/pod/resolv.conf".into()),
                shm: "/run/pod/shm".into(),
            },
        }
    }

    pub(super) fn security(&mut self) -> &mut v1::LinuxContainerSecurityContext {
        let linux = self.config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default()
    }

    pub(super) fn privileged(&mut self) -> &mut Self {
        self.security().privileged = true;
        let linux = self.pod.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
        self
    }

    pub(super) fn namespaces(&self) -> Result<NamespacePlan, OciError> {
        namespace_plan(&self.pod, &self.config)
    }

    pub(super) fn generate(&self) -> Result<Spec, OciError> {
        let linux = self.config.linux.as_ref();
        let resources = linux
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default();
        generate(&ContainerInput {
            config: &self.config,
            pod: PodInput {
                id: "p1",
                config: &self.pod,
                files: &self.files,
                namespaces: PodNamespaces {
                    network: Some(Path::new("/run/pod/ns/net")),
                    ipc: Some(Path::new("/run/pod/ns/ipc")),
                    uts: Some(Path::new("/run/pod/ns/uts")),
                    pid: Some(Path::new("/run/pod/ns/pid")),
                },
                hostname: "web",
            },
            image: &self.image,
            user: &self.user,
            limits: &Limits {
                resources,
                ..self.limits.clone()
            },
            rdt_class: self.rdt_class,
            cgroups_path: "/pausa/c1",
            rootfs: Path::new("rootfs"),
            host: &self.host,
            handler: &self.handler,
            prepared: &self.prepared,
            namespaces: &self.namespaces()?,
            target_pid: None,
            labels: self.labels.as_ref(),
            limited_layer: self.limited_layer,
        })
    }

    pub(super) fn plan(&self) -> Result<ContainerPlan, OciError> {
        let plan = compile(&CompileInput {
            id: "c1",
            bundle: Path::new("/run/b"),
            spec: &self.generate()?,
            namespaces: &self.namespaces()?,
            cgroups: &self.cgroups,
            io: IoPlan::default(),
            log: None,
            programs: &SeccompPrograms::default(),
        })?;
        let container = plan.container.clone();
        assert_eq!(
            plan,
            container.clone().into(),
            "nothing that CRI asks for needs an extension"
        );
        Ok(container)
    }
}

/// The spec as JSON whose order does not depend on hashing.
fn stable(spec: &Spec) -> serde_json::Value {
    let mut json = serde_json::to_value(spec).unwrap();
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        if let Some(list) = json["process"]["capabilities"][set].as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    }
    // What is in a filter is the seccomp crate's to pin.
    if let Some(seccomp) = json["linux"]
        .get_mut("seccomp")
        .and_then(|filter| filter.as_object_mut())
    {
        seccomp.retain(|key, _| key == "defaultAction");
    }
    json
}

#[test]
fn a_plain_container() {
    insta::assert_json_snapshot!(stable(&Case::new().generate().unwrap()));
}

#[test]
fn a_container_as_kubelet_sends_it() {
    let mut case = Case::new();
    case.user = ResolvedUser {
        uid: 1000,
        gid: 3000,
        groups: vec![3000, 4000],
        home: "/home/app".to_owned(),
    };
    case.config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 985,
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 0,
        }],
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    });
    let security = case.security();
    security.no_new_privs = true;
    security.readonly_rootfs = true;
    security.masked_paths = vec!["/proc/kcore".to_owned()];
    security.readonly_paths = vec!["/proc/sys".to_owned()];
    security.capabilities = Some(v1::Capability {
        add_capabilities: vec!["net_admin".to_owned()],
        drop_capabilities: vec!["ALL".to_owned()],
        add_ambient_capabilities: vec!["CAP_NET_BIND_SERVICE".to_owned()],
    });
    case.config.mounts = vec![
        v1::Mount {
            container_path: "/data/deep".to_owned(),
            host_path: "/srv/deep".to_owned(),
            readonly: true,
            recursive_read_only: true,
            ..Default::default()
        },
        v1::Mount {
            container_path: "/etc/hosts".to_owned(),
            host_path: "/var/lib/kubelet/hosts".to_owned(),
            ..Default::default()
        },
        v1::Mount {
            container_path: "/data".to_owned(),
            host_path: "/srv".to_owned(),
            propagation: v1::MountPropagation::PropagationHostToContainer.into(),
            mount_options: vec!["noexec".to_owned()],
            ..Default::default()
        },
    ];
    case.prepared.seccomp = Seccomp::RuntimeDefault;
    insta::assert_json_snapshot!(stable(&case.generate().unwrap()));
}

#[test]
fn a_privileged_container_of_the_host() {
    let mut case = Case::new();
    case.privileged();
    let node = v1::NamespaceMode::Node.into();
    case.security().namespace_options = Some(v1::NamespaceOption {
        network: node,
        pid: node,
        ipc: node,
        ..Default::default()
    });
    case.prepared.seccomp = Seccomp::Unconfined;
    insta::assert_json_snapshot!(stable(&case.generate().unwrap()));
}

#[test]
fn privileged_needs_a_privileged_pod() {
    let mut case = Case::new();
    case.security().privileged = true;
    let error = case.generate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("linux.security_context.privileged"));
}

#[test]
fn a_handlers_limits_reach_the_spec_and_the_plan() {
    let mut case = Case::new();
    case.handler = Handler {
        default_ulimits: ["nofile=10:20", "core=5", "core=0"]
            .map(|text| text.parse().unwrap())
            .into(),
        ..Handler::default()
    };
    case.limits.pids = Some(70);
    case.limits.cpu_burst = Some(50);
    let limits = |case: &Case| {
        let spec = case.generate().unwrap();
        let linux = spec.linux().as_ref().unwrap();
        linux.resources().clone().unwrap()
    };
    let without_quota = limits(&case);
    assert_eq!(without_quota.pids().unwrap().limit(), 70);
    assert_eq!(without_quota.cpu().as_ref().unwrap().burst(), None);
    let linux = case.config.linux.get_or_insert_default();
    linux.resources.get_or_insert_default().cpu_quota = 30_000;
    assert_eq!(limits(&case).cpu().as_ref().unwrap().burst(), Some(15_000));
    let limits = case.plan().unwrap().process.rlimits;
    let limits: Vec<_> = limits
        .iter()
        .map(|limit| (limit.resource, limit.soft, limit.hard))
        .collect();
    // RLIMIT_NOFILE and RLIMIT_CORE.
    assert_eq!(limits, [(7, 10, 20), (4, 0, 0)]);
    case.handler = Handler::default();
    assert!(case.plan().unwrap().process.rlimits.is_empty());
}

#[test]
fn classes_are_in_the_spec() {
    let mut case = Case::new();
    let disk = Some(Device { major: 8, minor: 16 });
    case.limits.block_io = [
        (None, Parameter::Weight, 80),
        (disk, Parameter::Weight, 50),
        (disk, Parameter::WriteIops, 7),
    ]
    .map(|(device, parameter, value)| Rule {
        device,
        parameter,
        value,
    })
    .into();
    case.rdt_class = Some("gold");
    let json = serde_json::to_value(case.generate().unwrap()).unwrap();
    let expected = serde_json::json!({
        "weight": 80,
        "weightDevice": [{"major": 8, "minor": 16, "weight": 50}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
    });
    assert_eq!(json["linux"]["resources"]["blockIO"], expected);
    assert_eq!(json["linux"]["intelRdt"], serde_json::json!({"closID": "gold"}));
    let plain = serde_json::to_value(Case::new().generate().unwrap()).unwrap();
    assert!(plain["linux"]["resources"]["blockIO"].is_null() && plain["linux"]["intelRdt"].is_null());
}

/// Edits know nothing of variables whose values are no text. They stay what they are, unless they are replaced.
#[test]
fn devices_leave_exact_variables_alone() {
    let directory = tempfile::tempdir().unwrap();
    let spec = r#"{"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":
        {"env":["MORE=1","SECOND=text","HOME=/gpu"],"additionalGids":[7]}}]}"#;
    std::fs::write(
        directory.path().join("vendor.json"),
        spec.replace("\"additionalGids\":[7]", "\"mounts\":[]"),
    )
    .unwrap();
    let mut case = Case::new();
    case.config.envs = ["FIRST", "SECOND", "THIRD"]
        .map(|key| v1::KeyValue {
            key: key.to_owned(),
            value: vec![0xff, key.as_bytes()[0]],
        })
        .to_vec();
    let registry = pausa_cdi::Registry::new(vec![directory.path().into()]);
    case.prepared.cdi = registry.edits(&["vendor.com/gpu=0".to_owned()]).unwrap();
    let env = case.plan().unwrap().process.env;
    let count = |entry: &[u8]| env.iter().filter(|one| *one == entry).count();
    for entry in [
        &b"FIRST=\xffF"[..],
        b"SECOND=text",
        b"THIRD=\xffT",
        b"MORE=1",
        b"HOME=/gpu",
    ] {
        assert_eq!(count(entry), 1, "{}", entry.escape_ascii());
    }
    assert_eq!(count(b"SECOND=\xffS"), 0);
}

#[test]
fn the_plan_survives_the_way_through_config_json() {
    let mut case = Case::new();
    case.config.envs = vec![v1::KeyValue {
        key: "BYTES".to_owned(),
        value: vec![0xff, 0xfe, b'x'],
    }];
    case.prepared.seccomp = Seccomp::RuntimeDefault;
    let spec = case.generate().unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    let read: Spec = serde_json::from_str(&json).unwrap();
    assert_eq!(read, spec);
    let plan = case.plan().unwrap();
    assert!(plan.process.env.contains(&b"BYTES=\xff\xfex".to_vec()));
    assert!(plan.process.seccomp.is_some());
}

#[test]
fn an_exec_has_the_identity_of_its_container() {
    let mut case = Case::new();
    case.user.uid = 1000;
    case.security().no_new_privs = true;
    let spec = case.generate().unwrap();
    let programs = SeccompPrograms::default();
    let plan = exec_process(&spec, &programs).unwrap();
    assert_eq!(plan, case.plan().unwrap().process);
    assert_eq!((plan.uid, plan.no_new_privs), (1000, true));
}

#[test]
fn cgroup_v1_is_a_tmpfs_with_one_mount_a_hierarchy() {
    let mut case = Case::new();
    case.cgroups = v1_layout();
    let plan = case.plan().unwrap();
    assert_eq!(plan.namespaces.cgroup, Namespace::New);
    assert_eq!(
        plan.readonly_paths.last().map(Vec::as_slice),
        Some(b"/sys/fs/cgroup".as_slice())
    );
    let mounts: Vec<_> = plan
        .mounts
        .iter()
        .filter(|mount| mount.target.starts_with(b"/sys/fs/cgroup"))
        .map(|mount| match &mount.source {
            MountSource::Filesystem { fstype, options, .. } => {
                let names: Vec<_> = options.iter().map(|(name, _)| name.as_str()).collect();
                let target = String::from_utf8(mount.target.clone()).unwrap();
                format!(
                    "{target} {fstype} {} {}",
                    names.join(","),
                    mount.attributes.set & 1
                )
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        mounts,
        [
            "/sys/fs/cgroup tmpfs mode,size,nr_inodes 0",
            "/sys/fs/cgroup/cpu,cpuacct cgroup cpu,cpuacct 1",
            "/sys/fs/cgroup/cpu cgroup cpu,cpuacct 1",
            "/sys/fs/cgroup/cpuacct cgroup cpu,cpuacct 1",
            "/sys/fs/cgroup/memory cgroup memory 1",
            "/sys/fs/cgroup/systemd cgroup none,name 1",
        ]
    );
}

proptest! {
    /// Whatever CRI sends, there is a spec or an error that names a field; and a spec always has a plan.
    #[test]
    fn any_configuration_is_a_spec_or_an_error(config in any_config()) {
        let mut case = Case::new();
        case.pod.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
        case.config = config;
        if case.generate().is_ok() {
            let plan = case.plan().unwrap();
            prop_assert!(!plan.process.args.is_empty());
            let nul = plan.process.args.iter().chain(&plan.process.env).any(|text| text.contains(&0));
            prop_assert!(!nul);
        }
    }
}
