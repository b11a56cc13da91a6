//! A connection by itself, against a peer that does what plugins should not. Time is paused where time limits matter:
//! it goes on when everything waits.

use super::*;
use crate::error::Violation;
use crate::proto::{Empty, UpdateContainersResponse};
use crate::testing::{FakePlugin, LIMIT, until};
use crate::ttrpc::Kind;

const TIMEOUT: Duration = Duration::from_secs(2);

fn pair() -> (Connection, mpsc::Receiver<Incoming>, FakePlugin) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (connection, incoming) = Connection::start(ours, TIMEOUT);
    (connection, incoming, FakePlugin::new(theirs))
}

async fn ended(incoming: &mut mpsc::Receiver<Incoming>) {
    let wait = async { while incoming.recv().await.is_some() {} };
    tokio::time::timeout(LIMIT, wait)
        .await
        .expect("the connection ends");
}

/// Writes a message of a plugin that breaks the protocol, and returns how it is called.
async fn violation(connection: u32, message: Message) -> String {
    let (handle, mut incoming, mut plugin) = pair();
    plugin
        .write(&mux::encode(connection, &message).unwrap())
        .await
        .unwrap();
    ended(&mut incoming).await;
    match &*handle.reason() {
        End::Protocol(violation) => violation.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let (connection, _incoming, mut plugin) = pair();
    let call = |method| connection.call::<UpdateContainersResponse>(method, &Empty {});
    let answers = async {
        let (first, second) = (plugin.called().await, plugin.called().await);
        assert_eq!((&*first.method, first.stream), ("StopContainer", 1));
        assert_eq!((&*second.method, second.stream), ("StartContainer", 3));
        plugin.fail(second.stream, 2, "no\x1b[31m\nway").await;
        plugin.answer(first.stream, &Empty {}).await;
    };
    let (first, second, ()) = tokio::join!(call("StopContainer"), call("StartContainer"), answers);
    assert_eq!(first.unwrap(), UpdateContainersResponse::default());
    match second.unwrap_err() {
        CallError::Status { code, message } => assert_eq!((code, &*message), (2, "no [31m way")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    let (connection, mut incoming, mut plugin) = pair();
    let request = RegisterPluginRequest {
        plugin_name: "a".repeat(3 << 20),
        ..Default::default()
    };
    let (answer, ()) = tokio::join!(
        connection.call::<RegisterPluginRequest>("Configure", &request),
        async {
            let call = plugin.called().await;
            let request: RegisterPluginRequest = call.decode();
            plugin.answer(call.stream, &request).await;
        }
    );
    assert_eq!(answer.unwrap(), request);
    let too_large = RegisterPluginRequest {
        plugin_name: "a".repeat(MAX_MESSAGE),
        ..Default::default()
    };
    let outcome = connection.call::<Empty>("Configure", &too_large).await;
    assert!(matches!(outcome, Err(CallError::TooLarge { .. })), "{outcome:?}");
    // The connection lives on, and an answer of our own that is too large becomes an error.
    let stream = plugin.begin("RegisterPlugin", &request).await;
    assert!(matches!(incoming.recv().await, Some(Incoming::Register { .. })));
    connection.answer(stream, &too_large);
    let status = plugin.answered::<Empty>(stream).await.unwrap_err();
    assert_eq!(status.code, code::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let garbage = || Bytes::from_static(&[0xff; 3]);
    let kind = |kind| Message {
        stream: 1,
        kind,
        flags: 0,
        payload: Bytes::new(),
    };
    let cases = [
        (
            mux::PLUGIN,
            Message::response(1, Bytes::new()),
            "on stream 1, on which there is no call",
        ),
        (mux::PLUGIN, kind(Kind::Request), "kind Request on connection 1"),
        (mux::PLUGIN, kind(Kind::Data), "kind Data on connection 1"),
        (
            mux::RUNTIME,
            kind(Kind::Response),
            "kind Response on connection 2",
        ),
        (
            mux::RUNTIME,
            Message::request(2, Bytes::new()),
            "on stream 2, which is even",
        ),
        (
            mux::RUNTIME,
            Message::request(1, garbage()),
            "a request cannot be decoded",
        ),
    ];
    for (connection, message, expected) in cases {
        let violation = violation(connection, message).await;
        assert!(violation.contains(expected), "{violation:?}");
    }
}

#[tokio::test]
async fn numbers_of_calls_ascend() {
    let (connection, mut incoming, mut plugin) = pair();
    let payload = Request::default().encode_to_vec();
    let message = mux::encode(mux::RUNTIME, &Message::request(5, payload.into())).unwrap();
    plugin.write(&message.repeat(2)).await.unwrap();
    ended(&mut incoming).await;
    assert!(matches!(
        &*connection.reason(),
        End::Protocol(Violation::StreamId { stream: 5 })
    ));
}

#[tokio::test]
async fn what_later_versions_may_send_is_ignored_or_unimplemented() {
    let (_connection, _incoming, mut plugin) = pair();
    for connection in [0, mux::PLUGIN, mux::RUNTIME, 3, u32::MAX] {
        let message = Message {
            stream: 1,
            kind: Kind::Unknown(9),
            flags: 0xff,
            payload: Bytes::from_static(b"?"),
        };
        plugin
            .write(&mux::encode(connection, &message).unwrap())
            .await
            .unwrap();
    }
    let status = plugin.call::<Empty>("Dance", &Empty {}).await.unwrap_err();
    assert_eq!(status.code, code::UNIMPLEMENTED);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_ends_the_connection_and_every_call() {
    let (connection, mut incoming, _plugin) = pair();
    let (first, second) = tokio::join!(
        connection.call::<Empty>("StopContainer", &Empty {}),
        connection.call::<Empty>("StartContainer", &Empty {}),
    );
    for outcome in [first, second, connection.call("Shutdown", &Empty {}).await] {
        let Err(CallError::Lost(end)) = outcome else {
            panic!("{outcome:?}");
        };
        let method = match &*end {
            End::Timeout { method, .. } => *method,
            other => panic!("{other:?}"),
        };
        assert_eq!(method, "StopContainer");
    }
    ended(&mut incoming).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_is_answered_in_time_or_ends_the_connection() {
    let (connection, mut incoming, mut plugin) = pair();
    let give_up = || async {
        let call = connection.call::<Empty>("StopContainer", &Empty {});
        assert!(tokio::time::timeout(TIMEOUT / 4, call).await.is_err());
    };
    give_up().await;
    plugin.answer_next("StopContainer", &Empty {}).await;
    let (outcome, _) = tokio::join!(
        connection.call::<Empty>("StartContainer", &Empty {}),
        plugin.answer_next("StartContainer", &Empty {}),
    );
    assert!(outcome.is_ok(), "{outcome:?}");
    give_up().await;
    ended(&mut incoming).await;
    assert!(matches!(&*connection.reason(), End::Timeout { .. }));
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_ends_the_connection() {
    let (connection, mut incoming, mut plugin) = pair();
    let garbage = async {
        let stream = plugin.called().await.stream;
        let payload = Response {
            status: None,
            payload: Bytes::from_static(&[0xff; 3]),
        };
        let message = Message::response(stream, payload.encode_to_vec().into());
        plugin
            .write(&mux::encode(mux::PLUGIN, &message).unwrap())
            .await
            .unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.call::<Empty>("Configure", &Empty {}), garbage);
    assert!(matches!(outcome, Err(CallError::Lost(_))), "{outcome:?}");
    ended(&mut incoming).await;
    let end = connection.reason();
    assert!(
        matches!(
            &*end,
            End::Protocol(Violation::Undecodable {
                what: "Configure",
                ..
            })
        ),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_plugin_that_calls_and_does_not_read_is_cut_off() {
    let (connection, mut incoming, mut plugin) = pair();
    let payload = Bytes::from(Request::default().encode_to_vec());
    let mut streams = (1..).step_by(2);
    for _ in 0..10_000 {
        let calls = streams.by_ref().take(100);
        let encode = |stream| mux::encode(mux::RUNTIME, &Message::request(stream, payload.clone())).unwrap();
        let bytes = calls.flat_map(encode).collect::<Vec<_>>();
        let refused = plugin.write(&bytes).await.is_err();
        let state = connection.0.state.lock();
        assert!(state.outgoing.len() <= MAX_QUEUED, "{}", state.outgoing.len());
        if refused {
            break;
        }
    }
    ended(&mut incoming).await;
    assert!(matches!(&*connection.reason(), End::SlowReader { .. }));
}

#[tokio::test]
async fn calls_that_nobody_handles_are_refused_beyond_a_number() {
    let (_connection, mut incoming, mut plugin) = pair();
    let mut streams = Vec::new();
    for _ in 0..=MAX_INCOMING {
        streams.push(
            plugin
                .begin("UpdateContainers", &UpdateContainersRequest::default())
                .await,
        );
    }
    let refused = plugin
        .answered::<Empty>(*streams.last().unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.code, code::RESOURCE_EXHAUSTED);
    assert!(matches!(
        incoming.recv().await,
        Some(Incoming::Update { stream: 1, .. })
    ));
}

#[tokio::test]
async fn the_last_answer_is_sent_before_the_end() {
    let (connection, mut incoming, mut plugin) = pair();
    let stream = plugin
        .begin("UpdateContainers", &UpdateContainersRequest::default())
        .await;
    incoming.recv().await.unwrap();
    connection.refuse(stream, code::FAILED_PRECONDITION, "no".to_owned());
    connection.end(End::Stopped);
    let status = plugin.answered::<Empty>(stream).await.unwrap_err();
    assert_eq!((status.code, &*status.message), (code::FAILED_PRECONDITION, "no"));
    plugin.closed().await;
    until("the task is gone", || Arc::strong_count(&connection.0) == 1).await;
}
