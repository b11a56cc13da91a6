use super::*;
use crate::error::chain;

/// The field is that of the configuration, whichever mounts before it are not relabelled.
#[tokio::test]
async fn a_volume_that_keeps_its_labels_is_named_by_its_field() {
    let mount = |selinux_relabel| v1::Mount {
        selinux_relabel,
        ..v1::Mount::default()
    };
    let config = v1::ContainerConfig {
        mounts: vec![mount(false), mount(true)],
        ..v1::ContainerConfig::default()
    };
    let sources = ["/tmp", "/etc"].map(PathBuf::from);
    let labels = Labels {
        process: String::new(),
        file: String::new(),
    };
    let error = relabel_volumes(&config, &sources, Some(&labels)).await;
    let error = chain(&error.unwrap_err());
    assert!(error.contains("relabel mounts[1].host_path /etc: "), "{error}");
}
