//! RuntimeConfig (Kubernetes 1.28): the cgroup driver, which kubelet then uses too.

use super::Facts;
use crate::error::Failure;
use crate::proto::v1;

/// Serves RuntimeConfig.
pub(super) async fn answer(facts: &Facts) -> Result<v1::RuntimeConfigResponse, Failure> {
    Ok(v1::RuntimeConfigResponse {
        linux: Some(v1::LinuxRuntimeConfiguration {
            cgroup_driver: facts.cgroup_driver.into(),
        }),
    })
}
