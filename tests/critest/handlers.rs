//! What the configuration of a runtime handler adds to containers, and who owns their devices.

use pausa::proto::v1;

use crate::harness::cgroup::value;
use crate::harness::node::{Node, reference, spec};
use crate::harness::pod::security;
use crate::harness::{Container, Pod, ok, on_own_node};

async fn pod_of<'a>(node: &'a Node, handler: &str) -> Pod<'a> {
    let config = node.pod_config();
    std::fs::create_dir_all(&config.log_directory).expect("a log directory");
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let answer = node.runtime().run_pod_sandbox(request).await;
    let id = answer.expect("RunPodSandbox").into_inner().pod_sandbox_id;
    node.remember(&id);
    Pod { node, id, config }
}

/// `default_ulimits`, `default_env` and `pids_limit`, for the first process and for an exec, also one by a later daemon
/// with another configuration. The image's variables and CRI's come after the handler's.
#[test]
#[ignore = "needs root"]
fn a_handlers_defaults_are_in_force() {
    on_own_node(async |node| {
        node.pull("base").await;
        node.pull("rich").await;
        let configuration = "[handlers.limited]\npids_limit = 7\ndefault_ulimits = [\"nofile=321:654\", \"core=0\"]\n\
                             default_env = [\"FROM=node\", \"CRI=node\", \"ONLY=node\"]\n";
        node.restart_with(Some(configuration)).await;
        let limited = pod_of(node, "limited").await;
        let script = "ulimit -Sn; ulimit -Hn; ulimit -c; echo $FROM $CRI $ONLY; \
                      i=0; while [ $i -lt 9 ]; do sleep 2 & i=$((i+1)); done";
        let container = limited
            .start(|config| {
                config.image = Some(spec(&reference("rich")));
                config.envs = vec![v1::KeyValue {
                    key: "CRI".to_owned(),
                    value: b"pod".to_vec(),
                }];
            })
            .await;
        let check = async || {
            let done = container.exec(&["sh", "-c", script]).await;
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert_eq!(said, "321\n654\n0\nimage pod node\n");
            let error = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.exit_code != 0 && error.contains("fork"), "{error}");
        };
        let first =
            "tr '\\0' '\\n' < /proc/1/environ | grep ONLY; grep -E 'open files' /proc/1/limits | tr -s ' '";
        assert_eq!(
            container.sh(first).await,
            "ONLY=node\nMax open files 321 654 files \n"
        );
        check().await;
        // Nothing of it in a pod of another handler.
        let plain = node.pod().await.sh("echo \"<$ONLY>\"; ulimit -Sn").await;
        assert!(plain.starts_with("<>\n") && !plain.contains("321"), "{plain}");
        // A change of the limits in place keeps this one.
        let change = v1::LinuxContainerResources {
            cpu_shares: 200,
            ..Default::default()
        };
        let answer = container.try_update(change).await;
        answer.expect("UpdateContainerResources");
        check().await;
        node.restart_with(None).await;
        check().await;
    });
}

/// Quota and burst of a container, as the kernel has them.
async fn quota_and_burst(container: &Container<'_>) -> [String; 2] {
    let pid = container.pid().await;
    let quota = value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    let burst = value(pid, "cpu", "cpu.cfs_burst_us", "cpu.max.burst");
    [quota.split(' ').next().unwrap_or_default().to_owned(), burst]
}

fn quota(cpu_quota: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_quota,
        cpu_period: 100_000,
        ..Default::default()
    }
}

/// `cpu_burst`: a part of the quota, whichever that is, with a daemon that knows it and one that does not.
#[test]
#[ignore = "needs root"]
fn a_handlers_burst_follows_the_quota() {
    on_own_node(async |node| {
        node.pull("base").await;
        node.restart_with(Some("[handlers.bursty]\ncpu_burst = 50\n"))
            .await;
        let pod = pod_of(node, "bursty").await;
        let container = pod.start_with(quota(20_000)).await;
        assert_eq!(quota_and_burst(&container).await, ["20000", "10000"]);
        let in_spec = async || {
            let details = container.details().await;
            details["runtimeSpec"]["linux"]["resources"]["cpu"]["burst"].clone()
        };
        assert_eq!(in_spec().await, 10_000);
        for (new, burst) in [(60_000, 30_000), (10_000, 5_000)] {
            ok("Update", container.try_update(quota(new)).await);
            let expected = [new.to_string(), burst.to_string()];
            assert_eq!(quota_and_burst(&container).await, expected);
            assert_eq!(in_spec().await, burst);
        }
        // Refused after quota and burst were written.
        let half = v1::LinuxContainerResources {
            cpuset_cpus: "4096".to_owned(),
            ..quota(4_000)
        };
        container
            .try_update(half)
            .await
            .expect_err("there is no such CPU");
        assert_eq!(quota_and_burst(&container).await, ["10000", "5000"]);
        let unlimited = pod.start(|_| {}).await;
        assert_eq!(quota_and_burst(&unlimited).await[1], "0");
        // It is the container's from its creation on.
        node.restart_with(None).await;
        ok("Update", container.try_update(quota(40_000)).await);
        assert_eq!(quota_and_burst(&container).await, ["40000", "20000"]);
        let later = pod.start_with(quota(20_000)).await;
        assert_eq!(quota_and_burst(&later).await, ["20000", "0"]);
    });
}

/// `device_ownership_from_security_context`, as in containerd and CRI-O.
#[test]
#[ignore = "needs root"]
fn devices_belong_to_the_user_where_that_is_configured() {
    on_own_node(async |node| {
        let owners = async || {
            let pod = node.pod().await;
            let change = |config: &mut v1::ContainerConfig| {
                config.devices = vec![v1::Device {
                    container_path: "/dev/mine".to_owned(),
                    host_path: "/dev/full".to_owned(),
                    permissions: "rw".to_owned(),
                }];
                security(config).run_as_user = Some(v1::Int64Value { value: 1000 });
                security(config).run_as_group = Some(v1::Int64Value { value: 2000 });
            };
            pod.sh_with(
                "stat -c %u:%g /dev/mine /dev/null; dd if=/dev/mine of=/dev/null bs=1 count=1 2>/dev/null",
                change,
            )
            .await
        };
        assert_eq!(owners().await, "0:0\n0:0\n");
        node.restart_with(Some("device_ownership_from_security_context = true\n"))
            .await;
        assert_eq!(owners().await, "1000:2000\n0:0\n");
    });
}
