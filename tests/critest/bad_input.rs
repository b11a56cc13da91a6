//! Wrong requests: InvalidArgument, a text that names the field, and nothing left behind.

use pausa::proto::v1;
use pausa::proto::v1::{MountPropagation, NamespaceMode};
use tonic::Code;

use crate::harness::node::{reference, spec};
use crate::harness::pod::{pod_security, security};
use crate::harness::slot::has_slices;
use crate::harness::{map, ok, on_pausa, refused, strings};

type PodCase = (&'static str, fn(&mut v1::PodSandboxConfig));
type ContainerCase = (&'static str, fn(&mut v1::ContainerConfig));

fn metadata(config: &mut v1::PodSandboxConfig) -> &mut v1::PodSandboxMetadata {
    config.metadata.get_or_insert_default()
}

fn port(config: &mut v1::PodSandboxConfig, container_port: i32, host_port: i32, host_ip: &str) {
    let host_ip = host_ip.to_owned();
    config.port_mappings = vec![v1::PortMapping {
        container_port,
        host_port,
        host_ip,
        ..Default::default()
    }];
}

fn dns(config: &mut v1::PodSandboxConfig, server: &str, search: &str, option: &str) {
    config.dns_config = Some(v1::DnsConfig {
        servers: strings(&[server]),
        searches: strings(&[search]),
        options: strings(&[option]),
    });
}

fn sysctl(config: &mut v1::PodSandboxConfig, name: &str) {
    config.linux.get_or_insert_default().sysctls = map(&[(name, "1")]);
}

const PODS: &[PodCase] = &[
    ("metadata", |c| c.metadata = None),
    ("name", |c| metadata(c).name.clear()),
    ("uid", |c| metadata(c).uid.clear()),
    ("namespace", |c| metadata(c).namespace.clear()),
    ("hostname", |c| c.hostname = "x".repeat(65)),
    ("hostname", |c| "a\nb".clone_into(&mut c.hostname)),
    ("log_directory", |c| {
        "relative/logs".clone_into(&mut c.log_directory);
    }),
    ("port", |c| port(c, 0, 80, "")),
    ("port", |c| port(c, 70_000, 80, "")),
    ("port", |c| port(c, 80, -1, "")),
    ("host_ip", |c| port(c, 80, 21_009, "not an address")),
    ("dns", |c| dns(c, "1.2.3.4\nnameserver 6.6.6.6", "a", "b")),
    ("dns", |c| dns(c, "1.2.3.4", "a\nnameserver 6.6.6.6", "b")),
    ("dns", |c| dns(c, "1.2.3.4", "a", "b\nnameserver 6.6.6.6")),
    ("sysctl", |c| sysctl(c, "kernel.panic")),
    ("sysctl", |c| sysctl(c, "net/../kernel/panic")),
    ("sysctl", |c| sysctl(c, "")),
    ("cgroup_parent", |c| {
        "/a/../../b".clone_into(&mut c.linux.get_or_insert_default().cgroup_parent);
    }),
    ("cgroup_parent", |c| {
        let others = if has_slices() {
            "/kubepods"
        } else {
            "kubepods.slice"
        };
        others.clone_into(&mut c.linux.get_or_insert_default().cgroup_parent);
    }),
    ("userns", |c| {
        let options = pod_security(c).namespace_options.get_or_insert_default();
        options.userns_options = Some(v1::UserNamespace {
            mode: NamespaceMode::Container.into(),
            ..Default::default()
        });
    }),
    ("run_as_group", |c| {
        pod_security(c).run_as_group = Some(v1::Int64Value { value: 5 });
    }),
    ("namespace", |c| {
        pod_security(c).namespace_options.get_or_insert_default().pid = 77;
    }),
];

fn mount(config: &mut v1::ContainerConfig, change: impl FnOnce(&mut v1::Mount)) {
    let mut mount = v1::Mount {
        host_path: "/tmp".to_owned(),
        container_path: "/mnt".to_owned(),
        ..Default::default()
    };
    change(&mut mount);
    config.mounts = vec![mount];
}

fn resources(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    config
        .linux
        .get_or_insert_default()
        .resources
        .get_or_insert_default()
}

const CONTAINERS: &[ContainerCase] = &[
    ("metadata", |c| c.metadata = None),
    ("name", |c| c.metadata.get_or_insert_default().name.clear()),
    ("image", |c| c.image = None),
    ("image", |c| c.image = Some(spec(""))),
    ("config.image.runtime_handler", |c| {
        "no-such-handler".clone_into(&mut c.image.get_or_insert_default().runtime_handler);
    }),
    ("config.mounts[0].image.runtime_handler", |c| {
        mount(c, |m| {
            let mut image = spec("x");
            "no-such-handler".clone_into(&mut image.runtime_handler);
            m.image = Some(image);
        });
    }),
    ("log_path", |c| "../../escape.log".clone_into(&mut c.log_path)),
    ("container_path", |c| mount(c, |m| m.container_path.clear())),
    ("host_path", |c| mount(c, |m| m.host_path.clear())),
    ("host_path", |c| {
        mount(c, |m| "relative".clone_into(&mut m.host_path));
    }),
    ("propagation", |c| mount(c, |m| m.propagation = 9)),
    ("recursive_read_only", |c| {
        mount(c, |m| m.recursive_read_only = true);
    }),
    ("recursive_read_only", |c| {
        mount(c, |m| {
            m.recursive_read_only = true;
            m.readonly = true;
            m.set_propagation(MountPropagation::PropagationBidirectional);
        });
    }),
    ("mount_options", |c| {
        mount(c, |m| m.mount_options = strings(&["suid"]));
    }),
    ("capabilit", |c| {
        let add_capabilities = strings(&["NO_SUCH_CAPABILITY"]);
        security(c).capabilities = Some(v1::Capability {
            add_capabilities,
            ..Default::default()
        });
    }),
    ("run_as_group", |c| {
        security(c).run_as_group = Some(v1::Int64Value { value: 5 });
    }),
    ("run_as_user", |c| {
        security(c).run_as_user = Some(v1::Int64Value { value: -5 });
    }),
    ("supplemental_groups", |c| {
        security(c).supplemental_groups = vec![-1];
    }),
    ("privileged", |c| security(c).privileged = true),
    ("seccomp", |c| {
        security(c).seccomp = Some(v1::SecurityProfile {
            profile_type: 2,
            localhost_ref: String::new(),
        });
    }),
    ("masked_paths", |c| {
        security(c).masked_paths = strings(&["relative"]);
    }),
    ("envs", |c| {
        c.envs = vec![v1::KeyValue {
            key: String::new(),
            value: b"x".to_vec(),
        }];
    }),
    ("envs", |c| {
        c.envs = vec![v1::KeyValue {
            key: "A".to_owned(),
            value: b"x\0y".to_vec(),
        }];
    }),
    ("working_dir", |c| "relative".clone_into(&mut c.working_dir)),
    ("stop_signal", |c| c.stop_signal = 999),
    ("oom_score_adj", |c| resources(c).oom_score_adj = 5000),
];

/// CRI `PodSandboxConfig`, field by field.
#[test]
#[ignore = "needs root"]
fn wrong_pods_are_refused() {
    on_pausa(async |node| {
        let mut wrong = Vec::new();
        for (number, (field, spoil)) in PODS.iter().enumerate() {
            let mut config = node.pod_config();
            spoil(&mut config);
            judge(&mut wrong, number, field, node.try_pod(&config).await);
        }
        let request = v1::RunPodSandboxRequest::default();
        judge(
            &mut wrong,
            PODS.len(),
            "config",
            node.runtime().run_pod_sandbox(request).await,
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let left = ok(
            "List",
            node.runtime()
                .list_pod_sandbox(v1::ListPodSandboxRequest::default())
                .await,
        )
        .items;
        assert!(left.is_empty(), "{left:?}");
    });
}

/// CRI `ContainerConfig`, field by field.
#[test]
#[ignore = "needs root"]
fn wrong_containers_are_refused() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let mut wrong = Vec::new();
        for (number, (field, spoil)) in CONTAINERS.iter().enumerate() {
            let mut config = pod.container_config();
            spoil(&mut config);
            judge(&mut wrong, number, field, pod.try_create(&config).await);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let left = ok(
            "List",
            node.runtime()
                .list_containers(v1::ListContainersRequest::default())
                .await,
        )
        .containers;
        assert!(left.is_empty(), "{left:?}");
    });
}

fn judge<T: std::fmt::Debug>(
    wrong: &mut Vec<String>,
    number: usize,
    field: &str,
    answer: Result<tonic::Response<T>, tonic::Status>,
) {
    match answer {
        Ok(done) => wrong.push(format!(
            "case {number}, {field}: not refused: {:?}",
            done.into_inner()
        )),
        Err(status) if status.code() != Code::InvalidArgument || !status.message().contains(field) => {
            wrong.push(format!(
                "case {number}, {field}: {:?}: {}",
                status.code(),
                status.message()
            ));
        }
        Err(_) => {}
    }
}

/// Nothing to run: neither the request nor the image has a command.
#[test]
#[ignore = "needs root"]
fn no_command_at_all() {
    on_pausa(async |node| {
        node.pull("silent").await;
        let pod = node.pod().await;
        let mut config = pod.container_config();
        config.image = Some(spec(&reference("silent")));
        config.command.clear();
        let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(text.contains("command"), "{text}");
    });
}

/// Ids, commands and images that are missing from every other request.
#[test]
#[ignore = "needs root"]
fn missing_fields_are_named() {
    on_pausa(async |node| {
        let mut wrong = Vec::new();
        let (mut runtime, mut images) = (node.runtime(), node.images());
        macro_rules! refuses {
            ($field:literal, $call:expr) => {
                judge(&mut wrong, line!() as usize, $field, $call.await)
            };
        }
        refuses!(
            "pod_sandbox_id",
            runtime.stop_pod_sandbox(v1::StopPodSandboxRequest::default())
        );
        refuses!(
            "pod_sandbox_id",
            runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest::default())
        );
        refuses!(
            "pod_sandbox_id",
            runtime.pod_sandbox_status(v1::PodSandboxStatusRequest::default())
        );
        refuses!(
            "pod_sandbox_id",
            runtime.create_container(v1::CreateContainerRequest::default())
        );
        refuses!(
            "container_id",
            runtime.start_container(v1::StartContainerRequest::default())
        );
        refuses!(
            "container_id",
            runtime.stop_container(v1::StopContainerRequest::default())
        );
        refuses!(
            "container_id",
            runtime.remove_container(v1::RemoveContainerRequest::default())
        );
        refuses!(
            "container_id",
            runtime.container_status(v1::ContainerStatusRequest::default())
        );
        refuses!("container_id", runtime.exec_sync(v1::ExecSyncRequest::default()));
        refuses!(
            "container_id",
            runtime.reopen_container_log(v1::ReopenContainerLogRequest::default())
        );
        refuses!(
            "container_id",
            runtime.update_container_resources(v1::UpdateContainerResourcesRequest::default())
        );
        refuses!("image", images.pull_image(v1::PullImageRequest::default()));
        refuses!("image", images.remove_image(v1::RemoveImageRequest::default()));
        refuses!("image", images.image_status(v1::ImageStatusRequest::default()));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// CRI `ExecSyncRequest`: a command is needed, and a timeout below zero makes no sense.
#[test]
#[ignore = "needs root"]
fn wrong_execs_are_refused() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let text = refused(Code::InvalidArgument, container.try_exec(&[], 5).await);
        assert!(text.contains("cmd"), "{text}");
        let text = refused(Code::InvalidArgument, container.try_exec(&["true"], -1).await);
        assert!(text.contains("timeout"), "{text}");
    });
}

/// An id that is no id is not found, and is not used as a path.
#[test]
#[ignore = "needs root"]
fn an_id_is_not_a_path() {
    on_pausa(async |node| {
        for id in ["../../etc", "/", "a/b", "..", "\0", "ünï", &"f".repeat(100_000)] {
            let request = v1::PodSandboxStatusRequest {
                pod_sandbox_id: id.to_owned(),
                verbose: true,
            };
            let status = node
                .runtime()
                .pod_sandbox_status(request)
                .await
                .expect_err("no such pod");
            assert!(
                [Code::NotFound, Code::InvalidArgument].contains(&status.code()),
                "{status:?}"
            );
            assert!(
                status.message().len() < 4096,
                "the answer does not repeat a huge id"
            );
        }
    });
}
