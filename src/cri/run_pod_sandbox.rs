//! RunPodSandbox: a pod from its configuration. The same metadata again joins the earlier call.

use super::RuntimeDoor;
use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// What the log calls the pod before it has an id: `namespace/name`.
pub(super) fn subject(request: &v1::RunPodSandboxRequest) -> String {
    let metadata = request.config.as_ref().and_then(|c| c.metadata.as_ref());
    metadata.map_or_else(String::new, |m| format!("{}/{}", m.namespace, m.name))
}

/// Serves RunPodSandbox.
pub(super) async fn answer<P: PodService, S>(
    door: &RuntimeDoor<P, S>,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, Failure> {
    let config = require::message("config", request.config)?;
    let metadata = config.metadata.as_ref();
    let metadata = require::message("config.metadata", metadata)?;
    require::text("config.metadata.name", &metadata.name)?;
    require::text("config.metadata.namespace", &metadata.namespace)?;
    require::text("config.metadata.uid", &metadata.uid)?;
    let handler = request.runtime_handler;
    if !door.facts.handlers.iter().any(|known| known.name == handler) {
        return Err(require::wrong(format!(
            "the runtime handler {handler:?} is not configured; add [handlers.{handler:?}] to pausa's configuration"
        )));
    }
    let pod_sandbox_id = door.pods.run(config, handler).await?;
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id })
}
