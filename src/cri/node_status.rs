//! Status: whether this node can run pods, with which handlers and features.
//!
//! kubelet wants both conditions in every answer, and takes a node whose NetworkReady is false for not
//! ready. RuntimeReady is true by the fact that somebody answers: the door opens after recovery.

use super::RuntimeDoor;
use super::backend::PodService;
use crate::error::{ErrorKind, Failure};
use crate::proto::v1;

/// Serves Status.
pub(super) async fn answer<P: PodService, S>(
    door: &RuntimeDoor<P, S>,
    request: v1::StatusRequest,
) -> Result<v1::StatusResponse, Failure> {
    let network = door.pods.network_readiness().await;
    let mut response = v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", Ok(())),
                condition("NetworkReady", network),
            ],
        }),
        runtime_handlers: door.facts.handlers.clone(),
        features: Some(door.facts.features),
        ..Default::default()
    };
    if request.verbose {
        response.info = door.pods.describe().await;
        let config = serde_json::to_string(&door.facts.config)
            .map_err(|source| Failure::from_error(ErrorKind::Internal, &source))?;
        response.info.insert("config".to_owned(), config);
    }
    Ok(response)
}

fn condition(kind: &str, state: Result<(), (String, String)>) -> v1::RuntimeCondition {
    let status = state.is_ok();
    let (reason, message) = state.err().unwrap_or_default();
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason,
        message,
    }
}
