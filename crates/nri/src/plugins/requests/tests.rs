use std::sync::Arc;

use super::*;
use crate::plugins::tests::{Node, mask};
use crate::proto::{
    Container, ContainerAdjustment, ContainerEviction, CreateContainerResponse, Hook, Hooks, KeyValue,
    LinuxContainerUpdate, LinuxCpu, LinuxResources, OptionalInt64, PodSandbox, UpdateContainerResponse,
};

fn creation() -> CreateContainerRequest {
    CreateContainerRequest {
        pod: Some(PodSandbox {
            id: "p".to_owned(),
            ..PodSandbox::default()
        }),
        container: Some(container("c")),
    }
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        name: id.to_owned(),
        env: vec!["A=1".to_owned()],
        ..Container::default()
    }
}

fn env(key: &str, value: &str) -> CreateContainerResponse {
    CreateContainerResponse {
        adjust: Some(ContainerAdjustment {
            env: vec![KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
            }],
            ..ContainerAdjustment::default()
        }),
        ..CreateContainerResponse::default()
    }
}

fn quota(id: &str, quota: i64) -> ContainerUpdate {
    ContainerUpdate {
        container_id: id.to_owned(),
        linux: Some(LinuxContainerUpdate {
            resources: Some(resources(quota)),
        }),
        ignore_failure: false,
    }
}

fn resources(quota: i64) -> LinuxResources {
    LinuxResources {
        cpu: Some(LinuxCpu {
            quota: Some(OptionalInt64 { value: quota }),
            ..LinuxCpu::default()
        }),
        ..LinuxResources::default()
    }
}

/// Runs an event beside the plugins that answer it.
macro_rules! during {
    ($event:expr, $plugins:expr) => {{
        let task = tokio::spawn($event);
        $plugins.await;
        task.await.unwrap()
    }};
}

async fn create(node: &Node, plugins: impl Future<Output = ()>) -> Result<Merged, NriError> {
    let set = Arc::clone(&node.plugins);
    during!(async move { set.create_container(creation()).await }, plugins)
}

#[tokio::test]
async fn each_plugin_sees_what_the_one_before_wants_and_validators_all_of_it() {
    let node = Node::start().await;
    let create_only = mask(&[Event::CreateContainer]);
    let mut second = node.join("20", "second", create_only).await;
    let mut first = node.join("10", "first", create_only).await;
    let mut validator = node
        .join("15", "judge", mask(&[Event::ValidateContainerAdjustment]))
        .await;
    assert!(node.plugins.wants_creations());
    let merged = create(&node, async {
        let answer = CreateContainerResponse {
            update: vec![quota("other", 7)],
            evict: vec![ContainerEviction {
                container_id: "old".to_owned(),
                reason: "room".to_owned(),
            }],
            ..env("B", "2")
        };
        first.answer_next("CreateContainer", &answer).await;
        let seen: CreateContainerRequest = second
            .answer_next("CreateContainer", &env("C", "3"))
            .await
            .decode();
        assert_eq!(seen.container.unwrap().env, ["A=1", "B=2"]);
        let accepted = ValidateContainerAdjustmentResponse::default();
        let call = validator
            .answer_next("ValidateContainerAdjustment", &accepted)
            .await;
        let seen: ValidateContainerAdjustmentRequest = call.decode();
        assert_eq!(seen.container.unwrap().env, ["A=1"], "as it was");
        assert_eq!(seen.adjust.unwrap().env.len(), 2);
        let names: Vec<_> = seen.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(names, ["first", "judge", "second"]);
    })
    .await
    .unwrap();
    assert_eq!(merged.validation.adjust.unwrap().env.len(), 2);
    assert_eq!(merged.validation.update, [quota("other", 7)]);
    assert_eq!(merged.evictions[0].container_id, "old");
}

#[tokio::test]
async fn a_creation_fails_by_a_conflict_and_by_validators() {
    let node = Node::start_with(|settings| {
        settings.validator.enable = true;
        settings.validator.reject_oci_hook_adjustment = true;
        settings.validator.required_plugins = vec!["first".to_owned()];
    })
    .await;
    assert!(
        node.plugins.wants_creations(),
        "the default validator has to be asked"
    );
    let missing = create(&node, async {}).await.unwrap_err();
    assert!(matches!(missing, NriError::Rejected(_)), "{missing}");
    let create_only = mask(&[Event::CreateContainer]);
    let mut first = node.join("10", "first", create_only).await;
    let hooks = CreateContainerResponse {
        adjust: Some(ContainerAdjustment {
            hooks: Some(Hooks {
                poststop: vec![Hook::default()],
                ..Hooks::default()
            }),
            ..ContainerAdjustment::default()
        }),
        ..CreateContainerResponse::default()
    };
    let rejected = create(&node, async {
        drop(first.answer_next("CreateContainer", &hooks).await);
    })
    .await;
    assert!(rejected.unwrap_err().to_string().contains("10-first"));
    let mut second = node.join("20", "second", create_only).await;
    let conflict = create(&node, async {
        first.answer_next("CreateContainer", &env("B", "2")).await;
        second.answer_next("CreateContainer", &env("B", "3")).await;
    })
    .await
    .unwrap_err();
    assert!(matches!(conflict, NriError::Conflict(_)), "{conflict}");
    drop(second);
    crate::testing::until("the plugin is gone", || node.plugins.list().len() == 1).await;
    let all = mask(&[Event::ValidateContainerAdjustment]);
    let mut judge = node.join("30", "judge", all).await;
    let refused = create(&node, async {
        first.answer_next("CreateContainer", &env("B", "2")).await;
        let answer = ValidateContainerAdjustmentResponse {
            reject: true,
            reason: "no\nB".to_owned(),
        };
        judge.answer_next("ValidateContainerAdjustment", &answer).await;
    })
    .await
    .unwrap_err();
    assert!(
        matches!(&refused, NriError::RefusedBy { reason, .. } if reason == "no B"),
        "{refused}"
    );
    // A validator that dies before it has answered accepts nothing.
    let lost = create(&node, async {
        first.answer_next("CreateContainer", &env("B", "2")).await;
        judge.called().await;
        drop(judge);
    })
    .await
    .unwrap_err();
    assert!(matches!(lost, NriError::ValidatorLost { .. }), "{lost}");
}

#[tokio::test]
async fn updates_and_stops_are_merged() {
    let node = Node::start().await;
    let both = mask(&[Event::UpdateContainer, Event::StopContainer]);
    let mut first = node.join("10", "first", both).await;
    let mut second = node.join("20", "second", both).await;
    let request = UpdateContainerRequest {
        pod: None,
        container: Some(container("c")),
        linux_resources: Some(resources(1)),
    };
    let set = Arc::clone(&node.plugins);
    let updated = during!(async move { set.update_container(request).await }, async {
        let update = vec![quota("c", 2), quota("other", 3)];
        let evict = Vec::new();
        first
            .answer_next("UpdateContainer", &UpdateContainerResponse { update, evict })
            .await;
        let call = second
            .answer_next("UpdateContainer", &UpdateContainerResponse::default())
            .await;
        let seen: UpdateContainerRequest = call.decode();
        assert_eq!(seen.linux_resources, Some(resources(2)));
    });
    let updated = updated.unwrap();
    assert_eq!(
        (updated.resources, updated.updates),
        (resources(2), vec![quota("other", 3)])
    );
    let request = StopContainerRequest {
        pod: None,
        container: Some(container("c")),
    };
    let set = Arc::clone(&node.plugins);
    let stopped = during!(async move { set.stop_container(request).await }, async {
        for (plugin, id) in [(&mut first, "x"), (&mut second, "y")] {
            let update = vec![quota(id, 9)];
            plugin
                .answer_next("StopContainer", &StopContainerResponse { update })
                .await;
        }
    });
    assert_eq!(stopped.unwrap(), [quota("x", 9), quota("y", 9)]);
}
