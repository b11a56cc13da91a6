//! Reports of the image store, of the CPUs, of operations and of networks as messages of the admin service.

use crate::cgroups::Partition;
use crate::cgroups::cpus::{Held, Snapshot};
use crate::config::{Change, CpuPinning, CpuShortage};
use crate::error::chain;
use crate::image::{
    DocumentReport, ExportedImage, ImageReport, IncompleteImage, LayerProgress, LayerReport, LayerState,
    PruneReport, PrunedImage, PullProgress, PullStep, RetainedLayer, VerifyMethod,
};
use crate::network::check::{Finding, Verdict};
use crate::proto::admin;
use crate::sandbox::{NetworkCheck, NetworkOutcome, Operation};
use pausa_distribution::{Explanation, Path, Step};

impl From<PruneReport> for admin::PruneResponse {
    fn from(report: PruneReport) -> Self {
        let count = |images: usize| Some(u64::try_from(images).unwrap_or(u64::MAX));
        let mut response = Self {
            in_use: count(report.in_use),
            pinned: count(report.pinned),
            ..Self::default()
        };
        for PrunedImage { image, error } in report.images {
            match error {
                None => response.removed.push(admin::RemovedImage {
                    id: image.id,
                    repo_tags: image.repo_tags,
                    repo_digests: image.repo_digests,
                    size: image.size,
                }),
                Some(error) => response.failed.push(admin::FailedRemoval {
                    image: image.id,
                    error: chain(&error),
                }),
            }
        }
        response
    }
}

impl From<Change> for admin::ConfigChange {
    fn from(change: Change) -> Self {
        Self {
            needs_restart: change.needs_restart(),
            key: change.key,
            running: change.old.map(|value| value.to_string()),
            files: change.new.map(|value| value.to_string()),
        }
    }
}

impl From<Explanation> for admin::CheckResponse {
    fn from(explanation: Explanation) -> Self {
        Self {
            given: explanation.given,
            references: explanation.references.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Path> for admin::CheckedReference {
    fn from(path: Path) -> Self {
        Self {
            reference: path.reference,
            refused: path.refused,
            blocked: path.blocked,
            endpoints: path.endpoints.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Step> for admin::CheckedEndpoint {
    fn from(step: Step) -> Self {
        Self {
            url: step.url,
            repository: step.repository,
            tag: step.tag,
            role: step.role.to_owned(),
            asked: step.asked,
            condition: step.condition.map(str::to_owned),
            pull: step.pull,
            resolve: step.resolve,
            file: step.file,
            key: step.key,
            rule: step.rule,
            transport: step.transport.to_owned(),
            certificates: step.certificates,
            client_certificate: step.client_certificate,
            headers: step.headers,
            dial_timeout_ms: step.dial_timeout_ms,
            proxy: step.proxy,
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

impl From<RetainedLayer> for admin::KeptLayer {
    fn from(part: RetainedLayer) -> Self {
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
            damage: document.damage,
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
            damage: layer.damage,
        }
    }
}

impl From<IncompleteImage> for admin::IncompleteImage {
    fn from(image: IncompleteImage) -> Self {
        Self {
            id: image.id,
            names: image.names,
            missing: image.missing,
        }
    }
}

impl From<ExportedImage> for admin::ExportedImage {
    fn from(image: ExportedImage) -> Self {
        Self {
            id: image.id,
            exported_id: image.exported_id,
            names: image.names,
            exact: image.exact,
        }
    }
}

impl From<Snapshot> for admin::CpusResponse {
    fn from(snapshot: Snapshot) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let cpus = snapshot.cpus.iter().map(|location| admin::Cpu {
            cpu: number(location.cpu),
            socket: number(location.socket),
            numa_node: number(location.node),
            cache: number(location.cache),
            core: number(location.core),
            reserved: snapshot.reserved.contains(location.cpu),
        });
        let pinning = match snapshot.pinning {
            CpuPinning::None => "none",
            CpuPinning::Static => "static",
        };
        let on_shortage = match snapshot.on_shortage {
            CpuShortage::Share => "share",
            CpuShortage::Refuse => "refuse",
        };
        Self {
            cpus: cpus.collect(),
            pinning: pinning.to_owned(),
            on_shortage: on_shortage.to_owned(),
            pool: snapshot.pool.to_string(),
            holders: snapshot.holders.into_iter().map(Into::into).collect(),
            pool_containers: number(snapshot.pool_containers),
        }
    }
}

impl From<Held> for admin::CpuHolder {
    fn from(held: Held) -> Self {
        let mode = match held.pinned {
            true => admin::CpuMode::Pinned,
            false => admin::CpuMode::Given,
        };
        Self {
            namespace: held.owner.namespace,
            pod: held.owner.pod,
            container: held.owner.container,
            container_id: held.id.to_string(),
            mode: mode.into(),
            cpus: held.cpus.to_string(),
            memory_nodes: held.mems.to_string(),
            partition: held.partition.map(Partition::kind).unwrap_or_default().to_owned(),
        }
    }
}

impl From<Operation> for admin::Operation {
    fn from(operation: Operation) -> Self {
        let (step, step_since) = operation.step.unzip();
        Self {
            operation: operation.name.to_owned(),
            namespace: operation.namespace,
            pod: operation.pod,
            pod_id: operation.pod_id,
            container: operation.container,
            container_id: operation.container_id,
            started: operation.started,
            step: step.map(str::to_owned),
            step_since,
        }
    }
}

impl From<NetworkCheck> for admin::CheckNetworkResponse {
    fn from(check: NetworkCheck) -> Self {
        let mut response = Self {
            pod_id: check.pod_id,
            namespace: check.namespace,
            pod: check.pod,
            ..Self::default()
        };
        match check.outcome {
            NetworkOutcome::Checked(findings) => {
                response.findings = findings.into_iter().map(Into::into).collect();
            }
            NetworkOutcome::Exempt(why) => {
                response.skipped = Some(why.to_owned());
                response.exempt = true;
            }
            NetworkOutcome::Skipped(why) => response.skipped = Some(why.to_owned()),
        }
        response
    }
}

impl From<Finding> for admin::NetworkFinding {
    fn from(finding: Finding) -> Self {
        let verdict = match finding.verdict {
            Verdict::Ok => admin::NetworkVerdict::Ok,
            Verdict::Info => admin::NetworkVerdict::Info,
            Verdict::Warning => admin::NetworkVerdict::Warning,
            Verdict::Problem => admin::NetworkVerdict::Problem,
            Verdict::Unknown => admin::NetworkVerdict::Unknown,
        };
        Self {
            check: finding.check.word().to_owned(),
            verdict: verdict.into(),
            object: finding.object,
            expected: finding.expected,
            found: finding.found,
            consequence: finding.consequence,
            remedy: finding.remedy,
        }
    }
}
