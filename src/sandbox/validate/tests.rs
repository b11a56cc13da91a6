use proptest::prelude::*;

use super::{container, pod};
use crate::proto::v1;

fn with(change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Result<(), String> {
    let mut config = v1::PodSandboxConfig::default();
    change(&mut config);
    pod(&config).map_err(|error| error.to_string())
}

fn sysctl(name: &str, options: v1::NamespaceOption) -> Result<(), String> {
    with(|config| {
        config.linux = Some(v1::LinuxPodSandboxConfig {
            sysctls: [(name.to_owned(), "1".to_owned())].into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        });
    })
}

#[test]
fn an_empty_configuration_is_fine() {
    assert_eq!(with(|_| ()), Ok(()));
}

#[test]
fn sysctls_belong_to_the_namespace_they_are_of() {
    let own = v1::NamespaceOption::default();
    let node: i32 = v1::NamespaceMode::Node.into();
    for good in [
        "net.core.somaxconn",
        "net/ipv4/tcp_syncookies",
        "kernel.shm_rmid_forced",
        "fs.mqueue.msg_max",
        "kernel.sem",
    ] {
        assert_eq!(sysctl(good, own.clone()), Ok(()), "{good}");
    }
    for bad in [
        "",
        "kernel.panic",
        "vm.swappiness",
        "net..x",
        "net/../kernel/panic",
        "kernel.semaphore",
    ] {
        assert!(sysctl(bad, own.clone()).unwrap_err().contains("sysctls"), "{bad}");
    }
    let on_host = v1::NamespaceOption {
        network: node,
        ipc: node,
        ..own
    };
    assert!(sysctl("net.core.somaxconn", on_host.clone()).is_err());
    assert_eq!(
        sysctl("kernel.domainname", v1::NamespaceOption::default()),
        Ok(())
    );
    assert!(
        sysctl("kernel.domainname", on_host.clone())
            .unwrap_err()
            .contains("UTS")
    );
    let text = sysctl("kernel.hostname", v1::NamespaceOption::default()).unwrap_err();
    assert!(text.contains("config.hostname"), "{text}");
    let ids = vec![v1::IdMapping {
        host_id: 65_536,
        container_id: 0,
        length: 65_536,
    }];
    let with_users = v1::NamespaceOption {
        userns_options: Some(v1::UserNamespace {
            uids: ids.clone(),
            gids: ids,
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(sysctl("user.max_net_namespaces", with_users), Ok(()));
    let text = sysctl("user.max_net_namespaces", v1::NamespaceOption::default()).unwrap_err();
    assert!(text.contains("hostUsers"), "{text}");
    assert!(sysctl("kernel.sem", on_host).is_err());
}

#[test]
fn modes_that_a_pod_cannot_have_are_refused() {
    let mode = |change: fn(&mut v1::NamespaceOption)| {
        let mut options = v1::NamespaceOption::default();
        change(&mut options);
        sysctl("net.core.somaxconn", options)
    };
    assert_eq!(
        mode(|options| options.pid = v1::NamespaceMode::Container.into()),
        Ok(())
    );
    assert!(mode(|options| options.pid = v1::NamespaceMode::Target.into()).is_err());
    assert!(mode(|options| options.network = v1::NamespaceMode::Container.into()).is_err());
    assert!(mode(|options| options.pid = 77).unwrap_err().contains("77"));
}

/// CRI `LinuxSandboxSecurityContext.run_as_group`.
#[test]
fn a_group_needs_a_user() {
    let run_as = |user: Option<i64>| {
        with(|config| {
            config.linux = Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    run_as_user: user.map(|value| v1::Int64Value { value }),
                    run_as_group: Some(v1::Int64Value { value: 7 }),
                    ..Default::default()
                }),
                ..Default::default()
            });
        })
    };
    assert_eq!(run_as(Some(0)), Ok(()));
    assert!(run_as(None).unwrap_err().contains("run_as_group"));
}

#[test]
fn a_log_path_stays_below_the_pods_directory() {
    let path = |path: &str| {
        container(&v1::ContainerConfig {
            log_path: path.to_owned(),
            ..Default::default()
        })
    };
    assert!(path("web/0.log").is_ok());
    assert!(path("").is_ok());
    assert!(path("../x").is_err());
    assert!(path("/var/log/x").is_err());
}

proptest! {
    #[test]
    fn no_line_of_a_pod_file_can_be_forged(text in "\\PC*[\n\r\t]\\PC*") {
        prop_assert!(with(|config| config.hostname.clone_from(&text)).is_err());
        let dns = v1::DnsConfig { searches: vec![text], ..Default::default() };
        prop_assert!(with(|config| config.dns_config = Some(dns)).is_err());
    }
}
