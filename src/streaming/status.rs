//! The outcome of an exec or attach, which clients read on the error stream.
//!
//! From version 4 of the protocol on it is a `metav1.Status` in JSON, in which clients look for the reason
//! `NonZeroExitCode` and its cause `ExitCode`. In earlier versions it is plain text, and nothing after success.

use bytes::Bytes;
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command has ended with this code; of an attach, the container has ended, whatever its code.
    Ended(i32),
    /// It failed, or its exit code is unknown.
    Failed(String),
}

impl Outcome {
    /// `metav1.Status` in JSON.
    pub(super) fn json(&self) -> Bytes {
        let status = match self {
            Self::Ended(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Ended(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        };
        status.to_string().into()
    }

    /// Plain text; none after success.
    pub(super) fn text(&self) -> Option<Bytes> {
        (*self != Self::Ended(0)).then(|| self.message().into())
    }

    fn message(&self) -> String {
        match self {
            Self::Ended(code) => format!("command terminated with non-zero exit code: {code}"),
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
