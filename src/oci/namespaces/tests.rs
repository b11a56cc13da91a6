use super::*;
use crate::error::{ErrorKind, Kinded};

fn options(network: NamespaceMode, pid: NamespaceMode, ipc: NamespaceMode) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: network.into(),
        pid: pid.into(),
        ipc: ipc.into(),
        ..Default::default()
    }
}

fn plan(options: v1::NamespaceOption, pod_pid: NamespaceMode) -> Result<NamespacePlan, OciError> {
    let pod = v1::PodSandboxConfig {
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    pid: pod_pid.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let security = v1::LinuxContainerSecurityContext {
        namespace_options: Some(options),
        ..Default::default()
    };
    let config = v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    namespace_plan(&pod, &config)
}

use NamespaceMode::{Container, Node, Pod, Target};

#[test]
fn modes_become_namespaces() {
    let kubelet = plan(options(Pod, Container, Pod), Container).unwrap();
    assert_eq!(kubelet.pid, Namespace::New);
    assert_eq!(
        (&kubelet.network, &kubelet.uts),
        (&Namespace::Pod, &Namespace::Pod)
    );
    assert_eq!(kubelet.cgroup, Namespace::New);
    let host = plan(options(Node, Node, Node), Node).unwrap();
    assert_eq!(
        [&host.pid, &host.ipc, &host.network, &host.uts],
        [&Namespace::Host; 4]
    );
    assert_eq!(
        plan(options(Pod, Pod, Container), Pod).unwrap().pid,
        Namespace::Pod
    );
    assert_eq!(
        plan(options(Pod, Pod, Container), Pod).unwrap().ipc,
        Namespace::New
    );
}

#[test]
fn a_pod_without_a_shared_pid_namespace_never_means_the_hosts() {
    assert_eq!(
        plan(options(Pod, Pod, Pod), Container).unwrap().pid,
        Namespace::New
    );
}

#[test]
fn a_target_needs_an_id_and_a_namespace_to_join() {
    let mut target = options(Pod, Target, Pod);
    assert!(
        plan(target.clone(), Container)
            .unwrap_err()
            .to_string()
            .contains("target_id")
    );
    target.target_id = "c2".to_owned();
    let plan = plan(target, Container).unwrap();
    assert_eq!(plan.pid, Namespace::Container("c2".to_owned()));
    let gone = to_oci(&plan, &PodNamespaces::default(), None).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::FailedPrecondition);
    let path = Path::new("/proc/7/ns/pid");
    let joined = to_oci(&plan, &PodNamespaces::default(), Some(path)).unwrap();
    assert_eq!(joined[0].path().as_deref(), Some(path));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (options, field) in [
        (options(Container, Pod, Pod), "network"),
        (options(Target, Pod, Pod), "network"),
        (options(Pod, Pod, Target), "ipc"),
    ] {
        let error = plan(options, Pod).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(field), "{error}");
    }
}
