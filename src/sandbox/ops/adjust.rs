//! What NRI plugins want of a container that is being created: in its spec, and in what else pausa goes by.

use std::sync::Arc;

use oci_spec::runtime::{LinuxIntelRdt, Spec};
use pausa_nri::creation::Merged;
use pausa_nri::proto::{ContainerAdjustment, LinuxNamespace};
use pausa_nri::spec::{Rest, Rules, SpecError};

use super::create_container::device_rules;
use super::{cgroup, classes, confine, update_resources};
use crate::blocking::blocking;
use crate::cgroups::QosClass;
use crate::cgroups::cpus::Seat;
use crate::container::ContainerRecord;
use crate::error::{ErrorKind, Kinded};
use crate::lsm::selinux::Labels;
use crate::oci::{self, OtherNamespace};
use crate::sandbox::error::PodError;
use crate::sandbox::nri::change_of;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

const DOING: &str = "adjust the container as NRI plugins want";

/// Something that a plugin wants and that does not exist here.
#[derive(Debug, thiserror::Error)]
#[error("{what} is adjusted, which pausa does not support")]
struct Unsupported {
    what: &'static str,
}

impl Kinded for Unsupported {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unimplemented
    }
}

/// A container that is being made, as far as plugins have a say in it.
pub(super) struct Draft {
    pub(super) record: ContainerRecord,
    pub(super) spec: Spec,
    pub(super) seat: Seat,
}

/// Changes other containers as plugins want when this one is created, as far as that can be done in time. Returns what they
/// want of this one, if that is anything.
pub(super) async fn change_others(services: &Services, merged: Merged) -> Option<ContainerAdjustment> {
    let wanted = merged.validation;
    services.nri.change_others(wanted.update, merged.evictions).await;
    wanted
        .adjust
        .filter(|adjust| *adjust != ContainerAdjustment::default())
}

/// Makes what plugins want of a container.
///
/// # Errors
/// They want what cannot be.
pub(super) async fn adjust(
    services: &Arc<Services>,
    pod: &PodRecord,
    draft: Draft,
    class: QosClass,
    labels: Option<&Labels>,
    adjust: &ContainerAdjustment,
) -> Result<Draft, PodError> {
    let Draft {
        mut record,
        mut spec,
        mut seat,
    } = draft;
    supported(adjust)?;
    let rules = Rules { hugetlb: true };
    let mut rest = Rest::default();
    oci::keeping_exact_env(&mut spec, |spec| {
        rest = pausa_nri::spec::apply(adjust, spec, rules)?;
        Ok(())
    })
    .map_err(|error: SpecError| PodError::failed_as(DOING, ErrorKind::InvalidArgument, error))?;
    if !rest.cdi_devices.is_empty() {
        let (node, names) = (Arc::clone(services), rest.cdi_devices);
        let edits = blocking(move || node.cdi.load().edits(&names)).await;
        let edited = edits.and_then(|edits| oci::keeping_exact_env(&mut spec, |spec| edits.apply(spec)));
        edited.map_err(|error| PodError::failed(DOING, oci::OciError::cdi(error)))?;
    }
    let (propagated, relabel) = (rest.propagated, rest.relabel);
    let sources = propagated
        .into_iter()
        .map(|one| (one.source, one.shared))
        .collect();
    blocking(move || oci::check_sources(sources))
        .await
        .map_err(|error| PodError::failed(DOING, error))?;
    let relabel = relabel
        .into_iter()
        .map(|source| ("mounts.source".to_owned(), source));
    confine::relabel_paths(relabel.collect(), labels).await?;
    if let Some(block_io) = &rest.blockio_class {
        record.block_io = classes::block_io_class(services, pod, &record, block_io).await?;
    }
    if let Some(rdt) = &rest.rdt_class {
        record.rdt_class = classes::rdt_class(services, &record, rdt)?;
    }
    let linux = adjust.linux.clone().unwrap_or_default();
    for LinuxNamespace { r#type: kind, path } in &linux.namespaces {
        let (kind, other) = match (kind.strip_prefix('-'), path.as_str()) {
            (Some(kind), _) => (kind, OtherNamespace::Host),
            (None, "") => (kind.as_str(), OtherNamespace::New),
            (None, path) => (kind.as_str(), OtherNamespace::File(path.into())),
        };
        record.namespaces.insert(kind.to_owned(), other);
    }
    if let Some(score) = linux.oom_score_adj {
        record.resources.oom_score_adj = score.value;
    }
    if let Some(wanted) = &linux.resources {
        let change = change_of(wanted).map_err(|error| PodError::failed(DOING, error))?;
        record.resources = update_resources::merge(&record.resources, &change);
        if let Some(pids) = wanted.pids {
            record.pids_limit = u32::try_from(pids.limit).ok().filter(|limit| *limit > 0);
        }
        if !change.cpuset_cpus.is_empty() {
            // As if kubelet had given them.
            drop(seat);
            seat = cgroup::seat(services, pod, &record, class).await?;
            record.pinning = services.cpus.pinned(&record.id);
        }
    }
    let limits = oci::limits(&cgroup::limits(services, &record), device_rules(&spec));
    let limits = limits.map_err(|error| PodError::failed(DOING, error))?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(Some(limits));
        linux.set_intel_rdt(record.rdt_class.clone().map(|class| {
            let mut rdt = LinuxIntelRdt::default();
            rdt.set_clos_id(Some(class));
            rdt
        }));
    }
    Ok(Draft { record, spec, seat })
}

/// Refuses what would be left out otherwise.
fn supported(adjust: &ContainerAdjustment) -> Result<(), PodError> {
    let linux = adjust.linux.clone().unwrap_or_default();
    let rdt = linux.rdt.unwrap_or_default();
    for (is_set, what) in [
        (!linux.cgroups_path.is_empty(), "linux.cgroups_path"),
        (rdt.schemata.is_some(), "linux.rdt.schemata"),
        (rdt.enable_monitoring.is_some(), "linux.rdt.enable_monitoring"),
    ] {
        if is_set {
            return Err(PodError::failed(DOING, Unsupported { what }));
        }
    }
    Ok(())
}
