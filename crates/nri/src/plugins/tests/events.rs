//! Events: who gets them in which order, and what plugins can do to them.

use super::*;
use crate::proto::StateChangeEvent;

fn run(id: &str) -> RunPodSandboxRequest {
    RunPodSandboxRequest { pod: Some(pod(id)) }
}

fn start(id: &str) -> StartContainerRequest {
    StartContainerRequest {
        pod: Some(pod(id)),
        container: Some(Container::default()),
    }
}

#[tokio::test]
async fn plugins_get_the_events_of_their_mask_in_the_order_of_their_index_and_name() {
    let node = Node::start().await;
    let events = mask(&[Event::RunPodSandbox]);
    let mut second = node.join("10", "b", events).await;
    let mut third = node.join("90", "a", events).await;
    let _other = node.join("05", "other", mask(&[Event::StopPodSandbox])).await;
    let mut first = node.join("10", "a", events).await;
    assert_eq!(node.names(), ["05-other", "10-a", "10-b", "90-a"]);
    let order = Mutex::new(Vec::new());
    let take = async |plugin: &mut FakePlugin, name| {
        let call = plugin.called().await;
        assert_eq!(call.decode::<RunPodSandboxRequest>(), run("p"));
        order.lock().push(name);
        plugin.answer(call.stream, &Empty {}).await;
    };
    let (outcome, (), (), ()) = tokio::join!(
        node.plugins.run_pod_sandbox(run("p")),
        take(&mut third, 3),
        take(&mut first, 1),
        take(&mut second, 2),
    );
    outcome.unwrap();
    assert_eq!(*order.lock(), [1, 2, 3]);
}

#[tokio::test]
async fn every_event_calls_its_method() {
    let node = Node::start().await;
    let mut plugin = node.join("10", "a", 0).await;
    let plugins = &node.plugins;
    let (outcomes, methods) = tokio::join!(
        async {
            [
                plugins.run_pod_sandbox(RunPodSandboxRequest::default()).await,
                plugins
                    .update_pod_sandbox(UpdatePodSandboxRequest::default())
                    .await,
                plugins
                    .post_update_pod_sandbox(PostUpdatePodSandboxRequest::default())
                    .await,
                plugins.stop_pod_sandbox(StopPodSandboxRequest::default()).await,
                plugins
                    .remove_pod_sandbox(RemovePodSandboxRequest::default())
                    .await,
                plugins
                    .post_create_container(PostCreateContainerRequest::default())
                    .await,
                plugins.start_container(StartContainerRequest::default()).await,
                plugins
                    .post_start_container(PostStartContainerRequest::default())
                    .await,
                plugins
                    .post_update_container(PostUpdateContainerRequest::default())
                    .await,
                plugins.remove_container(RemoveContainerRequest::default()).await,
            ]
        },
        async {
            let mut methods = Vec::new();
            for _ in 0..10 {
                let call = plugin.called().await;
                plugin.answer(call.stream, &Empty {}).await;
                methods.push(call.method);
            }
            methods
        }
    );
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(
        methods,
        [
            "RunPodSandbox",
            "UpdatePodSandbox",
            "PostUpdatePodSandbox",
            "StopPodSandbox",
            "RemovePodSandbox",
            "PostCreateContainer",
            "StartContainer",
            "PostStartContainer",
            "PostUpdateContainer",
            "RemoveContainer",
        ]
    );
}

#[tokio::test]
async fn events_are_one_after_the_other() {
    let node = Node::start().await;
    let mut plugin = node.join("10", "a", 0).await;
    let (first, second, ()) = tokio::join!(
        node.plugins.run_pod_sandbox(run("first")),
        node.plugins.run_pod_sandbox(run("second")),
        async {
            for id in ["first", "second"] {
                let call = plugin.called().await;
                assert_eq!(call.decode::<RunPodSandboxRequest>(), run(id));
                // A second event would be here by now.
                tokio::time::sleep(Duration::from_millis(20)).await;
                plugin.answer(call.stream, &Empty {}).await;
            }
        }
    );
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn an_error_of_a_plugin_fails_the_event_for_it_and_those_behind() {
    let node = Node::start().await;
    let mut plugin = node.join("10", "a", 0).await;
    let mut behind = node
        .join("20", "b", mask(&[Event::RunPodSandbox, Event::StopPodSandbox]))
        .await;
    let (outcome, ()) = tokio::join!(node.plugins.run_pod_sandbox(run("p")), async {
        let stream = plugin.called().await.stream;
        plugin.fail(stream, 9, &"\u{7}no".repeat(1000)).await;
    });
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.starts_with("NRI plugin 10-a failed RunPodSandbox:  no no"),
        "{text}"
    );
    assert!(text.ends_with(" (code 9)") && text.len() < 600, "{text}");
    // The next event that the plugin behind gets is another one, and both are still there.
    let stop = StopPodSandboxRequest::default();
    let (outcome, ..) = tokio::join!(
        node.plugins.stop_pod_sandbox(stop),
        plugin.answer_next("StopPodSandbox", &Empty {}),
        behind.answer_next("StopPodSandbox", &Empty {}),
    );
    outcome.unwrap();
}

#[tokio::test]
async fn a_plugin_that_hangs_is_cut_off_and_the_event_goes_on() {
    let node = Node::start_with(|settings| settings.request_timeout = Duration::from_secs(1)).await;
    let mut hangs = node.join("10", "a", 0).await;
    let mut behind = node.join("20", "b", 0).await;
    let (outcome, _) = tokio::join!(
        node.plugins.run_pod_sandbox(run("p")),
        behind.answer_next("RunPodSandbox", &Empty {}),
    );
    outcome.unwrap();
    assert_eq!(hangs.called().await.method, "RunPodSandbox");
    hangs.closed().await;
    until("the plugin is gone", || node.names() == ["20-b"]).await;
}

#[tokio::test]
async fn a_plugin_that_dies_or_breaks_the_protocol_in_an_event_does_not_fail_it() {
    let node = Node::start().await;
    let mut dies = node.join("10", "a", 0).await;
    let mut breaks = node.join("20", "b", 0).await;
    let mut behind = node.join("30", "c", 0).await;
    let (outcome, (), (), _) = tokio::join!(
        node.plugins.run_pod_sandbox(run("p")),
        async {
            dies.called().await;
            drop(dies);
        },
        async {
            breaks.called().await;
            breaks.answer(77, &Empty {}).await;
            breaks.closed().await;
        },
        behind.answer_next("RunPodSandbox", &Empty {}),
    );
    outcome.unwrap();
    until("the plugins are gone", || node.names() == ["30-c"]).await;
}

#[tokio::test]
async fn an_old_plugin_gets_events_by_state_change_from_the_first_one_on() {
    let node = Node::start().await;
    let mut old = node.join("10", "a", 0).await;
    let unimplemented = async |plugin: &mut FakePlugin, method: &str| {
        let call = plugin.called().await;
        assert_eq!(call.method, method);
        plugin.fail(call.stream, code::UNIMPLEMENTED, "what?").await;
    };
    let changed = async |plugin: &mut FakePlugin, event: Event, container: Option<Container>| {
        let call = plugin.answer_next("StateChange", &Empty {}).await;
        let event = StateChangeEvent {
            event: event.into(),
            pod: Some(pod("p")),
            container,
        };
        assert_eq!(call.decode::<StateChangeEvent>(), event);
    };
    let (outcome, ()) = tokio::join!(node.plugins.run_pod_sandbox(run("p")), async {
        unimplemented(&mut old, "RunPodSandbox").await;
        changed(&mut old, Event::RunPodSandbox, None).await;
    });
    outcome.unwrap();
    let (outcome, ()) = tokio::join!(
        node.plugins.start_container(start("p")),
        changed(&mut old, Event::StartContainer, Some(Container::default())),
    );
    outcome.unwrap();
    // This one never was a state change.
    let update = UpdatePodSandboxRequest::default();
    let (outcome, ()) = tokio::join!(
        node.plugins.update_pod_sandbox(update),
        unimplemented(&mut old, "UpdatePodSandbox"),
    );
    assert!(
        matches!(
            outcome,
            Err(NriError::Plugin {
                code: code::UNIMPLEMENTED,
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_event_that_is_too_large_fails_and_costs_no_plugin() {
    let node = Node::start().await;
    let mut plugin = node.join("10", "a", 0).await;
    let large = "a".repeat(crate::ttrpc::MAX_MESSAGE);
    let outcome = node.plugins.run_pod_sandbox(run(&large)).await;
    assert!(matches!(outcome, Err(NriError::TooLarge { .. })));
    let (outcome, _) = tokio::join!(
        node.plugins.run_pod_sandbox(run("p")),
        plugin.answer_next("RunPodSandbox", &Empty {}),
    );
    outcome.unwrap();
}
