//! NRI: what plugins are told, in which order, and what they change.
//!
//! Sources: the protocol of NRI 0.12; `docs/design/0023-nri.md`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pausa::proto::v1;
use pausa_nri::proto::{
    Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, CreateContainerResponse, Hook, Hooks,
    IoPrioClass, KeyValue, LinuxContainerAdjustment, LinuxContainerUpdate, LinuxCpu, LinuxDevice,
    LinuxIoPriority, LinuxMemory, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxResources, LinuxScheduler,
    LinuxSchedulerPolicy, LinuxSeccomp, LinuxSyscall, Mount, OptionalFileMode, OptionalInt, OptionalInt64,
    OptionalUInt32, OptionalUInt64, PosixRlimit, RunPodSandboxRequest, StopContainerRequest,
    SynchronizeRequest, UpdateContainerRequest, UpdateContainerResponse, UpdateContainersRequest,
    UpdateContainersResponse,
};
use pausa_nri::testing::{Called, FakePlugin};
use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use crate::harness::cgroup::{is_v2, value};
use crate::harness::daemon::Daemon;
use crate::harness::{Node, eventually, ok, on_own_node, refused};

/// What a plugin does with a call.
enum Answer {
    /// Nothing to say.
    Empty,
    Message(Vec<u8>),
    Fail(&'static str),
    /// It never answers.
    Hang,
}

impl Answer {
    fn message(message: &impl prost::Message) -> Self {
        Self::Message(message.encode_to_vec())
    }
}

/// A method, and the message that it was called with.
type Call = (String, Vec<u8>);

/// A plugin that answers in the background and remembers what it was told.
struct Plugin {
    told: Arc<Mutex<Vec<Call>>>,
    /// What it was told when it was synchronized.
    known: SynchronizeRequest,
    asks: mpsc::UnboundedSender<(UpdateContainersRequest, oneshot::Sender<UpdateContainersResponse>)>,
}

impl Plugin {
    async fn join(node: &Node, index: &str, answer: impl Fn(&Called) -> Answer + Send + 'static) -> Self {
        let (mut plugin, known) = FakePlugin::join(&socket(node), index, "test", 0).await;
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let (asks, mut asked) = mpsc::unbounded_channel();
        let memory = Arc::clone(&told);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    call = plugin.next_call() => {
                        let Some(call) = call else { return };
                        memory.lock().push((call.method.clone(), call.payload.to_vec()));
                        match answer(&call) {
                            Answer::Empty => plugin.answer_bytes(call.stream, Vec::new().into()).await,
                            Answer::Message(bytes) => plugin.answer_bytes(call.stream, bytes.into()).await,
                            Answer::Fail(why) => plugin.fail(call.stream, 2, why).await,
                            Answer::Hang => std::future::pending().await,
                        }
                    }
                    Some((request, reply)) = asked.recv() => {
                        let reply: oneshot::Sender<UpdateContainersResponse> = reply;
                        let answered = plugin.call("UpdateContainers", &request).await.expect("an answer");
                        reply.send(answered).ok();
                    }
                }
            }
        });
        let joined = Self { told, known, asks };
        eventually("the plugin is in the set", async || {
            let status = status(node).await;
            let name = format!("{index}-test");
            status["plugins"]
                .as_array()?
                .iter()
                .any(|plugin| plugin["name"] == name)
                .then_some(())
        })
        .await;
        joined
    }

    /// One that says nothing.
    async fn silent(node: &Node) -> Self {
        Self::join(node, "50", |_| Answer::Empty).await
    }

    fn methods(&self) -> Vec<String> {
        self.told
            .lock()
            .iter()
            .map(|(method, _)| method.clone())
            .collect()
    }

    /// What it was told by the last call of a method.
    fn last<M: prost::Message + Default>(&self, method: &str) -> M {
        let told = self.told.lock();
        let payload = told.iter().rev().find(|(name, _)| name == method);
        let (_, payload) = payload.unwrap_or_else(|| panic!("no {method}"));
        M::decode(payload.as_slice()).expect("a message")
    }

    async fn ask(&self, request: UpdateContainersRequest) -> UpdateContainersResponse {
        let (reply, answered) = oneshot::channel();
        self.asks.send((request, reply)).expect("the plugin lives");
        answered.await.expect("an answer")
    }
}

fn socket(node: &Node) -> PathBuf {
    node.dir().join("nri.sock")
}

/// A node with NRI, and nothing in its directory of plugins.
async fn enable(node: &Node, more: &str) {
    node.pull("base").await;
    let dir = node.dir().display();
    let config = format!(
        "[nri]\nenable = true\nsocket_path = \"{dir}/nri.sock\"\nplugin_path = \"{dir}/plugins\"\n\
         plugin_config_path = \"{dir}/conf.d\"\n{more}"
    );
    node.restart_with(Some(&config)).await;
}

/// What Status says of NRI.
async fn status(node: &Node) -> serde_json::Value {
    let request = v1::StatusRequest { verbose: true };
    let status = ok("Status", node.runtime().status(request).await);
    serde_json::from_str(&status.info["nri"]).expect("JSON")
}

fn adjusting(adjust: ContainerAdjustment) -> impl Fn(&Called) -> Answer + Send + 'static {
    move |call| match call.method.as_str() {
        "CreateContainer" => Answer::message(&CreateContainerResponse {
            adjust: Some(adjust.clone()),
            ..Default::default()
        }),
        _ => Answer::Empty,
    }
}

fn update(id: &str, resources: LinuxResources) -> ContainerUpdate {
    ContainerUpdate {
        container_id: id.to_owned(),
        linux: Some(LinuxContainerUpdate {
            resources: Some(resources),
        }),
        ignore_failure: false,
    }
}

fn shares(shares: u64) -> LinuxResources {
    LinuxResources {
        cpu: Some(LinuxCpu {
            shares: Some(OptionalUInt64 { value: shares }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// All events of a pod and a container, each once and in order, whoever ends the container.
#[test]
#[ignore = "needs root"]
fn plugins_are_told_of_everything_in_order() {
    on_own_node(async |node| {
        enable(node, "").await;
        let plugin = Plugin::silent(node).await;
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let change = v1::LinuxContainerResources {
            cpu_shares: 300,
            ..Default::default()
        };
        ok("Update", container.try_update(change.clone()).await);
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.id.clone(),
            resources: Some(change),
            ..Default::default()
        };
        ok(
            "UpdatePod",
            node.runtime().update_pod_sandbox_resources(request).await,
        );
        container.stop(0).await;
        container.remove().await;
        let second = pod.start(|config| config.command = vec!["true".into()]).await;
        second.end().await;
        pod.stop().await;
        pod.remove().await;
        let of_container = |ended: &[&'static str]| {
            [
                &[
                    "CreateContainer",
                    "ValidateContainerAdjustment",
                    "PostCreateContainer",
                    "StartContainer",
                    "PostStartContainer",
                ],
                ended,
            ]
            .concat()
        };
        let expected = [
            vec!["RunPodSandbox"],
            of_container(&["UpdateContainer", "PostUpdateContainer"]),
            vec![
                "UpdatePodSandbox",
                "PostUpdatePodSandbox",
                "StopContainer",
                "RemoveContainer",
            ],
            of_container(&[
                "StopContainer",
                "StopPodSandbox",
                "RemoveContainer",
                "RemovePodSandbox",
            ]),
        ]
        .concat();
        assert_eq!(plugin.methods(), expected);
        let told: RunPodSandboxRequest = plugin.last("RunPodSandbox");
        let told = told.pod.expect("a pod");
        let metadata = pod.config.metadata.clone().expect("metadata");
        assert_eq!(
            (told.id, told.name, told.uid),
            (pod.id.clone(), metadata.name, metadata.uid)
        );
        assert_eq!(told.namespace, metadata.namespace);
        assert!(!told.ips.is_empty() && told.pid > 0, "{:?}", told.ips);
        let told: UpdateContainerRequest = plugin.last("UpdateContainer");
        let told = told.container.expect("a container");
        assert_eq!(
            (told.id.as_str(), told.pod_sandbox_id.as_str()),
            (container.id.as_str(), pod.id.as_str())
        );
        assert_eq!(told.args, container.config.command);
        assert!(told.pid > 0 && told.started_at > 0 && !told.mounts.is_empty());
        let told: StopContainerRequest = plugin.last("StopContainer");
        let told = told.container.expect("a container");
        assert_eq!(
            (told.id.as_str(), told.exit_code, told.status_reason.as_str()),
            (second.id.as_str(), 0, "Completed")
        );
    });
}

/// Everything that can be adjusted reaches the container, and stays after a restart of the daemon.
#[test]
#[ignore = "needs root"]
fn a_container_is_made_as_plugins_want() {
    on_own_node(async |node| {
        let dir = node.dir().to_owned();
        std::fs::create_dir_all(dir.join("data")).expect("a directory");
        std::fs::write(dir.join("data/file"), "data\n").expect("a file");
        enable(node, "").await;
        let hooked = dir.join("hooked");
        let adjust = ContainerAdjustment {
            annotations: [("added".to_owned(), "yes".to_owned())].into(),
            mounts: vec![Mount {
                destination: "/data".to_owned(),
                r#type: "bind".to_owned(),
                source: dir.join("data").display().to_string(),
                options: ["rbind", "ro"].map(str::to_owned).to_vec(),
            }],
            env: vec![KeyValue {
                key: "NRI".to_owned(),
                value: "was here".to_owned(),
            }],
            hooks: Some(Hooks {
                poststop: vec![Hook {
                    path: "/bin/sh".to_owned(),
                    args: ["sh", "-c", &format!("echo done > {}", hooked.display())]
                        .map(str::to_owned)
                        .to_vec(),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            rlimits: vec![PosixRlimit {
                r#type: "RLIMIT_NOFILE".to_owned(),
                hard: 512,
                soft: 256,
            }],
            linux: Some(LinuxContainerAdjustment {
                devices: vec![LinuxDevice {
                    path: "/dev/injected".to_owned(),
                    r#type: "c".to_owned(),
                    major: 1,
                    minor: 5,
                    file_mode: Some(OptionalFileMode { value: 0o666 }),
                    ..Default::default()
                }],
                resources: Some(LinuxResources {
                    memory: Some(LinuxMemory {
                        limit: Some(OptionalInt64 { value: 64 << 20 }),
                        ..Default::default()
                    }),
                    pids: Some(LinuxPids { limit: 77 }),
                    ..shares(512)
                }),
                oom_score_adj: Some(OptionalInt { value: 555 }),
                io_priority: Some(LinuxIoPriority {
                    class: IoPrioClass::IoprioClassBe.into(),
                    priority: 6,
                }),
                scheduler: Some(LinuxScheduler {
                    policy: LinuxSchedulerPolicy::SchedBatch.into(),
                    nice: 5,
                    ..Default::default()
                }),
                sysctl: [("kernel.shmmni".to_owned(), "1234".to_owned())].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let _plugin = Plugin::join(node, "10", adjusting(adjust)).await;
        let pod = node.pod().await;
        let container = pod.create(pod.container_config()).await;
        // Started by another daemon, from the bundle, and without the plugin.
        node.kill_and_restart_daemon().await;
        container.start().await;
        let pid = container.pid().await;
        assert_eq!(container.sh("echo $NRI").await, "was here\n");
        assert_eq!(
            container
                .sh("cat /data/file; touch /data/x 2>&1 | grep -o Read-only")
                .await,
            "data\nRead-only\n"
        );
        assert_eq!(container.sh("ulimit -n; ulimit -Hn").await, "256\n512\n");
        assert_eq!(
            container.sh("head -c1 /dev/injected | od -An -tx1").await.trim(),
            "00"
        );
        assert_eq!(container.sh("cat /proc/sys/kernel/shmmni").await, "1234\n");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        // nice, and SCHED_BATCH, see proc_pid_stat(5).
        assert_eq!((fields[16], fields[38]), ("5", "3"));
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("procfs");
        assert_eq!(score.trim(), "555");
        let shares_now = value(pid, "cpu", "cpu.shares", "cpu.weight");
        assert!(["512", "59"].contains(&shares_now.trim()), "{shares_now}");
        assert_eq!(
            value(pid, "memory", "memory.limit_in_bytes", "memory.max").trim(),
            "67108864"
        );
        assert_eq!(value(pid, "pids", "pids.max", "pids.max").trim(), "77");
        let details = container.details().await;
        assert_eq!(details["runtimeSpec"]["annotations"]["added"], "yes");
        assert_eq!(details["runtimeSpec"]["linux"]["resources"]["cpu"]["shares"], 512);
        container.stop(0).await;
        assert!(hooked.exists(), "the hook has run when the container has stopped");
    });
}

/// `unified` reaches the kernel where there is cgroup v2. Elsewhere the container is refused, and the field is named.
#[test]
#[ignore = "needs root"]
fn plugins_set_files_of_cgroup_v2() {
    on_own_node(async |node| {
        enable(node, "").await;
        let adjust = ContainerAdjustment {
            linux: Some(LinuxContainerAdjustment {
                resources: Some(LinuxResources {
                    unified: [("memory.high".to_owned(), "33554432".to_owned())].into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let _plugin = Plugin::join(node, "10", adjusting(adjust)).await;
        let pod = node.pod().await;
        if is_v2() {
            let container = pod.start(|_| {}).await;
            let pid = container.pid().await;
            assert_eq!(value(pid, "memory", "", "memory.high").trim(), "33554432");
            return;
        }
        let container = pod.create(pod.container_config()).await;
        let error = container
            .try_start()
            .await
            .expect_err("version 1 has no such file");
        assert!(error.message().contains("unified"), "{error:?}");
    });
}

/// A device of the node's network, which is removed with the pod it was moved into.
fn dummy(name: &str) {
    let ip = |args: &[&str]| {
        let done = std::process::Command::new("ip").args(args).output().expect("ip");
        assert!(done.status.success(), "{done:?}");
    };
    ip(&[
        "link",
        "add",
        name,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{name}p"),
    ]);
    ip(&["address", "add", "192.0.2.77/24", "dev", name]);
}

/// What the kernel, not a file, has to say: another seccomp filter, another pod's network, a device of the node's.
#[test]
#[ignore = "needs root"]
fn plugins_change_namespaces_filters_and_network_devices() {
    on_own_node(async |node| {
        enable(node, "").await;
        let wanted: Arc<Mutex<LinuxContainerAdjustment>> = Arc::default();
        let answer = Arc::clone(&wanted);
        let _plugin = Plugin::join(node, "10", move |call| match call.method.as_str() {
            "CreateContainer" => Answer::message(&CreateContainerResponse {
                adjust: Some(ContainerAdjustment {
                    linux: Some(answer.lock().clone()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            _ => Answer::Empty,
        })
        .await;
        let (pod, other) = (node.pod().await, node.pod().await);
        let netns = format!("/var/run/netns/pausa-{}", &other.id[..32]);
        wanted.lock().namespaces = vec![LinuxNamespace {
            r#type: "network".to_owned(),
            path: netns,
        }];
        let address = pod.sh("ip -4 -o address show dev eth0").await;
        assert!(address.contains(&other.ip().await), "{address}");

        *wanted.lock() = LinuxContainerAdjustment {
            seccomp_policy: Some(LinuxSeccomp {
                default_action: "SCMP_ACT_ALLOW".to_owned(),
                syscalls: vec![LinuxSyscall {
                    names: vec!["mkdir".to_owned(), "mkdirat".to_owned()],
                    action: "SCMP_ACT_ERRNO".to_owned(),
                    errno_ret: Some(OptionalUInt32 { value: 28 }),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = pod.sh("mkdir /tmp/new 2>&1; true").await;
        assert!(refused.contains("No space left on device"), "{refused}");

        let name = format!("nri{}", std::process::id() % 100_000);
        dummy(&name);
        *wanted.lock() = LinuxContainerAdjustment {
            net_devices: [(
                name.clone(),
                LinuxNetDevice {
                    name: "data0".to_owned(),
                },
            )]
            .into(),
            ..Default::default()
        };
        for _attempt in 0..2 {
            let shown = pod.sh("ip -4 -o address show dev data0").await;
            assert!(shown.contains("192.0.2.77/24"), "{shown}");
        }
        let config = pod.container_config();
        *wanted.lock() = LinuxContainerAdjustment {
            cgroups_path: "/elsewhere".to_owned(),
            ..Default::default()
        };
        let message = refused_by(node, &pod, &config).await;
        assert!(message.contains("cgroups_path"), "{message}");
    });
}

async fn refused_by(node: &Node, pod: &crate::harness::pod::Pod<'_>, config: &v1::ContainerConfig) -> String {
    let message = refused(Code::Unimplemented, pod.try_create(config).await);
    let list = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            pod_sandbox_id: pod.id.clone(),
            state: Some(v1::ContainerStateValue {
                state: v1::ContainerState::ContainerCreated.into(),
            }),
            ..Default::default()
        }),
    };
    assert!(
        ok("List", node.runtime().list_containers(list).await)
            .containers
            .is_empty()
    );
    message
}

/// Updates of others in an answer, unsolicited ones, and evictions.
#[test]
#[ignore = "needs root"]
fn plugins_change_and_evict_other_containers() {
    on_own_node(async |node| {
        enable(node, "").await;
        let other: Arc<Mutex<String>> = Arc::default();
        let target = Arc::clone(&other);
        let plugin = Plugin::join(node, "10", move |call| match call.method.as_str() {
            "CreateContainer" if !target.lock().is_empty() => Answer::message(&CreateContainerResponse {
                update: vec![update(&target.lock(), shares(400))],
                ..Default::default()
            }),
            "UpdateContainer" => Answer::message(&UpdateContainerResponse {
                update: vec![update(
                    &call
                        .decode::<UpdateContainerRequest>()
                        .container
                        .unwrap_or_default()
                        .id,
                    shares(700),
                )],
                ..Default::default()
            }),
            _ => Answer::Empty,
        })
        .await;
        let pod = node.pod().await;
        let first = pod.start(|_| {}).await;
        other.lock().clone_from(&first.id);
        let second = pod.start(|_| {}).await;
        assert_eq!(
            first.resources().await.cpu_shares,
            400,
            "before the second was made"
        );
        // The plugin has its own opinion of what the client asks for.
        let change = v1::LinuxContainerResources {
            cpu_shares: 300,
            ..Default::default()
        };
        ok("Update", second.try_update(change).await);
        assert_eq!(second.resources().await.cpu_shares, 700);
        let unknown = update("0000", shares(1));
        let answered = plugin
            .ask(UpdateContainersRequest {
                update: vec![update(&first.id, shares(900)), unknown.clone()],
                evict: vec![ContainerEviction {
                    container_id: second.id.clone(),
                    reason: "room is needed".to_owned(),
                }],
            })
            .await;
        assert_eq!(answered.failed, [unknown]);
        assert_eq!(first.resources().await.cpu_shares, 900);
        assert_eq!(second.end().await.status.exit_code, 137);
        assert_eq!(
            first.status().await.state,
            v1::ContainerState::ContainerRunning as i32
        );
    });
}

/// A plugin that refuses a pod or a container leaves nothing of it, and the next attempt works.
#[test]
#[ignore = "needs root"]
fn what_a_plugin_refuses_is_undone() {
    on_own_node(async |node| {
        enable(node, "").await;
        let refuse = Arc::new(AtomicBool::new(true));
        let refuses = Arc::clone(&refuse);
        let plugin = Plugin::join(node, "10", move |call| {
            let refusing =
                ["RunPodSandbox", "CreateContainer", "StartContainer"].contains(&call.method.as_str());
            match refusing && refuses.load(Ordering::Relaxed) {
                true => Answer::Fail("not\nnow"),
                false => Answer::Empty,
            }
        })
        .await;
        let config = node.pod_config();
        let message = refused(Code::FailedPrecondition, node.try_pod(&config).await);
        assert!(
            message.contains("10-test") && message.contains("not now"),
            "{message}"
        );
        assert_eq!(
            plugin.methods(),
            ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
        );
        refuse.store(false, Ordering::Relaxed);
        let pod = node.run_pod(config).await;
        refuse.store(true, Ordering::Relaxed);
        let config = pod.container_config();
        refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert_eq!(
            plugin.methods()[4..],
            ["CreateContainer", "StopContainer", "RemoveContainer"]
        );
        refuse.store(false, Ordering::Relaxed);
        let container = pod.create(config).await;
        refuse.store(true, Ordering::Relaxed);
        refused(Code::FailedPrecondition, container.try_start().await);
        assert_eq!(container.status().await.reason, "StartError");
        container.remove().await;
        assert_eq!(
            plugin.methods()[7..],
            [
                "CreateContainer",
                "ValidateContainerAdjustment",
                "PostCreateContainer",
                "StartContainer",
                "StopContainer",
                "RemoveContainer"
            ]
        );
    });
}

/// One that hangs or dies costs its time limit once; the pod starts.
#[test]
#[ignore = "needs root"]
fn a_plugin_that_hangs_is_cut_off() {
    on_own_node(async |node| {
        enable(node, "plugin_request_timeout_seconds = 1\n").await;
        let hanging = Plugin::join(node, "10", |_| Answer::Hang).await;
        let healthy = Plugin::join(node, "20", |_| Answer::Empty).await;
        let pod = node.pod().await;
        assert_eq!(pod.sh("echo alive").await, "alive\n");
        assert_eq!(hanging.methods(), ["RunPodSandbox"]);
        assert_eq!(healthy.methods()[..2], ["RunPodSandbox", "CreateContainer"]);
        let plugins = status(node).await;
        assert_eq!(plugins["plugins"].as_array().map(Vec::len), Some(1), "{plugins}");
        assert!(node.daemon_log().contains("10-test"));
    });
}

/// A required plugin that is not there refuses containers, in a way that kubelet tries again, until it is.
#[test]
#[ignore = "needs root"]
fn containers_wait_for_a_required_plugin() {
    on_own_node(async |node| {
        enable(
            node,
            "default_validator = { enable = true, required_plugins = [\"test\"] }\n",
        )
        .await;
        let pod = node.pod().await;
        let config = pod.container_config();
        let message = refused(Code::Unavailable, pod.try_create(&config).await);
        assert!(message.contains("test"), "{message}");
        let plugin = Plugin::silent(node).await;
        let container = pod.create(config).await;
        container.start().await;
        assert!(plugin.methods().contains(&"CreateContainer".to_owned()));
    });
}

/// A plugin that comes later is told of what there is; of what ends it is told as any other. After a restart of the daemon it
/// may connect again.
#[test]
#[ignore = "needs root"]
fn a_plugin_that_comes_later_knows_what_there_is() {
    on_own_node(async |node| {
        enable(node, "").await;
        let pod = node.pod().await;
        let running = pod.start(|_| {}).await;
        let created = pod.create(pod.container_config()).await;
        let ended = pod.start(|config| config.command = vec!["true".into()]).await;
        ended.end().await;
        let check = |plugin: &Plugin| {
            let ids = |list: &[Container]| {
                list.iter()
                    .map(|one| one.id.clone())
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(
                plugin.known.pods.iter().map(|pod| &pod.id).collect::<Vec<_>>(),
                [&pod.id]
            );
            assert_eq!(
                ids(&plugin.known.containers),
                [running.id.clone(), created.id.clone()].into()
            );
        };
        let plugin = Plugin::silent(node).await;
        check(&plugin);
        node.daemon(Daemon::kill);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        let plugin = Plugin::silent(node).await;
        check(&plugin);
        running.stop(0).await;
        pod.stop().await;
        let methods = plugin.methods();
        assert_eq!(methods, ["StopContainer", "StopContainer", "StopPodSandbox"]);
    });
}
