//! Exec: a URL at which a client can run a command in a container, with its streams.

use super::backend::StreamService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;
use crate::streaming::target::Streams;

/// Serves Exec.
pub(super) async fn answer<S: StreamService>(
    streams: &S,
    request: v1::ExecRequest,
) -> Result<v1::ExecResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    require::text("cmd", request.cmd.first().map_or("", String::as_str))?;
    let wanted = Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    check(wanted, request.tty)?;
    let url = streams.exec(&request.container_id, request.cmd, wanted, request.tty)?;
    Ok(v1::ExecResponse { url })
}

/// Whether these streams can be had together.
pub(super) fn check(wanted: Streams, tty: bool) -> Result<(), Failure> {
    if tty && wanted.stderr {
        // A terminal has one output.
        return Err(require::wrong("tty and stderr cannot both be true"));
    }
    if wanted == Streams::default() {
        return Err(require::wrong("one of stdin, stdout and stderr must be set"));
    }
    Ok(())
}
