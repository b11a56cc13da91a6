//! What happens around every RPC: a span, a log line, and the net under a panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tonic::{Code, Response, Status};
use tracing::Instrument;

use super::status;
use crate::deadline;
use crate::error::{Failure, panic_text};
use crate::telemetry::{metrics, traces};

/// What a service method returns.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// Runs `work` for the RPC `rpc` about `subject` (an id or name, or empty).
pub(super) async fn call<T, E: Into<Failure>>(
    rpc: &'static str,
    subject: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Reply<T> {
    call_with(rpc, subject, status::from_failure, work).await
}

/// [`call`] with failures that mean something special to kubelet.
pub(super) async fn call_with<T, E: Into<Failure>>(
    rpc: &'static str,
    subject: &str,
    to_status: fn(Failure) -> Status,
    work: impl Future<Output = Result<T, E>>,
) -> Reply<T> {
    let span = tracing::debug_span!("cri", rpc, subject, otel.name = rpc, otel.kind = "server");
    async {
        let counted = metrics::Rpc::begin(rpc);
        // Nothing of `work` is used after it panicked.
        let outcome = deadline::wait(AssertUnwindSafe(work).catch_unwind()).await;
        let reply = match outcome {
            Some(Ok(Ok(response))) => Ok(Response::new(response)),
            Some(Ok(Err(failure))) => Err(to_status(failure.into())),
            Some(Err(panic)) => Err(panicked(rpc, panic.as_ref())),
            None => Err(Status::deadline_exceeded(format!(
                "{rpc} did not end before the client's deadline; it goes on, and the same request again joins it"
            ))),
        };
        let code = reply.as_ref().err().map_or(Code::Ok, Status::code);
        if let Err(status) = &reply {
            traces::failed(status.message());
        }
        let took = counted.end(status::code_name(code));
        tracing::debug!(?code, ?took, "answered");
        reply
    }
    .instrument(span)
    .await
}

fn panicked(rpc: &'static str, panic: &(dyn std::any::Any + Send)) -> Status {
    let text = panic_text(panic);
    // The place is on stderr already, from the panic itself.
    tracing::error!(
        rpc,
        panic = text,
        "a request panicked; its client gets an Internal error; please report this"
    );
    Status::internal(format!("{rpc} panicked, which is a bug in pausa: {text}"))
}

#[cfg(test)]
mod tests;
