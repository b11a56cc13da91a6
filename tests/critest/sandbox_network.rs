//! A pod's network, name and kernel settings.

use std::collections::BTreeMap;

use pausa::proto::v1;
use pausa::proto::v1::PodSandboxState;
use tonic::Code;

use crate::harness::cni::use_plugin;
use crate::harness::daemon::Daemon;
use crate::harness::http::read_tcp;
use crate::harness::{Container, Pod, eventually, map, ok, on_node, on_own_node, on_pausa, refused, strings};

const SERVE: &str = "while :; do echo hello from $HOSTNAME | nc -l -p 8080; done";

async fn server<'a>(pod: &'a Pod<'_>) -> Container<'a> {
    pod.start(|config| config.command = strings(&["sh", "-c", SERVE]))
        .await
}

async fn answers(address: &str) -> String {
    eventually(&format!("{address} answers"), async || {
        let address = address.to_owned();
        let read = tokio::task::spawn_blocking(move || read_tcp(&address))
            .await
            .expect("a task");
        read.ok().filter(|text| !text.is_empty())
    })
    .await
}

/// CRI `PodSandboxNetworkStatus.ip`: the pod's address, which the node reaches and interfaces in the pod have.
#[test]
#[ignore = "needs root"]
fn the_node_reaches_the_pod() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = server(&pod).await;
        let ip = pod.ip().await;
        assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{ip}");
        let hello = format!("hello from {}\n", pod.config.hostname);
        assert_eq!(answers(&format!("{ip}:8080")).await, hello);
        let addresses = container.sh("ip addr").await;
        assert!(addresses.contains(&format!("inet {ip}/")), "{addresses}");
        assert!(
            addresses.contains("eth0"),
            "the name every plugin gives it: {addresses}"
        );
    });
}

/// Containers of a pod share localhost; pods reach each other by address.
#[test]
#[ignore = "needs root"]
fn containers_talk_over_localhost_and_pods_over_addresses() {
    on_node(async |node| {
        let pod = node.pod().await;
        let _server = server(&pod).await;
        let hello = format!("hello from {}\n", pod.config.hostname);
        let ask =
            |address: &str| format!("until nc {address} 8080 < /dev/null; do usleep 50000; done 2>/dev/null");
        assert_eq!(pod.sh(&ask("127.0.0.1")).await, hello);
        let other = node.pod().await;
        assert_eq!(other.sh(&ask(&pod.ip().await)).await, hello);
    });
}

/// Every pod has an address of its own.
#[test]
#[ignore = "needs root"]
fn addresses_are_different() {
    on_node(async |node| {
        let pods = futures_util::future::join_all((0..6).map(|_| node.pod())).await;
        let ips = futures_util::future::join_all(pods.iter().map(Pod::ip)).await;
        let different: std::collections::BTreeSet<_> = ips.iter().collect();
        assert_eq!(different.len(), ips.len(), "{ips:?}");
    });
}

/// CRI `PodSandboxConfig.port_mappings`: the node's port leads to the pod's, over loopback too; gone with the pod.
#[test]
#[ignore = "needs root"]
fn a_host_port_leads_to_the_pod() {
    on_node(async |node| {
        let port = node.slot().host_port();
        let mapping = |host_port: i32| v1::PortMapping {
            protocol: v1::Protocol::Tcp.into(),
            container_port: 8080,
            host_port,
            host_ip: String::new(),
        };
        let pod = node
            .pod_with(|config| config.port_mappings = vec![mapping(i32::from(port)), mapping(0)])
            .await;
        let _server = server(&pod).await;
        let address = format!("127.0.0.1:{port}");
        assert_eq!(
            answers(&address).await,
            format!("hello from {}\n", pod.config.hostname)
        );
        pod.stop().await;
        assert!(
            std::net::TcpStream::connect(&address).is_err(),
            "the port is free again"
        );
    });
}

/// CRI `PortMapping.host_ip`: only that address of the node.
#[test]
#[ignore = "needs root"]
fn a_host_port_may_be_on_one_address() {
    on_node(async |node| {
        let port = node.slot().host_port() + 1;
        let pod = node
            .pod_with(|config| {
                config.port_mappings = vec![v1::PortMapping {
                    protocol: v1::Protocol::Tcp.into(),
                    container_port: 8080,
                    host_port: i32::from(port),
                    host_ip: "127.0.0.1".to_owned(),
                }];
            })
            .await;
        let _server = server(&pod).await;
        answers(&format!("127.0.0.1:{port}")).await;
        let elsewhere = format!("127.0.0.2:{port}");
        assert!(
            std::net::TcpStream::connect(elsewhere).is_err(),
            "another address of the node"
        );
    });
}

/// CRI `DNSConfig`: /etc/resolv.conf of every container.
#[test]
#[ignore = "needs root"]
fn the_dns_configuration_becomes_resolv_conf() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| {
                config.dns_config = Some(v1::DnsConfig {
                    servers: strings(&["10.9.8.7", "fd00::1"]),
                    searches: strings(&["svc.cluster.local", "cluster.local"]),
                    options: strings(&["ndots:5", "edns0"]),
                });
            })
            .await;
        let seen = pod.sh("cat /etc/resolv.conf").await;
        let mut lines: Vec<_> = seen
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort_unstable();
        let expected = [
            "nameserver 10.9.8.7",
            "nameserver fd00::1",
            "options ndots:5 edns0",
            "search svc.cluster.local cluster.local",
        ];
        assert_eq!(lines, expected);
    });
}

/// CRI `PodSandboxConfig.hostname`: the UTS namespace's name.
#[test]
#[ignore = "needs root"]
fn the_hostname_is_the_pods() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| config.hostname = "a-name-of-its-own".to_owned())
            .await;
        assert_eq!(pod.sh("hostname").await, "a-name-of-its-own\n");
        assert_eq!(
            pod.sh("cat /proc/sys/kernel/hostname").await,
            "a-name-of-its-own\n"
        );
    });
}

/// The built-in bridge has no IPv6: on such an address nothing would ever arrive.
#[test]
#[ignore = "needs root"]
fn a_host_port_of_an_ipv6_address_is_refused() {
    on_own_node(async |node| {
        let mut config = node.pod_config();
        config.port_mappings = vec![v1::PortMapping {
            container_port: 80,
            host_port: node.slot().host_port().into(),
            host_ip: "fd00::7".to_owned(),
            ..Default::default()
        }];
        let text = refused(Code::InvalidArgument, node.try_pod(&config).await);
        assert!(text.contains("host_ip") && text.contains("fd00::7"), "{text}");
        config.port_mappings[0].host_ip = "::".to_owned();
        config.metadata.get_or_insert_default().attempt = 1;
        node.run_pod(config).await;
    });
}

/// CRI `LinuxPodSandboxConfig.sysctls`: those of the pod's own namespaces.
#[test]
#[ignore = "needs root"]
fn sysctls_hold_in_the_pod_only() {
    on_node(async |node| {
        let names = ["kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range"];
        let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
        let before: BTreeMap<_, _> = names
            .map(|name| (name, std::fs::read_to_string(path(name)).ok()))
            .into();
        let sysctls = map(&[(names[0], "1"), (names[1], "2048 4096")]);
        let pod = node
            .pod_with(|config| config.linux.get_or_insert_default().sysctls = sysctls)
            .await;
        let seen = pod
            .sh(&format!("cat {} {}", path(names[0]), path(names[1])))
            .await;
        assert_eq!(seen, "1\n2048\t4096\n");
        for (name, value) in before {
            assert_eq!(
                std::fs::read_to_string(path(name)).ok(),
                value,
                "{name} of the node"
            );
        }
    });
}

/// Pods may bind any port and ping without privilege (`enable_unprivileged_ports`, `enable_unprivileged_icmp`).
#[test]
#[ignore = "needs root"]
fn ports_and_pings_need_no_privilege() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let seen = pod.sh_with(
            "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range; nc -l -p 80 & sleep 1; kill %1",
            |config| {
                let security = crate::harness::pod::security(config);
                security.run_as_user = Some(v1::Int64Value { value: 1000 });
                security.capabilities = Some(v1::Capability {
                    drop_capabilities: strings(&["ALL"]),
                    ..Default::default()
                });
            },
        );
        assert_eq!(seen.await, "0\n0\t2147483647\n");
    });
}

/// The loopback interface of a pod is up before its first container runs.
#[test]
#[ignore = "needs root"]
fn loopback_is_up() {
    on_node(async |node| {
        let pod = node.pod().await;
        let seen = pod.sh("ip addr show lo").await;
        assert!(seen.contains("UP") && seen.contains("127.0.0.1/8"), "{seen}");
    });
}

/// RunPodSandbox fails after the pod was attached, and the pod cannot be detached either: the attachment is not forgotten,
/// not even by the next daemon. Detaching is tried again until it works.
#[test]
#[ignore = "needs root"]
fn an_attachment_of_a_failed_pod_that_cannot_be_undone_is_tried_again() {
    on_own_node(async |node| {
        // ADD puts a directory where the hosts file is to be written; DEL fails while there is a file `stuck`.
        let script = r#"case $CNI_COMMAND in
ADD)
    rm "s/pods/$CNI_CONTAINERID/hosts"
    mkdir "s/pods/$CNI_CONTAINERID/hosts"
    echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}' ;;
DEL)
    test ! -e stuck || { echo '{"code": 11, "msg": "it is stuck"}'; exit 1; }
    echo "$CNI_CONTAINERID" >> detached ;;
esac
"#;
        use_plugin(node, script).await;
        std::fs::write(node.dir().join("stuck"), "").expect("a file");
        let text = refused(Code::Internal, node.try_pod(&node.pod_config()).await);
        assert!(text.contains("/hosts: Is a directory"), "{text}");
        node.daemon(Daemon::kill);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        let request = v1::ListPodSandboxRequest::default();
        let pods = ok("ListPodSandbox", node.runtime().list_pod_sandbox(request).await).items;
        assert_eq!(pods.len(), 1, "{pods:?}");
        assert_eq!(pods[0].state(), PodSandboxState::SandboxNotready);
        let pod_sandbox_id = pods[0].id.clone();
        node.remember(&pod_sandbox_id);
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id };
        let text = refused(
            Code::Unavailable,
            node.runtime().stop_pod_sandbox(stop.clone()).await,
        );
        assert!(text.contains("it is stuck"), "{text}");
        std::fs::remove_file(node.dir().join("stuck")).expect("a file");
        eventually("it is detached in the background", async || {
            let detached = std::fs::read_to_string(node.dir().join("detached")).unwrap_or_default();
            detached.contains(&stop.pod_sandbox_id).then_some(())
        })
        .await;
        ok("StopPodSandbox", node.runtime().stop_pod_sandbox(stop).await);
    });
}
