//! What can go wrong with a pod.

use std::sync::Arc;

use crate::error::{ErrorKind, Kinded, chain};
use crate::id::LookupError;

/// A failure of an operation on a pod or container. Cheap to clone: everybody who waited gets it.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum PodError {
    /// The id leads nowhere.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A field of the request is wrong.
    #[error("{field} {problem}")]
    Invalid {
        /// Its name as in CRI, with dots.
        field: &'static str,
        /// What is wrong, as the end of a sentence.
        problem: String,
    },
    /// Something is not in a state for this.
    #[error("{what} {id} is {state}: {hint}")]
    State {
        /// `pod sandbox` or `container`.
        what: &'static str,
        id: String,
        /// The state it is in.
        state: &'static str,
        /// What it would take.
        hint: &'static str,
    },
    /// The name and attempt are in use by something that was asked for differently.
    #[error(
        "{what} {name:?} exists already as {id}, made with another configuration: remove that one first, or raise the attempt"
    )]
    Taken {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// Name, namespace and attempt.
        name: String,
        /// Id of the object that has the name.
        id: String,
    },
    /// An image cannot be mounted as a volume. kubelet looks for the first word (cri-api `pkg/errors`).
    #[error("ImageVolumeMountFailed: mounts[{index}] is of the image {image:?}")]
    ImageVolume {
        index: usize,
        /// As asked for.
        image: String,
        /// What is wrong with it.
        #[source]
        source: Box<Self>,
    },
    /// A step of the work failed.
    #[error("cannot {doing}")]
    Failed {
        /// The step and its object, as the end of a sentence.
        doing: String,
        /// Kind of the failure beneath.
        kind: ErrorKind,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// It did not happen in time.
    #[error("{what} did not end within {seconds} s: {detail}")]
    TimedOut {
        /// What was waited for.
        what: String,
        seconds: u64,
        /// What it is doing instead.
        detail: String,
    },
    /// The client's deadline has passed; the work goes on.
    #[error(
        "not done before the client's deadline: {doing}; it goes on, and the same request again joins it"
    )]
    Waiting {
        /// The steps under way.
        doing: String,
    },
    /// The pod's monitor died while somebody waited for it.
    #[error(
        "the monitor of the pod of container {container} died: how the process ended will never be known"
    )]
    MonitorLost { container: String },
    /// More pods would only compete with those that are being created.
    #[error("{limit} pods are being created, as many as may be: try again when some of them are ready")]
    TooManyPods { limit: usize },
    /// The daemon is going down.
    #[error("pausa is stopping: ask again when it is back")]
    Stopping,
    /// A bug in a step.
    #[error("cannot {doing}: pausa panicked, which is a bug; please report it: {panic}")]
    Panicked { doing: &'static str, panic: String },
    /// The pod was removed meanwhile.
    #[error("{what} {id} was removed while this was under way")]
    Gone {
        /// `pod sandbox` or `container`.
        what: &'static str,
        id: String,
    },
}

impl PodError {
    /// The whole story in one line.
    pub(super) fn text(&self) -> String {
        chain(self)
    }

    /// A failing step, of the kind of what failed beneath it.
    pub(super) fn failed(doing: impl Into<String>, source: impl Kinded) -> Self {
        Self::failed_as(doing, source.kind(), source)
    }

    /// A failing step whose source does not know its kind.
    pub(super) fn failed_as(
        doing: impl Into<String>,
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed {
            doing: doing.into(),
            kind,
            source: Arc::new(source),
        }
    }

    pub(super) fn panicked(doing: &'static str, panic: &(dyn std::any::Any + Send)) -> Self {
        Self::Panicked {
            doing,
            panic: crate::error::panic_text(panic),
        }
    }

    /// A failing system call on a path.
    pub(super) fn io(doing: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        };
        Self::failed_as(doing, kind, source)
    }
}

impl Kinded for PodError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(error) => error.kind(),
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::State { .. } => ErrorKind::FailedPrecondition,
            Self::Taken { .. } => ErrorKind::AlreadyExists,
            Self::ImageVolume { source, .. } => source.kind(),
            Self::Failed { kind, .. } => *kind,
            Self::TimedOut { .. } | Self::Waiting { .. } => ErrorKind::DeadlineExceeded,
            Self::TooManyPods { .. } => ErrorKind::ResourceExhausted,
            Self::MonitorLost { .. } | Self::Stopping => ErrorKind::Unavailable,
            Self::Panicked { .. } => ErrorKind::Internal,
            Self::Gone { .. } => ErrorKind::NotFound,
        }
    }
}
