//! `[sandbox] warm`: monitors with namespaces that wait for a pod.

use std::collections::BTreeMap;

use pausa::proto::v1;

use crate::harness::leaks::{command, walk};
use crate::harness::pod::{monitor_of, pod_security, share_pids};
use crate::harness::{Node, Pod, eventually, on_own_node};

/// The monitors that this daemon has started, by process id, with the ids of their pods.
fn monitors(node: &Node) -> BTreeMap<i32, String> {
    let daemon = node.daemon(|daemon| daemon.pid());
    let mut found = BTreeMap::new();
    walk(std::path::Path::new("/proc"), 1, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Ok(pid) = name.parse() else { return };
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let words = command(pid);
        let Some(pod) = words.strip_prefix("pausa-monitor ") else {
            return;
        };
        if status.contains(&format!("\nPPid:\t{daemon}\n")) {
            found.insert(pid, pod.trim().to_owned());
        }
    });
    found
}

/// Waits until so many monitors have namespaces of their own, and returns them.
pub(crate) async fn waiting(node: &Node, pods: &[&Pod<'_>], wanted: usize) -> BTreeMap<i32, String> {
    let hosts = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    eventually("monitors wait", async || {
        let mut found = monitors(node);
        found.retain(|pid, id| {
            let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"));
            pods.iter().all(|pod| pod.id != *id) && namespace.is_ok_and(|namespace| namespace != hosts)
        });
        (found.len() == wanted).then_some(found)
    })
    .await
}

fn is_one_of(waiting: &BTreeMap<i32, String>, node: &Node, pod: &Pod<'_>) -> bool {
    waiting.get(&monitor_of(node, pod).as_raw_nonzero().get()) == Some(&pod.id)
}

/// What a container and the node see of a pod, without what no two pods share.
async fn appearance(node: &Node, pod: &Pod<'_>) -> String {
    let container = pod.start(|_| {}).await;
    let seen = container
        .sh(
            "hostname; cat /etc/hosts | tail -n 1 | cut -f 2; ls /sys/class/net; \
             cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range \
             /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/kernel/shmmni /sys/class/net/lo/flags; \
             cat /proc/1/comm; ls /dev/shm /proc/self/fd; ls /dev/mqueue 2>&1; id; cat /proc/self/oom_score_adj",
        )
        .await;
    let monitor = monitor_of(node, pod).as_raw_nonzero().get();
    let of_node = |file: &str| std::fs::read_to_string(format!("/proc/{monitor}/{file}")).expect("a file");
    let cgroup = of_node("cgroup");
    let names = std::fs::read_dir("/proc/self/ns").expect("namespaces").flatten();
    let shared: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            link("self") == link(&monitor.to_string())
        })
        .collect();
    let config = pod.config.clone();
    let uid = &config.metadata.as_ref().expect("metadata").uid;
    let own = cgroup.replace(&pod.id, "ID").replace(uid.as_str(), "UID");
    let own = own.replace(&uid.replace('-', "_"), "UID");
    let score = of_node("oom_score_adj");
    format!("{seen}{own}{shared:?}{score}")
}

pub(crate) const TWO: &str = "[sandbox]\nwarm = 2\n";

/// A pod gets a monitor that has waited, and cannot be told from one that did not.
#[test]
#[ignore = "needs root"]
fn a_pod_gets_a_monitor_that_has_waited() {
    on_own_node(async |node| {
        let named = |config: &mut v1::PodSandboxConfig| config.hostname = "hearth".to_owned();
        let cold = node.pod_with(named).await;
        let expected = appearance(node, &cold).await;
        node.restart_with(Some(TWO)).await;
        let ready = waiting(node, &[&cold], 2).await;
        let warm = node.pod_with(named).await;
        assert!(is_one_of(&ready, node, &warm), "{ready:?}");
        assert_eq!(appearance(node, &warm).await, expected);
        assert_ne!(warm.ip().await, cold.ip().await);
        // Its place is taken by another one.
        let again = waiting(node, &[&cold, &warm], 2).await;
        assert_ne!(again, ready);
        // With a pause process in its own cgroup.
        let shared = node.pod_with(share_pids).await;
        assert!(is_one_of(&again, node, &shared), "{again:?}");
        let first = shared.start(|_| {}).await;
        assert_eq!(first.sh("cat /proc/1/comm").await, "pause\n");
        for pod in [cold, warm, shared] {
            pod.remove().await;
        }
    });
}

/// What was made before anybody asked fits only pods that ask for nothing else.
#[test]
#[ignore = "needs root"]
fn a_pod_that_asks_for_other_namespaces_gets_a_new_monitor() {
    on_own_node(async |node| {
        node.restart_with(Some(TWO)).await;
        let ready = waiting(node, &[], 2).await;
        let on_host = node
            .pod_with(|config| {
                let options = pod_security(config).namespace_options.get_or_insert_default();
                options.set_network(v1::NamespaceMode::Node);
            })
            .await;
        let with_sysctl = node
            .pod_with(|config| {
                let linux = config.linux.get_or_insert_default();
                linux
                    .sysctls
                    .insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "77".to_owned());
            })
            .await;
        for pod in [&on_host, &with_sysctl] {
            assert!(!is_one_of(&ready, node, pod));
        }
        let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(with_sysctl.sh(script).await, "77\n");
        assert_eq!(waiting(node, &[&on_host, &with_sysctl], 2).await, ready);
        on_host.remove().await;
        with_sysctl.remove().await;
    });
}

/// Monitors that wait end with their daemon; pods that have got one do not.
#[test]
#[ignore = "needs root"]
fn monitors_that_wait_end_with_their_daemon() {
    on_own_node(async |node| {
        node.restart_with(Some(TWO)).await;
        waiting(node, &[], 2).await;
        let pod = node.pod().await;
        let ready = waiting(node, &[&pod], 2).await;
        node.kill_and_restart_daemon().await;
        eventually("those that waited are gone", async || {
            let live = |pid: &i32| command(*pid).starts_with("pausa-monitor");
            (!ready.keys().any(live)).then_some(())
        })
        .await;
        assert_eq!(pod.sh("echo works").await, "works\n");
        let others = waiting(node, &[&pod], 2).await;
        assert!(others.keys().all(|pid| !ready.contains_key(pid)));
        pod.remove().await;
    });
}

/// More pods than monitors that wait, one of which has died.
#[test]
#[ignore = "needs root"]
fn more_pods_than_wait_are_made_all_the_same() {
    on_own_node(async |node| {
        node.pull("base").await;
        node.restart_with(Some(TWO)).await;
        let ready = waiting(node, &[], 2).await;
        let victim = ready
            .keys()
            .next()
            .copied()
            .and_then(rustix::process::Pid::from_raw);
        let victim = victim.expect("a process id");
        rustix::process::kill_process(victim, rustix::process::Signal::KILL).expect("kill");
        let configs: Vec<_> = (0..6).map(|_| node.pod_config()).collect();
        let pods = futures_util::future::join_all(configs.into_iter().map(|config| node.run_pod(config)));
        let pods = pods.await;
        let taken = pods.iter().filter(|pod| is_one_of(&ready, node, pod)).count();
        assert_eq!(taken, 1);
        for pod in pods {
            assert_eq!(pod.sh("echo works").await, "works\n");
            pod.remove().await;
        }
        waiting(node, &[], 2).await;
    });
}
