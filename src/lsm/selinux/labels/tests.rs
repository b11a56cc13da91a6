use proptest::prelude::*;

use super::*;

/// As container-selinux has it.
const FEDORA: &str = "process = \"system_u:system_r:container_t:s0\"\ncontent = \"system_u:object_r:virt_var_lib_t:s0\"\n\
                      file = \"system_u:object_r:container_file_t:s0\"\nro_file=\"system_u:object_r:container_ro_file_t:s0\"\n";

fn options(text: &str) -> Option<v1::SeLinuxOption> {
    if text.is_empty() {
        return None;
    }
    let mut parts = text.splitn(4, ':').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Some(v1::SeLinuxOption {
        user: part(),
        role: part(),
        r#type: part(),
        level: part(),
    })
}

#[test]
fn contexts_are_taken_apart_and_put_together() {
    for good in [
        "system_u:system_r:container_t:s0:c1,c2",
        "system_u:object_r:container_file_t:s0",
        "u:r:t",
        "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
    ] {
        assert_eq!(good.parse::<Context>().unwrap().to_string(), good);
    }
    for bad in [
        "", "kernel", "u:r", "u:r:", "u::t", "u:r:t:", "u:r:t:x", "u:r:t t", "u:r:t\"", "u:r,x:t",
    ] {
        assert!(bad.parse::<Context>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_defaults_of_a_policy() {
    let policy = Policy::parse(FEDORA, true);
    assert_eq!(policy.process.to_string(), "system_u:system_r:container_t:s0");
    assert_eq!(policy.file.to_string(), "system_u:object_r:container_file_t:s0");
    assert_eq!(policy.sensitivity(), "s0");
    for nothing in ["", "process\nfile=\n", "process = \"broken\"\nfile = \"u:r\""] {
        let policy = Policy::parse(nothing, false);
        assert_eq!(policy.process.to_string(), "system_u:system_r:container_t");
        assert_eq!(policy.file.to_string(), "system_u:object_r:container_file_t");
    }
    let old = Policy::parse(
        "process = \"system_u:system_r:svirt_lxc_net_t:s0\"\nfile=\"u:object_r:f_t:s1\"",
        true,
    );
    assert_eq!(old.process.kind, "svirt_lxc_net_t");
    assert_eq!(old.file.user, "u");
}

/// Pod's options, its level, container's options, unseparated: process, files.
#[test]
fn who_decides_about_each_part() {
    let table = [
        // Nothing asked for: the pod's pair.
        (
            "",
            "s0:c1,c2",
            "",
            false,
            "system_u:system_r:container_t:s0:c1,c2",
            "system_u:object_r:container_file_t:s0:c1,c2",
        ),
        // The pod's options.
        (
            "u:r:t:s0:c4,c5",
            "s0:c4,c5",
            "",
            false,
            "u:r:t:s0:c4,c5",
            "u:object_r:container_file_t:s0:c4,c5",
        ),
        (
            ":::s0",
            "s0",
            "",
            false,
            "system_u:system_r:container_t:s0",
            "system_u:object_r:container_file_t:s0",
        ),
        // The container's own, part by part.
        (
            "u:r:t:s0:c4,c5",
            "s0:c4,c5",
            "::x",
            false,
            "u:r:x:s0:c4,c5",
            "u:object_r:container_file_t:s0:c4,c5",
        ),
        (
            "u:r:t:s0:c4,c5",
            "s0:c4,c5",
            "v:::s0:c9",
            false,
            "v:r:t:s0:c9",
            "v:object_r:container_file_t:s0:c9",
        ),
        // Files have one level.
        (
            "",
            "s0:c1,c2",
            ":::s0-s0:c0.c1023",
            false,
            "system_u:system_r:container_t:s0-s0:c0.c1023",
            "system_u:object_r:container_file_t:s0",
        ),
        // Not separated: spc_t, without the pair; the files belong to the pod as well.
        (
            "",
            "s0:c1,c2",
            "",
            true,
            "system_u:system_r:spc_t:s0",
            "system_u:object_r:container_file_t:s0:c1,c2",
        ),
        (
            "u:r:t:s0:c4,c5",
            "s0:c4,c5",
            "",
            true,
            "u:r:spc_t:s0:c4,c5",
            "u:object_r:container_file_t:s0:c4,c5",
        ),
        (
            "",
            "s0:c1,c2",
            "::x:s0:c7",
            true,
            "system_u:system_r:x:s0:c7",
            "system_u:object_r:container_file_t:s0:c7",
        ),
    ];
    let policy = Policy::parse(FEDORA, true);
    for (pod, level, container, unseparated, process, file) in table {
        let (pod, container) = (options(pod), options(container));
        let wanted = Wanted {
            pod: pod.as_ref(),
            level: Some(&level.parse().unwrap()),
            container: container.as_ref(),
            unseparated,
        };
        let labels = labels(&policy, &wanted);
        assert_eq!(
            (labels.process.as_str(), labels.file.as_str()),
            (process, file),
            "{wanted:?}"
        );
    }
}

#[test]
fn a_policy_without_levels_gets_none() {
    let policy = Policy::parse("", false);
    let asked = options("u:r:t:s0:c1");
    let wanted = Wanted {
        container: asked.as_ref(),
        ..Wanted::default()
    };
    assert_eq!(labels(&policy, &wanted).process, "u:r:t");
    assert_eq!(labels(&policy, &wanted).file, "u:object_r:container_file_t");
}

#[test]
fn wrong_options_are_named() {
    for (text, part) in [
        ("sys tem", "user"),
        (":a,b", "role"),
        ("::t\"", "type"),
        ("::t\0", "type"),
        (":::s0,c4,c5", "level"),
    ] {
        assert_eq!(check(&options(text).unwrap()).unwrap_err().0, part, "{text:?}");
    }
    check(&options("system_u:system_r:svirt_lxc_net_t:s0:c4,c5").unwrap()).unwrap();
    check(&v1::SeLinuxOption::default()).unwrap();
}

proptest! {
    /// Whatever passes the check makes contexts that can be taken apart again, and mount options that stay one option.
    #[test]
    fn checked_options_make_contexts(
        pod in ".{0,4}|[a-z_.-]{1,6}", container in "[a-z_]{0,4}|.{0,4}", level in "|s0|s0:c1,c2|s0-s0:c0.c3|.{0,5}", unseparated: bool,
    ) {
        let asked = v1::SeLinuxOption { user: container.clone(), role: container.clone(), r#type: container, level: level.clone() };
        let of_pod = v1::SeLinuxOption { user: pod.clone(), role: pod.clone(), r#type: pod, level };
        if check(&asked).is_err() || check(&of_pod).is_err() {
            return Ok(());
        }
        let level = "s0:c1,c2".parse().unwrap();
        let wanted = Wanted { pod: Some(&of_pod), level: Some(&level), container: Some(&asked), unseparated };
        let made = labels(&Policy::parse(FEDORA, true), &wanted);
        for context in [made.process, made.file] {
            prop_assert!(!context.contains(['"', ' ', '=']));
            prop_assert_eq!(context.parse::<Context>().map(|parsed| parsed.to_string()), Ok(context));
        }
    }
}
