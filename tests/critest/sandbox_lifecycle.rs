//! Pods: run, list, status, stop, remove, in any order and as often as kubelet likes.

use pausa::proto::v1;
use pausa::proto::v1::PodSandboxState;
use tonic::Code;

use crate::harness::{Node, ok, on_node, on_pausa, refused};

const MISSING: &str = "0000000000000000000000000000000000000000000000000000000000000001";

async fn list(node: &Node, filter: v1::PodSandboxFilter) -> Vec<v1::PodSandbox> {
    let request = v1::ListPodSandboxRequest { filter: Some(filter) };
    ok("ListPodSandbox", node.runtime().list_pod_sandbox(request).await).items
}

fn by_id(id: &str) -> v1::PodSandboxFilter {
    v1::PodSandboxFilter {
        id: id.to_owned(),
        ..Default::default()
    }
}

/// CRI `PodSandboxStatus`: kubelet verifies id, metadata, state and created_at, and uses labels and annotations as its memory.
#[test]
#[ignore = "needs root"]
fn the_status_says_what_was_asked_for() {
    on_node(async |node| {
        let before = jiff::Timestamp::now().as_nanosecond();
        let pod = node
            .pod_with(|config| {
                config.labels.insert("custom".to_owned(), "label".to_owned());
                config.annotations.insert(
                    "with/slash".to_owned(),
                    "{\"json\": \"kept\", \"ünï\": 1}".to_owned(),
                );
                config.annotations.insert("empty".to_owned(), String::new());
            })
            .await;
        let status = pod.status().await;
        assert_eq!(status.id, pod.id);
        assert_eq!(status.metadata, pod.config.metadata);
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(status.labels, pod.config.labels);
        assert_eq!(
            status.annotations, pod.config.annotations,
            "annotations come back unchanged"
        );
        assert!(
            i128::from(status.created_at) >= before,
            "nanoseconds since the epoch"
        );
        let options = status
            .linux
            .and_then(|l| l.namespaces)
            .and_then(|n| n.options)
            .expect("namespaces");
        assert_eq!(options.pid(), v1::NamespaceMode::Container);
        assert_eq!(options.network(), v1::NamespaceMode::Pod);
        assert_eq!(status.runtime_handler, "");
    });
}

/// CRI ids: 64 hexadecimal characters, by which cAdvisor recognises cgroups.
#[test]
#[ignore = "needs root"]
fn the_id_is_64_hexadecimal_characters() {
    on_node(async |node| {
        let pod = node.pod().await;
        assert_eq!(pod.id.len(), 64);
        assert!(
            pod.id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{}",
            pod.id
        );
    });
}

/// CRI `PodSandboxStatusResponse.info` for verbose requests: JSON with `pid`-style facts that crictl inspectp shows.
#[test]
#[ignore = "needs root"]
fn the_verbose_status_is_json_and_has_the_configuration() {
    on_node(async |node| {
        let pod = node.pod().await;
        let json = pod.details().await;
        assert_eq!(json["config"]["hostname"], pod.config.hostname.as_str(), "{json}");
    });
}

/// CRI StopPodSandbox: "This call is idempotent, and must not return an error if all relevant resources have already been reclaimed."
#[test]
#[ignore = "needs root"]
fn stopping_twice_is_stopping_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        pod.stop().await;
        assert_eq!(pod.status().await.state(), PodSandboxState::SandboxNotready);
        pod.stop().await;
        assert_eq!(pod.status().await.state(), PodSandboxState::SandboxNotready);
    });
}

/// CRI RemovePodSandbox: "If there are any running containers in the sandbox, they must be forcibly terminated and removed."
#[test]
#[ignore = "needs root"]
fn removing_a_running_pod_ends_everything_in_it() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let pid = container.pid().await;
        pod.remove().await;
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} lives on"
        );
        refused(Code::NotFound, container.try_status(false).await);
    });
}

/// CRI Stop/RemovePodSandbox: idempotent, also for a pod that nobody knows (any more).
#[test]
#[ignore = "needs root"]
fn stopping_and_removing_an_unknown_pod_succeeds() {
    on_node(async |node| {
        let pod = node.pod().await;
        pod.remove().await;
        pod.remove().await;
        pod.stop().await;
        let mut runtime = node.runtime();
        let missing = || MISSING.to_owned();
        ok(
            "Stop",
            runtime
                .stop_pod_sandbox(v1::StopPodSandboxRequest {
                    pod_sandbox_id: missing(),
                })
                .await,
        );
        ok(
            "Remove",
            runtime
                .remove_pod_sandbox(v1::RemovePodSandboxRequest {
                    pod_sandbox_id: missing(),
                })
                .await,
        );
    });
}

/// kubelet takes NotFound of a status for "already gone", and any other code for trouble.
#[test]
#[ignore = "needs root"]
fn the_status_of_an_unknown_pod_is_not_found() {
    on_node(async |node| {
        let pod = node.pod().await;
        pod.remove().await;
        for id in [pod.id.as_str(), MISSING] {
            let request = v1::PodSandboxStatusRequest {
                pod_sandbox_id: id.to_owned(),
                verbose: false,
            };
            let text = refused(Code::NotFound, node.runtime().pod_sandbox_status(request).await);
            assert!(!node.is_pausa() || text.contains(&id[..13]), "{text}");
        }
    });
}

/// CreateContainer in a pod that is not there, or not READY, is refused.
#[test]
#[ignore = "needs root"]
fn an_unknown_or_stopped_pod_takes_no_container() {
    on_node(async |node| {
        let pod = node.pod().await;
        let config = pod.container_config();
        pod.stop().await;
        assert!(pod.try_create(&config).await.is_err(), "the pod is stopped");
        pod.remove().await;
        refused(Code::NotFound, pod.try_create(&config).await);
    });
}

/// CRI ids: crictl sends the first 13 characters.
#[test]
#[ignore = "needs root"]
fn a_unique_prefix_of_the_id_will_do() {
    on_node(async |node| {
        let pod = node.pod().await;
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.id[..13].to_owned(),
            verbose: false,
        };
        let status = ok(
            "PodSandboxStatus",
            node.runtime().pod_sandbox_status(request).await,
        );
        assert_eq!(status.status.expect("a status").id, pod.id);
        let found = list(node, by_id(&pod.id[..13])).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, pod.id);
    });
}

/// kubelet repeats RunPodSandbox after its own deadline: the same request is the same pod.
#[test]
#[ignore = "needs root"]
fn the_same_request_again_is_the_same_pod() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let again = ok("RunPodSandbox", node.try_pod(&pod.config).await).pod_sandbox_id;
        assert_eq!(again, pod.id);
        assert_eq!(list(node, by_id(&pod.id)).await.len(), 1);
    });
}

/// Ten requests for one pod at the same time, as after a storm of deadlines.
#[test]
#[ignore = "needs root"]
fn the_same_request_ten_times_at_once_is_one_pod() {
    on_pausa(async |node| {
        node.pull("base").await;
        let config = node.pod_config();
        let calls = (0..10).map(|_| node.try_pod(&config));
        let ids = futures_util::future::join_all(calls).await;
        let ids: std::collections::BTreeSet<_> = ids
            .into_iter()
            .map(|answer| ok("RunPodSandbox", answer).pod_sandbox_id)
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    });
}

/// CRI `PodSandboxMetadata.attempt`: kubelet's next attempt is another pod beside the stopped one.
#[test]
#[ignore = "needs root"]
fn the_next_attempt_is_another_pod() {
    on_node(async |node| {
        let first = node.pod().await;
        first.stop().await;
        let mut config = first.config.clone();
        config.metadata.as_mut().expect("metadata").attempt = 1;
        let second = node.run_pod(config).await;
        assert_ne!(first.id, second.id);
        assert_eq!(first.status().await.state(), PodSandboxState::SandboxNotready);
        assert_eq!(second.status().await.state(), PodSandboxState::SandboxReady);
    });
}

/// The client's deadline ends its waiting, not the work: the retry gets the pod (operations outlive requests).
#[test]
#[ignore = "needs root"]
fn a_request_that_the_client_gave_up_on_is_not_lost() {
    on_pausa(async |node| {
        node.pull("base").await;
        let config = node.pod_config();
        std::fs::create_dir_all(&config.log_directory).expect("a directory");
        for millis in [1, 3, 9] {
            let request = v1::RunPodSandboxRequest {
                config: Some(config.clone()),
                ..Default::default()
            };
            let mut request = tonic::Request::new(request);
            request.set_timeout(std::time::Duration::from_millis(millis));
            if let Ok(answer) = node.runtime().run_pod_sandbox(request).await {
                node.remember(&answer.get_ref().pod_sandbox_id);
            }
        }
        let id = ok("RunPodSandbox", node.try_pod(&config).await).pod_sandbox_id;
        let uid = config.labels["io.kubernetes.pod.uid"].as_str();
        let selector = crate::harness::map(&[("io.kubernetes.pod.uid", uid)]);
        let found = list(
            node,
            v1::PodSandboxFilter {
                label_selector: selector,
                ..Default::default()
            },
        )
        .await;
        assert_eq!(found.len(), 1, "one pod for one uid");
        assert_eq!(found[0].id, id);
    });
}

/// CRI ListPodSandbox with every kind of filter, alone and together; an unknown id is an empty list.
#[test]
#[ignore = "needs root"]
fn the_list_can_be_filtered() {
    on_node(async |node| {
        let mark = format!("{}", std::process::id());
        let label = |config: &mut v1::PodSandboxConfig, value: &str| {
            config.labels.insert("mark".to_owned(), mark.clone());
            config.labels.insert("which".to_owned(), value.to_owned());
        };
        let ready = node.pod_with(|config| label(config, "ready")).await;
        let stopped = node.pod_with(|config| label(config, "stopped")).await;
        stopped.stop().await;
        let marked = |state: Option<PodSandboxState>, pairs: &[(&str, &str)]| v1::PodSandboxFilter {
            state: state.map(|state| v1::PodSandboxStateValue { state: state.into() }),
            label_selector: crate::harness::map(&[&[("mark", mark.as_str())], pairs].concat()),
            ..Default::default()
        };
        let ids = async |filter| {
            let mut ids: Vec<_> = list(node, filter).await.into_iter().map(|pod| pod.id).collect();
            ids.sort();
            ids
        };
        let mut both = vec![ready.id.clone(), stopped.id.clone()];
        both.sort();
        assert_eq!(ids(marked(None, &[])).await, both);
        assert_eq!(
            ids(marked(Some(PodSandboxState::SandboxReady), &[])).await,
            [ready.id.as_str()]
        );
        assert_eq!(
            ids(marked(Some(PodSandboxState::SandboxNotready), &[])).await,
            [stopped.id.as_str()]
        );
        assert_eq!(
            ids(marked(None, &[("which", "stopped")])).await,
            [stopped.id.as_str()]
        );
        assert!(
            ids(marked(
                Some(PodSandboxState::SandboxReady),
                &[("which", "stopped")]
            ))
            .await
            .is_empty()
        );
        assert!(ids(marked(None, &[("which", "neither")])).await.is_empty());
        assert_eq!(ids(by_id(&ready.id)).await, [ready.id.as_str()]);
        assert!(ids(by_id(MISSING)).await.is_empty());
    });
}

/// CRI `PodSandbox` in lists carries what kubelet needs without asking for each status.
#[test]
#[ignore = "needs root"]
fn the_list_has_metadata_labels_and_annotations() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| drop(config.annotations.insert("a".to_owned(), "b".to_owned())))
            .await;
        let [item] = &list(node, by_id(&pod.id)).await[..] else {
            panic!("one pod")
        };
        assert_eq!(item.metadata, pod.config.metadata);
        assert_eq!(item.labels, pod.config.labels);
        assert_eq!(item.annotations, pod.config.annotations);
        assert_eq!(item.created_at, pod.status().await.created_at);
    });
}

/// CRI UpdatePodSandboxResources (KEP-1287, KEP-2837): shown, kept, and an unknown pod is NotFound. The cgroup is kubelet's.
#[test]
#[ignore = "needs root"]
fn updating_the_resources_of_a_pod() {
    on_pausa(async |node| {
        let shares = |cpu_shares| v1::LinuxContainerResources {
            cpu_shares,
            ..Default::default()
        };
        let pod = node
            .pod_with(|config| {
                let linux = config.linux.get_or_insert_default();
                linux.overhead = Some(shares(128));
                linux.resources = Some(shares(256));
            })
            .await;
        let shown = async || {
            let info = pod.details().await;
            let of = |what: &str| info[what]["cpu_shares"].as_i64();
            (of("overhead"), of("resources"))
        };
        assert_eq!(shown().await, (Some(128), Some(256)));
        ok("Update", pod.try_update(shares(512)).await);
        assert_eq!(shown().await, (Some(128), Some(512)));
        // The request for the same pod still finds it.
        let again = ok("RunPodSandbox", node.try_pod(&pod.config).await);
        assert_eq!(again.pod_sandbox_id, pod.id);
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: MISSING.to_owned(),
            overhead: Some(shares(64)),
            ..Default::default()
        };
        let mut runtime = node.runtime();
        refused(
            Code::NotFound,
            runtime.update_pod_sandbox_resources(request).await,
        );
    });
}

/// An unknown runtime handler is the request's fault, and leaves nothing behind.
#[test]
#[ignore = "needs root"]
fn an_unknown_runtime_handler_is_refused() {
    on_node(async |node| {
        let request = v1::RunPodSandboxRequest {
            config: Some(node.pod_config()),
            runtime_handler: "no-such-handler".to_owned(),
        };
        let status = node
            .runtime()
            .run_pod_sandbox(request)
            .await
            .expect_err("no such handler");
        assert!(
            status.message().contains("no-such-handler"),
            "{}",
            status.message()
        );
    });
}
