//! Who answers, and whether the node is ready: Version, Status, RuntimeConfig, UpdateRuntimeConfig.

use pausa::proto::v1;

use crate::harness::slot::has_slices;
use crate::harness::{ok, on_node, on_pausa};

/// CRI `VersionResponse`; kubelet refuses a runtime that leaves one of the four empty (cri-client `remote_runtime.go`).
#[test]
#[ignore = "needs root"]
fn version_fills_all_four_fields() {
    on_node(async |node| {
        let request = v1::VersionRequest {
            version: "0.1.0".to_owned(),
        };
        let version = ok("Version", node.runtime().version(request).await);
        assert_eq!(version.version, "0.1.0", "version of the kubelet runtime API");
        assert_eq!(version.runtime_api_version, "v1");
        assert!(!version.runtime_name.is_empty());
        assert!(!version.runtime_version.is_empty());
    });
}

/// CRI `RuntimeStatus.conditions`: "RuntimeReady" and "NetworkReady" are required.
#[test]
#[ignore = "needs root"]
fn status_has_both_required_conditions() {
    on_node(async |node| {
        let status = ok(
            "Status",
            node.runtime().status(v1::StatusRequest::default()).await,
        );
        let conditions = status.status.expect("a status").conditions;
        for kind in ["RuntimeReady", "NetworkReady"] {
            let condition = conditions.iter().find(|c| c.r#type == kind);
            assert!(condition.is_some_and(|c| c.status), "{kind}: {condition:?}");
        }
        assert!(status.info.is_empty(), "info is for verbose requests");
    });
}

/// CRI `StatusResponse.info`: values are JSON that crictl merges; `StatusRequest.verbose` asks for it.
#[test]
#[ignore = "needs root"]
fn verbose_status_is_json() {
    on_node(async |node| {
        let status = ok(
            "Status",
            node.runtime().status(v1::StatusRequest { verbose: true }).await,
        );
        assert!(status.info.contains_key("config"), "{:?}", status.info.keys());
        let json: serde_json::Value = serde_json::from_str(&status.info["config"]).expect("JSON");
        assert!(json.is_object());
    });
}

/// CRI `StatusResponse.runtime_handlers`: the default handler is the one with the empty name (KEP-3857, KEP-127).
#[test]
#[ignore = "needs root"]
fn status_lists_the_default_handler() {
    on_node(async |node| {
        let status = ok(
            "Status",
            node.runtime().status(v1::StatusRequest::default()).await,
        );
        let default = status
            .runtime_handlers
            .iter()
            .filter(|handler| handler.name.is_empty())
            .count();
        assert_eq!(default, 1, "{:?}", status.runtime_handlers);
    });
}

/// CRI `RuntimeFeatures.supplemental_groups_policy` (KEP-3619): the suite tests that it is honoured.
#[test]
#[ignore = "needs root"]
fn status_announces_the_supplemental_groups_policy() {
    on_node(async |node| {
        let status = ok(
            "Status",
            node.runtime().status(v1::StatusRequest::default()).await,
        );
        assert!(status.features.expect("features").supplemental_groups_policy);
    });
}

/// CRI `RuntimeConfigResponse` (KEP-4033): the driver kubelet has to use.
#[test]
#[ignore = "needs root"]
fn runtime_config_names_the_cgroup_driver() {
    on_node(async |node| {
        let config = ok(
            "RuntimeConfig",
            node.runtime().runtime_config(v1::RuntimeConfigRequest {}).await,
        );
        let driver = config.linux.expect("a Linux node").cgroup_driver();
        if node.is_own() {
            let expected = match has_slices() {
                true => v1::CgroupDriver::Systemd,
                false => v1::CgroupDriver::Cgroupfs,
            };
            assert_eq!(driver, expected);
        }
    });
}

/// CRI UpdateRuntimeConfig: kubelet sends the node's pod range, and sends it again.
#[test]
#[ignore = "needs root"]
fn the_pod_range_can_be_set_again_and_again() {
    on_pausa(async |node| {
        for _ in 0..2 {
            let pod_cidr = format!("{}/24", node.slot().subnet());
            let runtime_config = Some(v1::RuntimeConfig {
                network_config: Some(v1::NetworkConfig { pod_cidr }),
            });
            let request = v1::UpdateRuntimeConfigRequest { runtime_config };
            ok(
                "UpdateRuntimeConfig",
                node.runtime().update_runtime_config(request).await,
            );
        }
        let pod = node.pod().await;
        let prefix = node.slot().subnet().to_string();
        let prefix = prefix.trim_end_matches('0');
        assert!(
            pod.ip().await.starts_with(prefix),
            "{} in {prefix}0/24",
            pod.ip().await
        );
    });
}
