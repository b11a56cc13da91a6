//! Whatever a client may send.

use proptest::prelude::*;

use crate::proto::v1;

/// Any security context.
fn any_security() -> impl Strategy<Value = v1::LinuxContainerSecurityContext> {
    let capability = || prop::collection::vec("ALL|CAP_KILL|net_raw|\\PC{0,8}", 0..3);
    (
        (capability(), capability(), capability()),
        (0..5_i32, 0..5_i32, 0..5_i32, "\\PC{0,4}"),
        prop::collection::vec("\\PC{0,12}", 0..3),
        prop::option::of((0..5_i32, "\\PC{0,12}")),
        (any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((add, drop, ambient), modes, paths, profile, flags)| {
            let profile = profile.map(|(profile_type, localhost_ref)| v1::SecurityProfile {
                profile_type,
                localhost_ref,
            });
            v1::LinuxContainerSecurityContext {
                capabilities: Some(v1::Capability {
                    add_capabilities: add,
                    drop_capabilities: drop,
                    add_ambient_capabilities: ambient,
                }),
                namespace_options: Some(v1::NamespaceOption {
                    network: modes.0,
                    pid: modes.1,
                    ipc: modes.2,
                    target_id: modes.3,
                    ..Default::default()
                }),
                masked_paths: paths.clone(),
                readonly_paths: paths,
                seccomp: profile.clone(),
                apparmor: profile,
                privileged: flags.0,
                readonly_rootfs: flags.1,
                no_new_privs: flags.2,
                ..Default::default()
            }
        })
}

fn any_mount() -> impl Strategy<Value = v1::Mount> {
    (
        "(/[a-z.]{0,4}){0,4}|\\PC{0,8}",
        "/[a-z]{0,3}|\\PC{0,8}",
        (any::<bool>(), any::<bool>()),
        -1..5_i32,
        prop::collection::vec("noexec|nodev|\\PC{0,5}", 0..2),
    )
        .prop_map(
            |(container_path, host_path, (readonly, recursive_read_only), propagation, mount_options)| {
                v1::Mount {
                    container_path,
                    host_path,
                    readonly,
                    recursive_read_only,
                    propagation,
                    mount_options,
                    ..Default::default()
                }
            },
        )
}

pub(super) fn any_config() -> impl Strategy<Value = v1::ContainerConfig> {
    let words = || prop::collection::vec("\\PC{0,6}", 0..3);
    let variable = ("\\PC{0,4}", prop::collection::vec(any::<u8>(), 0..6));
    (
        (words(), words(), "\\PC{0,8}"),
        prop::collection::vec(variable, 0..4),
        prop::collection::vec(any_mount(), 0..4),
        prop::option::of(any_security()),
        (any::<[i64; 6]>(), any::<u64>(), "\\PC{0,5}"),
        any::<bool>(),
    )
        .prop_map(
            |((command, args, working_dir), envs, mounts, security, limits, tty)| {
                let (numbers, pages, text) = limits;
                v1::ContainerConfig {
                    command,
                    args,
                    working_dir,
                    envs: envs
                        .into_iter()
                        .map(|(key, value)| v1::KeyValue { key, value })
                        .collect(),
                    mounts,
                    tty,
                    linux: Some(v1::LinuxContainerConfig {
                        resources: Some(v1::LinuxContainerResources {
                            cpu_period: numbers[0],
                            cpu_quota: numbers[1],
                            cpu_shares: numbers[2],
                            memory_limit_in_bytes: numbers[3],
                            oom_score_adj: numbers[4] % 2000,
                            memory_swap_limit_in_bytes: numbers[5],
                            cpuset_cpus: text.clone(),
                            cpuset_mems: text.clone(),
                            hugepage_limits: vec![v1::HugepageLimit {
                                page_size: text,
                                limit: pages,
                            }],
                            ..Default::default()
                        }),
                        security_context: security,
                    }),
                    ..Default::default()
                }
            },
        )
}
