//! Turns failures into gRPC statuses; nothing else in pausa does.
//!
//! The text is the failure's message. kubelet acts on some codes: NotFound of a status means "already gone",
//! DeadlineExceeded of ExecSync means "the probe timed out". It also acts on the beginning of some texts, but
//! only where the code is Unknown, whose name its client strips (cri-client, cri-api `pkg/errors`).

use tonic::{Code, Status};

use crate::error::{ErrorKind, Failure};

/// kubelet waits and tries again instead of blaming the image.
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";
/// kubelet says so in the pod's status.
const SIGNATURE_VALIDATION_FAILED: &str = "SignatureValidationFailed";
/// Texts that begin with one of these reach the pod's status as its reason.
const SENTINELS: [&str; 4] = [
    REGISTRY_UNAVAILABLE,
    SIGNATURE_VALIDATION_FAILED,
    "ImageVolumeMountFailed",
    "RROUnsupported",
];

/// The status of a failed call, except PullImage.
pub(super) fn from_failure(failure: Failure) -> Status {
    let code = if is_sentinel(&failure.message) {
        Code::Unknown
    } else {
        code(failure.kind)
    };
    Status::new(code, shortened(failure.message))
}

/// The status of a failed PullImage: a registry that does not answer has a word of its own.
pub(super) fn from_pull_failure(mut failure: Failure) -> Status {
    if failure.kind == ErrorKind::Unavailable && !is_sentinel(&failure.message) {
        failure.message = format!("{REGISTRY_UNAVAILABLE}: {}", failure.message);
    }
    from_failure(failure)
}

/// A status travels in trailers, whose size clients limit (often 8 KiB, escapes included): what somebody sent
/// may be quoted in it, but not at any length.
fn shortened(mut message: String) -> String {
    const MAX: usize = 2048;
    if message.len() > MAX {
        let end = (0..=MAX)
            .rev()
            .find(|at| message.is_char_boundary(*at))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

fn is_sentinel(message: &str) -> bool {
    SENTINELS.iter().any(|word| message.starts_with(word))
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// A code as gRPC writes it (doc/statuscodes.md).
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
