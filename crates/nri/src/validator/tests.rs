//! The default validator: each setting, and the annotations of hostile pods.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::creation::Creation;
use crate::proto::{
    ContainerAdjustment, CreateContainerRequest, CreateContainerResponse, Hook, Hooks, LinuxContainer,
    LinuxContainerAdjustment, LinuxNamespace, LinuxSeccomp, PluginInstance, SecurityProfile,
};

fn validator(settings: serde_json::Value) -> DefaultValidator {
    let validator: DefaultValidator = serde_json::from_value(settings).unwrap();
    DefaultValidator {
        enable: true,
        ..validator
    }
}

/// A container `ctr` with a seccomp profile, as plugins adjust it.
fn request(
    profile: Option<ProfileType>,
    adjustments: &[(&str, ContainerAdjustment)],
) -> ValidateContainerAdjustmentRequest {
    let seccomp_profile = profile.map(|profile| SecurityProfile {
        profile_type: profile.into(),
        ..SecurityProfile::default()
    });
    let container = Container {
        id: "id".to_owned(),
        name: "ctr".to_owned(),
        linux: Some(LinuxContainer {
            seccomp_profile,
            ..LinuxContainer::default()
        }),
        ..Container::default()
    };
    let mut creation = Creation::new(CreateContainerRequest {
        container: Some(container),
        ..CreateContainerRequest::default()
    });
    for (plugin, adjust) in adjustments {
        let adjust = Some(adjust.clone());
        let response = CreateContainerResponse {
            adjust,
            ..CreateContainerResponse::default()
        };
        creation.apply(plugin, response).unwrap();
    }
    creation.finish(Vec::new()).validation
}

fn hooks() -> ContainerAdjustment {
    let hook = Hook {
        path: "/bin/sh".to_owned(),
        ..Hook::default()
    };
    ContainerAdjustment {
        hooks: Some(Hooks {
            prestart: vec![hook],
            ..Hooks::default()
        }),
        ..ContainerAdjustment::default()
    }
}

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

fn seccomp() -> ContainerAdjustment {
    linux(LinuxContainerAdjustment {
        seccomp_policy: Some(LinuxSeccomp::default()),
        ..LinuxContainerAdjustment::default()
    })
}

fn namespace(kind: &str) -> ContainerAdjustment {
    let namespace = LinuxNamespace {
        r#type: kind.to_owned(),
        path: String::new(),
    };
    linux(LinuxContainerAdjustment {
        namespaces: vec![namespace],
        ..LinuxContainerAdjustment::default()
    })
}

fn sysctl(name: &str) -> ContainerAdjustment {
    linux(LinuxContainerAdjustment {
        sysctl: [(name.to_owned(), "1".to_owned())].into(),
        ..LinuxContainerAdjustment::default()
    })
}

#[test]
fn each_setting_rejects_one_thing() {
    let unconfined = Some(ProfileType::Unconfined);
    let default = Some(ProfileType::RuntimeDefault);
    let localhost = Some(ProfileType::Localhost);
    for (setting, profile, adjustment) in [
        ("reject_oci_hook_adjustment", None, hooks()),
        ("reject_unconfined_seccomp_adjustment", None, seccomp()),
        ("reject_unconfined_seccomp_adjustment", unconfined, seccomp()),
        ("reject_runtime_default_seccomp_adjustment", default, seccomp()),
        ("reject_custom_seccomp_adjustment", localhost, seccomp()),
        ("reject_namespace_adjustment", None, namespace("ipc")),
        ("reject_namespace_adjustment", None, namespace("-ipc")),
        ("reject_sysctl_adjustment", None, sysctl("net.x")),
        ("reject_sysctl_adjustment", None, sysctl("-net.x")),
    ] {
        let request = request(profile, &[("00-a", adjustment)]);
        let strict = validator(json!({ setting: true }));
        let error = strict.validate(&request).expect_err(setting).to_string();
        assert!(
            error.contains("\"ctr\"") && error.contains("NRI plugins"),
            "{error}"
        );
        let others: serde_json::Map<_, _> = [
            "reject_oci_hook_adjustment",
            "reject_unconfined_seccomp_adjustment",
            "reject_runtime_default_seccomp_adjustment",
            "reject_custom_seccomp_adjustment",
            "reject_namespace_adjustment",
            "reject_sysctl_adjustment",
        ]
        .into_iter()
        .filter(|other| *other != setting)
        .map(|other| (other.to_owned(), true.into()))
        .collect();
        validator(others.into()).validate(&request).expect(setting);
        let off = DefaultValidator {
            enable: false,
            ..strict
        };
        off.validate(&request).expect(setting);
    }
}

#[test]
fn a_rejection_names_the_plugins() {
    let all = json!({"reject_oci_hook_adjustment": true});
    let adjustments = [("00-a", hooks()), ("10-b", hooks())];
    let error = validator(all).validate(&request(None, &adjustments)).unwrap_err();
    let expected = "NRI plugins 00-a,10-b adjust the OCI hooks of container \"ctr\", \
                    which the default validator is configured to reject";
    assert_eq!(error.to_string(), expected);

    let all = json!({"reject_namespace_adjustment": true});
    let adjustments = [("00-a", namespace("-ipc")), ("10-b", namespace("cgroup"))];
    let error = validator(all).validate(&request(None, &adjustments)).unwrap_err();
    assert!(error.to_string().contains("10-b (cgroup), 00-a (ipc)"), "{error}");
}

#[test]
fn a_container_without_adjustments_is_accepted() {
    let all = json!({
        "reject_oci_hook_adjustment": true,
        "reject_unconfined_seccomp_adjustment": true,
        "reject_namespace_adjustment": true,
        "reject_sysctl_adjustment": true,
    });
    validator(all.clone()).validate(&request(None, &[])).unwrap();
    validator(all)
        .validate(&ValidateContainerAdjustmentRequest::default())
        .unwrap();
}

/// Plugins `NN-name` that are there, and annotations of the pod.
fn with_plugins(plugins: &[&str], annotations: &[(&str, &str)]) -> ValidateContainerAdjustmentRequest {
    let plugins = plugins.iter().map(|plugin| {
        let (index, name) = plugin.split_once('-').unwrap();
        PluginInstance {
            name: name.to_owned(),
            index: index.to_owned(),
        }
    });
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    ValidateContainerAdjustmentRequest {
        plugins: plugins.collect(),
        pod: Some(PodSandbox {
            annotations,
            ..PodSandbox::default()
        }),
        ..request(None, &[])
    }
}

#[test]
fn required_plugins_must_be_there() {
    const OF_CONTAINER: &str = "required-plugins.noderesource.dev/container.ctr";
    const OF_OTHER: &str = "required-plugins.noderesource.dev/container.other";
    const OF_POD: &str = "required-plugins.noderesource.dev/pod";
    for (required, annotations, plugins, missing) in [
        (&[][..], &[][..], &[][..], &[][..]),
        (&[], &[(OF_CONTAINER, "[ p ]")], &[], &["p"]),
        (&[], &[(OF_CONTAINER, "[ p ]")], &["00-p"], &[]),
        (&[], &[(OF_POD, "- p\n- q")], &["00-q"], &["p"]),
        (&[], &[(REQUIRED_PLUGINS, "[\"00-p\", 'q',]")], &["00-p"], &["q"]),
        (&[], &[(REQUIRED_PLUGINS, "[10-p]")], &["00-p"], &["10-p"]),
        (
            &[],
            &[(REQUIRED_PLUGINS, "- &a p # why\n- *a\n- \n- null")],
            &[],
            &["p"],
        ),
        (
            &[],
            &[(REQUIRED_PLUGINS, "[007, true, a b]")],
            &[],
            &["007", "true", "a b"],
        ),
        (&[], &[(REQUIRED_PLUGINS, " # none")], &[], &[]),
        (&[], &[(REQUIRED_PLUGINS, "~")], &[], &[]),
        (&[], &[(OF_POD, "[p]"), (OF_CONTAINER, "[]")], &[], &[]),
        (&[], &[(OF_OTHER, "[p]")], &[], &[]),
        (&["p"], &[], &[], &["p"]),
        (&["p"], &[], &["00-p"], &[]),
        (&["p"], &[("tolerate", "true")], &[], &[]),
        (&["p"], &[("tolerate", "false")], &[], &["p"]),
        (&["p"], &[("tolerate/container.ctr", "1")], &[], &[]),
        (&["p"], &[(OF_CONTAINER, "[ q ]")], &["00-p", "01-q"], &[]),
        (&["p"], &[(OF_CONTAINER, "[ q ]")], &["00-p"], &["q"]),
        (&["p"], &[(OF_CONTAINER, "[ q ]")], &["00-q"], &["p"]),
        (&["p"], &[(OF_CONTAINER, "[ q ]")], &[], &["p", "q"]),
    ] {
        let validator = validator(json!({
            "required_plugins": required,
            "tolerate_missing_plugins_annotation": "tolerate",
        }));
        let result = validator.validate(&with_plugins(plugins, annotations));
        let expected = match missing {
            [] => Ok(()),
            missing => Err(Rejection::MissingPlugins {
                container: "ctr".to_owned(),
                plugins: missing.iter().map(|&name| name.to_owned()).collect(),
            }),
        };
        assert_eq!(result, expected, "{required:?} {annotations:?} {plugins:?}");
    }
}

#[test]
fn without_its_name_no_annotation_tolerates() {
    let validator = validator(json!({"required_plugins": ["p"]}));
    let annotations = [("", "true"), ("/pod", "true"), ("tolerate", "true")];
    validator.validate(&with_plugins(&[], &annotations)).unwrap_err();
}

#[test]
fn an_annotation_that_cannot_be_read_rejects() {
    let validator = validator(json!({"tolerate_missing_plugins_annotation": "tolerate"}));
    let long = format!("[&a {}{}]", "p".repeat(1 << 10), ", *a".repeat(1 << 10));
    for (key, value) in [
        (REQUIRED_PLUGINS, "p"),
        (REQUIRED_PLUGINS, "[p"),
        (REQUIRED_PLUGINS, "[[p]]"),
        (REQUIRED_PLUGINS, "{a: b}"),
        (REQUIRED_PLUGINS, "- p: q"),
        (REQUIRED_PLUGINS, "[*a]"),
        (REQUIRED_PLUGINS, "''"),
        (REQUIRED_PLUGINS, "[p]\n---\n[q]"),
        (REQUIRED_PLUGINS, &long),
        ("tolerate", "yes"),
        ("tolerate", ""),
    ] {
        let error = validator
            .validate(&with_plugins(&["00-p"], &[(key, value)]))
            .unwrap_err();
        assert!(
            matches!(error, Rejection::Annotation { .. }),
            "{value:?}: {error}"
        );
    }
}

#[test]
fn unknown_settings_are_refused() {
    assert_eq!(
        serde_json::from_value::<DefaultValidator>(json!({})).unwrap(),
        DefaultValidator::default()
    );
    serde_json::from_value::<DefaultValidator>(json!({"reject_everything": true})).unwrap_err();
}

proptest! {
    #[test]
    fn any_annotation_is_read_or_rejected(value in "\\PC{0,40}|[-\\[\\], \n'\"a]{0,20}") {
        let request = with_plugins(&[], &[(REQUIRED_PLUGINS, &value)]);
        validator(json!({})).validate(&request).ok();
    }

    #[test]
    fn lists_mean_the_same_in_both_forms(list in prop::collection::vec("[0-9][a-z0-9-]{0,7}", 1..5)) {
        let lines: String = list.iter().map(|name| format!("- {name}\n")).collect();
        prop_assert_eq!(names(&lines), Some(list.clone()));
        prop_assert_eq!(names(&format!("[{}]", list.join(", "))), Some(list));
    }
}
