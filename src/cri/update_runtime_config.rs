//! UpdateRuntimeConfig: the node's pod CIDR, once kubelet knows it. An empty one says nothing.

use ipnet::IpNet;

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves UpdateRuntimeConfig.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, Failure> {
    let config = request.runtime_config.unwrap_or_default();
    let cidr = config.network_config.unwrap_or_default().pod_cidr;
    if !cidr.is_empty() {
        // Two with a comma on a dual-stack node.
        if cidr.split(',').any(|net| net.trim().parse::<IpNet>().is_err()) {
            return Err(require::wrong(format!(
                "the field runtime_config.network_config.pod_cidr is {cidr:?}, which is not a list of networks"
            )));
        }
        pods.set_pod_cidr(cidr).await?;
    }
    Ok(v1::UpdateRuntimeConfigResponse {})
}
