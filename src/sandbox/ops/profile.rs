//! The AppArmor profile of a process that is about to start.

use std::sync::Arc;

use pausa_monitor_protocol::ProcessPlan;

use crate::blocking::blocking;
use crate::sandbox::error::PodError;
use crate::sandbox::services::Services;

/// Has the profile of a process in the kernel: somebody may have unloaded it since the container was created.
pub(super) async fn ensure_profile(services: &Arc<Services>, process: &ProcessPlan) -> Result<(), PodError> {
    let missing = process
        .apparmor
        .clone()
        .filter(|profile| !services.apparmor.is_in_place(profile));
    let Some(profile) = missing else {
        return Ok(());
    };
    let services = Arc::clone(services);
    blocking(move || services.apparmor.ensure(&profile))
        .await
        .map_err(|error| PodError::failed("confine the process", error))
}
