//! What a container may do: capabilities, seccomp, masked paths, privilege.

use pausa::proto::v1;
use pausa::proto::v1::security_profile::ProfileType;

use crate::harness::pod::{pod_security, security};
use crate::harness::{Pod, on_node, on_pausa, strings};

const SYS_ADMIN: u32 = 21;
const NET_ADMIN: u32 = 12;
const CHOWN: u32 = 0;
const KILL: u32 = 5;
const NET_RAW: u32 = 13;

fn bit(capability: u32) -> u64 {
    1 << capability
}

/// The effective and the bounding set of a container with these capabilities added and dropped.
async fn sets(pod: &Pod<'_>, add: &[&str], drop: &[&str]) -> (u64, u64) {
    let seen = pod.sh_with("grep -E '^Cap(Eff|Bnd)' /proc/self/status", |config| {
        security(config).capabilities = Some(v1::Capability {
            add_capabilities: strings(add),
            drop_capabilities: strings(drop),
            ..Default::default()
        });
    });
    let seen = seen.await;
    let set = |name: &str| {
        let line = seen.lines().find(|line| line.starts_with(name)).expect("a set");
        u64::from_str_radix(line.split_whitespace().nth(1).expect("a value"), 16).expect("hexadecimal")
    };
    (set("CapEff"), set("CapBnd"))
}

/// What the kernel lets anybody here have at most.
fn everything() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let line = status
        .lines()
        .find(|line| line.starts_with("CapBnd"))
        .expect("a set");
    u64::from_str_radix(line.split_whitespace().nth(1).expect("a value"), 16).expect("hexadecimal")
}

/// The default set of containers: enough for a package manager, not for the node.
#[test]
#[ignore = "needs root"]
fn the_default_capabilities() {
    on_node(async |node| {
        let pod = node.pod().await;
        let (effective, bounding) = sets(&pod, &[], &[]).await;
        assert_eq!(effective, bounding);
        assert_ne!(effective & bit(CHOWN), 0);
        assert_ne!(effective & bit(KILL), 0);
        assert_eq!(effective & (bit(SYS_ADMIN) | bit(NET_ADMIN)), 0);
    });
}

/// CRI `Capability`: add and drop, ALL first, names without `CAP_`.
#[test]
#[ignore = "needs root"]
fn capabilities_are_added_and_dropped() {
    on_node(async |node| {
        let pod = node.pod().await;
        let (default, _) = sets(&pod, &[], &[]).await;
        assert_eq!(sets(&pod, &["NET_ADMIN"], &[]).await.0, default | bit(NET_ADMIN));
        assert_eq!(
            sets(&pod, &[], &["CHOWN", "KILL"]).await.0,
            default & !bit(CHOWN) & !bit(KILL)
        );
        assert_eq!(sets(&pod, &[], &["ALL"]).await, (0, 0));
        assert_eq!(sets(&pod, &["NET_RAW"], &["ALL"]).await.0, bit(NET_RAW));
        assert_eq!(sets(&pod, &["ALL"], &[]).await.0, everything());
        assert_eq!(
            sets(&pod, &["ALL"], &["SYS_ADMIN"]).await.0,
            everything() & !bit(SYS_ADMIN)
        );
    });
}

/// CRI `add_ambient_capabilities` (KEP-2763): a plain user keeps them.
#[test]
#[ignore = "needs root"]
fn ambient_capabilities_reach_a_plain_user() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let seen = pod.sh_with("grep -E '^CapAmb' /proc/self/status", |config| {
            let security = security(config);
            security.run_as_user = Some(v1::Int64Value { value: 1000 });
            security.capabilities = Some(v1::Capability {
                add_capabilities: strings(&["NET_RAW"]),
                add_ambient_capabilities: strings(&["NET_RAW"]),
                ..Default::default()
            });
        });
        assert_eq!(seen.await.split_whitespace().nth(1), Some("0000000000002000"));
    });
}

/// CRI `no_new_privs`: as given, either way (`PR_SET_NO_NEW_PRIVS`, prctl(2)).
#[test]
#[ignore = "needs root"]
fn no_new_privs_is_as_given() {
    on_node(async |node| {
        let pod = node.pod().await;
        for (given, expected) in [(true, "1"), (false, "0")] {
            let seen = pod.sh_with("grep NoNewPrivs /proc/self/status", |config| {
                security(config).no_new_privs = given;
            });
            assert_eq!(seen.await.split_whitespace().nth(1), Some(expected));
        }
    });
}

/// CRI `readonly_rootfs`.
#[test]
#[ignore = "needs root"]
fn a_read_only_root_filesystem_is_read_only() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "touch /x 2>&1 | grep -c 'Read-only file system'; touch /dev/shm/x && echo shm";
        let seen = pod
            .sh_with(script, |config| security(config).readonly_rootfs = true)
            .await;
        assert_eq!(seen, "1\nshm\n");
        assert_eq!(pod.sh("touch /x && echo written").await, "written\n");
    });
}

/// CRI `masked_paths` and `readonly_paths`: kubelet sends them; an empty list masks nothing (`procMount: Unmasked`).
#[test]
#[ignore = "needs root"]
fn masked_and_read_only_paths() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "cat /etc/passwd | wc -c; ls /home | wc -l; touch /var/x 2>&1 | grep -c 'Read-only'";
        let masked = pod.sh_with(script, |config| {
            let security = security(config);
            security.masked_paths = strings(&["/etc/passwd", "/home", "/no/such/path"]);
            security.readonly_paths = strings(&["/var", "/no/such/path"]);
        });
        assert_eq!(masked.await, "0\n0\n1\n");
        let open = pod.sh_with(
            "cat /etc/passwd | grep -c alice; touch /var/x && echo written",
            |config| {
                let security = security(config);
                security.masked_paths.clear();
                security.readonly_paths.clear();
            },
        );
        assert_eq!(open.await, "1\nwritten\n");
    });
}

/// The default masks of kubelet hold against root in the container.
#[test]
#[ignore = "needs root"]
fn proc_is_masked_and_read_only_where_it_hurts() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "head -c 1 /proc/kcore 2>/dev/null | wc -c; \
                      (echo 1 > /proc/sysrq-trigger) 2>/dev/null || echo no; (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo no";
        assert_eq!(pod.sh(script).await, "0\nno\nno\n");
    });
}

fn profile(kind: ProfileType, path: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path.to_owned(),
    })
}

/// CRI `LinuxContainerSecurityContext.seccomp`: RuntimeDefault filters, Unconfined and nothing do not.
#[test]
#[ignore = "needs root"]
fn the_default_seccomp_profile_filters() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "grep '^Seccomp:' /proc/self/status | tr -dc 0-9; unshare -U true 2>/dev/null && echo ' may' || echo ' may not'";
        for (seccomp, expected) in [
            (profile(ProfileType::RuntimeDefault, ""), "2 may not\n"),
            (profile(ProfileType::Unconfined, ""), "0 may\n"),
            (None, "0 may\n"),
        ] {
            let seen = pod
                .sh_with(script, |config| security(config).seccomp = seccomp.clone())
                .await;
            assert_eq!(seen, expected, "{seccomp:?}");
        }
    });
}

/// CRI `SecurityProfile.localhost_ref`: a profile file on the node, by absolute path.
#[test]
#[ignore = "needs root"]
fn a_seccomp_profile_of_the_node() {
    on_node(async |node| {
        let path = node.dir().join("profile.json");
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
                      "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
        std::fs::write(&path, text).expect("a profile");
        let pod = node.pod().await;
        let path = path.display().to_string();
        let seen = pod.sh_with(
            "mkdir /x 2>/dev/null || echo refused; touch /y && echo made",
            |config| {
                security(config).seccomp = profile(ProfileType::Localhost, &path);
            },
        );
        assert_eq!(seen.await, "refused\nmade\n");
        let mut config = pod.container_config();
        security(&mut config).seccomp = profile(ProfileType::Localhost, "/no/such/profile.json");
        let status = pod.try_create(&config).await.expect_err("no such profile");
        assert!(
            status.message().contains("/no/such/profile.json"),
            "{}",
            status.message()
        );
    });
}

/// CRI `privileged`: all capabilities, no filter, no masks, the node's devices, a writable /sys.
#[test]
#[ignore = "needs root"]
fn a_privileged_container() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| pod_security(config).privileged = true)
            .await;
        let script = "grep CapEff /proc/self/status | cut -f2; grep '^Seccomp:' /proc/self/status | tr -dc 0-9; echo; \
                      mkdir /mnt && mount -t tmpfs none /mnt && echo mounted; grep -c ' /sys sysfs rw' /proc/mounts; \
                      test -c /dev/kmsg && echo devices";
        let seen = pod.sh_with(script, |config| {
            let security = security(config);
            security.privileged = true;
            security.seccomp = profile(ProfileType::RuntimeDefault, "");
        });
        assert_eq!(
            seen.await,
            format!("{:016x}\n0\nmounted\n1\ndevices\n", everything())
        );
    });
}

/// Without privilege there is neither mount(2) nor a device of the node.
#[test]
#[ignore = "needs root"]
fn an_ordinary_container_cannot_mount_and_has_no_devices() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "mount -t tmpfs none /tmp 2>/dev/null || echo no; test -e /dev/kmsg || echo none; \
                      mknod /tmp/sda b 8 0 2>/dev/null && head -c 1 /tmp/sda >/dev/null 2>&1 || echo closed";
        assert_eq!(pod.sh(script).await, "no\nnone\nclosed\n");
    });
}

/// CRI `Device`: the node's device under a name of the request's choice.
#[test]
#[ignore = "needs root"]
fn a_device_of_the_node() {
    on_node(async |node| {
        let pod = node.pod().await;
        let seen = pod.sh_with("head -c 2 /dev/mine | wc -c", |config| {
            config.devices = vec![v1::Device {
                container_path: "/dev/mine".to_owned(),
                host_path: "/dev/zero".to_owned(),
                permissions: "r".to_owned(),
            }];
        });
        assert_eq!(seen.await, "2\n");
    });
}
