//! The image store's reports as messages of the admin service.

use crate::image::{
    DocumentReport, Exported, ImageReport, Incomplete, Kept, LayerProgress, LayerReport, LayerState,
    PrunedImage, PullProgress, PullStep, VerifyMethod,
};
use crate::proto::admin;

impl From<PrunedImage> for admin::PrunedImage {
    fn from(pruned: PrunedImage) -> Self {
        Self {
            id: pruned.image.id,
            repo_tags: pruned.image.repo_tags,
            repo_digests: pruned.image.repo_digests,
            size: pruned.image.size,
            error: pruned
                .error
                .map_or_else(String::new, |error| crate::error::chain(&error)),
        }
    }
}

impl From<PullProgress> for admin::PullProgress {
    fn from(pull: PullProgress) -> Self {
        let step = match pull.step {
            PullStep::Resolving => admin::PullStep::Resolving,
            PullStep::Config => admin::PullStep::Config,
            PullStep::Layers => admin::PullStep::Layers,
            PullStep::Syncing => admin::PullStep::Syncing,
            PullStep::Recording => admin::PullStep::Recording,
        };
        Self {
            reference: pull.reference,
            step: step.into(),
            started: pull.started,
            step_since: pull.step_since,
            waiting: pull.waiting,
            layers: pull.layers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Kept> for admin::KeptLayer {
    fn from(part: Kept) -> Self {
        Self {
            diff_id: part.diff_id,
            complete: part.complete,
            bytes: part.bytes,
            bytes_total: part.bytes_total,
            remaining_seconds: i64::try_from(part.remaining.as_secs()).unwrap_or(i64::MAX),
        }
    }
}

impl From<LayerProgress> for admin::LayerProgress {
    fn from(layer: LayerProgress) -> Self {
        let state = match layer.state {
            LayerState::Queued => admin::LayerState::Queued,
            LayerState::Joined => admin::LayerState::Joined,
            LayerState::Fetching => admin::LayerState::Fetching,
            LayerState::Done => admin::LayerState::Done,
            LayerState::Present => admin::LayerState::Present,
        };
        Self {
            digest: layer.digest,
            diff_id: layer.diff_id,
            state: state.into(),
            since: layer.since,
            bytes_done: layer.bytes_done,
            bytes_total: layer.bytes_total,
        }
    }
}

impl From<ImageReport> for admin::VerifyResponse {
    fn from(report: ImageReport) -> Self {
        Self {
            whole: report.is_whole(),
            id: report.id,
            names: report.names,
            documents: report.documents.into_iter().map(Into::into).collect(),
            layers: report.layers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DocumentReport> for admin::DocumentReport {
    fn from(document: DocumentReport) -> Self {
        Self {
            digest: document.digest,
            kind: document.kind.to_owned(),
            damage: document.damage.unwrap_or_default(),
        }
    }
}

impl From<LayerReport> for admin::LayerReport {
    fn from(layer: LayerReport) -> Self {
        let method = match layer.method {
            VerifyMethod::Exact => admin::VerifyMethod::Exact,
            VerifyMethod::Tree => admin::VerifyMethod::Tree,
        };
        Self {
            diff_id: layer.diff_id,
            bytes: layer.bytes,
            inodes: layer.inodes,
            method: method.into(),
            damage: layer.damage.unwrap_or_default(),
        }
    }
}

impl From<Incomplete> for admin::IncompleteImage {
    fn from(image: Incomplete) -> Self {
        Self {
            id: image.id,
            names: image.names,
            missing: image.missing,
        }
    }
}

impl From<Exported> for admin::ExportedImage {
    fn from(image: Exported) -> Self {
        Self {
            id: image.id,
            exported_id: image.exported_id,
            names: image.names,
            exact: image.exact,
        }
    }
}
