//! Attach: a URL at which a client can join the streams of a container's first process.

use super::backend::StreamService;
use super::exec::check;
use super::require;
use crate::error::Failure;
use crate::proto::v1;
use crate::streaming::target::Streams;

/// Serves Attach.
pub(super) async fn answer<S: StreamService>(
    streams: &S,
    request: v1::AttachRequest,
) -> Result<v1::AttachResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    let wanted = Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    check(wanted, request.tty)?;
    let url = streams.attach(&request.container_id, wanted, request.tty)?;
    Ok(v1::AttachResponse { url })
}
