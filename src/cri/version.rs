//! Version: who answers. kubelet refuses a runtime with an empty field.

use crate::error::Failure;
use crate::proto::v1;

/// Version of kubelet's own API that all runtimes report since CRI v1alpha1.
const KUBE_API_VERSION: &str = "0.1.0";

/// Serves Version; the version the client sends has never meant anything.
pub(super) async fn answer(_: v1::VersionRequest) -> Result<v1::VersionResponse, Failure> {
    Ok(v1::VersionResponse {
        version: KUBE_API_VERSION.into(),
        runtime_name: "pausa".into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: "v1".into(),
    })
}
