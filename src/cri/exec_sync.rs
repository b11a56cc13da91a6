//! ExecSync: a command in a running container, to its end. This is what exec probes are.
//!
//! A command that fails is an answer with its exit code, not a failure. One that takes too long is
//! DeadlineExceeded: kubelet counts that, and only that, as a failed probe.

use std::time::Duration;

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves ExecSync.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ExecSyncRequest,
) -> Result<v1::ExecSyncResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    require::text("cmd", request.cmd.first().map_or("", String::as_str))?;
    let seconds = u64::try_from(request.timeout).map_err(|_| {
        require::wrong(format!(
            "the field timeout is {} seconds; 0 waits without limit, less makes no sense",
            request.timeout
        ))
    })?;
    let timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
    pods.exec_sync(request.container_id, request.cmd, timeout).await
}
