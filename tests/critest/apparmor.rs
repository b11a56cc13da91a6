//! AppArmor: the default profile, profiles of the node, and nodes without AppArmor.
//!
//! Profiles belong to the whole machine. A test that unloads the default one has it to itself ([`Profiles`]); daemons of
//! other tests load it again when they need it.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use pausa::proto::v1;
use pausa::proto::v1::security_profile::ProfileType;
use rustix::fs::{FlockOperation, flock};
use tonic::Code;

use crate::harness::pod::{pod_security, security, share_pids};
use crate::harness::{Node, ok, on_pausa, refused, strings, which};
use crate::user_namespaces;

const DEFAULT: &str = "pausa-default";
const LABEL: &str = "cat /proc/self/attr/current";

/// Whether the kernel enforces AppArmor.
fn is_on() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Runs a test where AppArmor is on.
fn with_apparmor(use_of: FlockOperation, test: impl AsyncFnOnce(&Node)) {
    if !is_on() {
        eprintln!("skipped: AppArmor is not enabled in this kernel");
        return;
    }
    if which("apparmor_parser").is_none() {
        eprintln!("skipped: needs apparmor_parser: apt-get install apparmor");
        return;
    }
    let lock = File::create(std::env::temp_dir().join("pausa-critest-apparmor.lock")).expect("a lock file");
    flock(&lock, use_of).expect("the lock");
    on_pausa(test);
}

/// Profiles of a test, unloaded at its end.
#[derive(Default)]
struct Profiles(Vec<String>);

impl Profiles {
    /// Loads a profile with these rules and returns its name, which nobody else uses.
    fn load(&mut self, rules: &str) -> String {
        let name = format!("pausa critest {} {}", std::process::id(), self.0.len());
        let mut parser = Command::new(which("apparmor_parser").expect("checked before"))
            .args(["--replace", "--skip-cache"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the parser runs");
        let text =
            format!("profile \"{name}\" flags=(attach_disconnected) {{\n file,\n signal,\n {rules}\n}}\n");
        let mut stdin = parser.stdin.take().expect("its input");
        stdin.write_all(text.as_bytes()).expect("the parser reads");
        drop(stdin);
        assert!(parser.wait().expect("the parser ends").success());
        self.0.push(name.clone());
        name
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        for name in &self.0 {
            unload(name);
        }
    }
}

/// Unloads a profile, if it is loaded.
fn unload(name: &str) {
    std::fs::write("/sys/kernel/security/apparmor/.remove", name).ok();
}

fn profile(kind: ProfileType, name: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: name.to_owned(),
    })
}

/// Sets the deprecated field.
fn set_old_field(config: &mut v1::ContainerConfig, name: &str) {
    #[expect(deprecated, reason = "what is tested")]
    {
        security(config).apparmor_profile = name.to_owned();
    }
}

/// CAP_SYS_ADMIN and nothing masked: what is denied then, AppArmor denies.
fn bare(config: &mut v1::ContainerConfig) {
    let security = security(config);
    security.masked_paths.clear();
    security.readonly_paths.clear();
    security.capabilities = Some(v1::Capability {
        add_capabilities: strings(&["SYS_ADMIN"]),
        ..Default::default()
    });
}

async fn confinement(node: &Node) -> serde_json::Value {
    let status = node.runtime().status(v1::StatusRequest { verbose: true }).await;
    serde_json::from_str(&ok("Status", status).info["apparmor"]).expect("JSON")
}

/// CRI `LinuxContainerSecurityContext.apparmor`: RuntimeDefault, and nothing, which means the same (KEP-24). Holds for the
/// first process and for exec, with and without no_new_privs and a user namespace.
#[test]
#[ignore = "needs root"]
fn the_default_profile_is_in_force() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let pod = node.pod().await;
        for asked in [None, profile(ProfileType::RuntimeDefault, "")] {
            for no_new_privs in [false, true] {
                let container = pod.start(|config| {
                    let security = security(config);
                    security.apparmor = asked.clone();
                    security.no_new_privs = no_new_privs;
                    security.seccomp = profile(ProfileType::RuntimeDefault, "");
                });
                let container = container.await;
                let expected = format!("{DEFAULT} (enforce)\n");
                assert_eq!(container.sh("cat /proc/1/attr/current").await, expected);
                assert_eq!(container.sh(LABEL).await, expected);
            }
        }
        let described = confinement(node).await;
        assert_eq!(described["confinesByDefault"], true, "{described}");
        assert_eq!(described["defaultProfile"], DEFAULT, "{described}");
    });
}

/// What the default profile denies, each beside a container without it that may do it.
#[test]
#[ignore = "needs root"]
fn the_default_profile_denies_what_masks_hide_and_mounts() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let pod = node.pod().await;
        let script = "may() { if \"$@\" > /dev/null 2>&1; then echo yes; else echo no; fi; }; \
                      may mount -t tmpfs none /var; may umount /dev/mqueue; may mount -o remount,rw /sys; \
                      may sh -c 'echo 63 > /proc/sys/net/ipv4/ip_default_ttl'; may ls /sys/firmware; \
                      may cat /proc/sys/net/ipv4/ip_default_ttl; may touch /tmp/x; may sh -c 'echo 1 > /proc/self/oom_score_adj'";
        for (kind, expected) in [
            (ProfileType::RuntimeDefault, "no\nno\nno\nno\nno\nyes\nyes\nyes\n"),
            (
                ProfileType::Unconfined,
                "yes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\n",
            ),
        ] {
            let seen = pod.sh_with(script, |config| {
                bare(config);
                security(config).apparmor = profile(kind, "");
            });
            assert_eq!(seen.await, expected, "{kind:?}");
        }
    });
}

/// The default profile lets the monitor stop a container, and containers of a pod signal and trace each other.
#[test]
#[ignore = "needs root"]
fn the_default_profile_lets_signals_through() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let pod = node.pod_with(share_pids).await;
        let one = pod.start(|config| {
            config.command = strings(&["sh", "-c", "trap 'exit 7' USR1; while :; do sleep 1; done"]);
        });
        let one = one.await;
        let other = pod.start(|_| {}).await;
        let find = "for p in /proc/[1-9]*; do grep -q 'exit 7' $p/cmdline 2>/dev/null && [ ${p#/proc/} != $$ ] && echo ${p#/proc/} && break; done";
        let pid = other.sh(find).await.trim().to_owned();
        // What ptrace(2) is asked for as well.
        other
            .sh(&format!("test $(cat /proc/{pid}/environ | wc -c) -gt 0"))
            .await;
        other.sh(&format!("kill -USR1 {pid}")).await;
        assert_eq!(one.end().await.status.exit_code, 7);
        other.stop(30).await;
        assert_eq!(other.end().await.status.exit_code, 0, "its trap for SIGTERM");
    });
}

/// Somebody unloads the default profile, as `aa-remove-unknown` does: it is there again for the next start and exec.
#[test]
#[ignore = "needs root"]
fn a_default_profile_that_was_unloaded_is_loaded_again() {
    with_apparmor(FlockOperation::LockExclusive, async |node| {
        let pod = node.pod().await;
        let running = pod.start(|_| {}).await;
        let created = pod.create(pod.container_config()).await;
        let expected = format!("{DEFAULT} (enforce)\n");
        unload(DEFAULT);
        let described = confinement(node).await;
        assert_eq!(described["confinesByDefault"], false, "{described}");
        assert!(
            described["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("unloaded")),
            "{described}"
        );
        assert_eq!(running.sh(LABEL).await, expected, "exec");
        unload(DEFAULT);
        created.start().await;
        assert_eq!(created.sh("cat /proc/1/attr/current").await, expected, "start");
        unload(DEFAULT);
        assert_eq!(pod.sh(LABEL).await, expected, "create");
        assert_eq!(confinement(node).await["confinesByDefault"], true);
    });
}

/// CRI `SecurityProfile.localhost_ref`, and `apparmor_profile` before: a profile that is not loaded is refused at create.
#[test]
#[ignore = "needs root"]
fn a_profile_that_is_not_loaded_is_refused() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let pod = node.pod().await;
        for old in [false, true] {
            let mut config = pod.container_config();
            if old {
                set_old_field(&mut config, "localhost/pausa-no-such-profile");
            } else {
                security(&mut config).apparmor = profile(ProfileType::Localhost, "pausa-no-such-profile");
            }
            let text = refused(Code::FailedPrecondition, pod.try_create(&config).await);
            let field = if old {
                "security_context.apparmor_profile"
            } else {
                "security_context.apparmor:"
            };
            assert!(
                text.contains("pausa-no-such-profile") && text.contains(field),
                "{text}"
            );
        }
    });
}

/// A Localhost profile is enforced by either field, for exec too, and missed by name when it is gone.
#[test]
#[ignore = "needs root"]
fn a_profile_of_the_node_is_enforced() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let mut profiles = Profiles::default();
        let strict = profiles.load("deny /** w,");
        let pod = node.pod().await;
        for old in [false, true] {
            let container = pod.start(|config| {
                // Without redirections, which would be writes.
                config.command = strings(&["sleep", "3600"]);
                if old {
                    set_old_field(config, &format!("localhost/{strict}"));
                } else {
                    security(config).apparmor = profile(ProfileType::Localhost, &strict);
                }
            });
            let container = container.await;
            assert_eq!(
                container.sh("cat /proc/1/attr/current").await,
                format!("{strict} (enforce)\n")
            );
            let touched = container.exec(&["touch", "/x"]).await;
            assert_ne!(touched.exit_code, 0, "{touched:?}");
            container.stop(0).await;
        }
        let mut config = pod.container_config();
        security(&mut config).apparmor = profile(ProfileType::Localhost, &strict);
        let created = pod.create(config).await;
        unload(&strict);
        let text = refused(Code::FailedPrecondition, created.try_start().await);
        assert!(text.contains(&strict), "{text}");
    });
}

/// Unconfined by either field; privileged containers are, unless they name a profile.
#[test]
#[ignore = "needs root"]
fn unconfined_and_privileged_containers() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        let mut profiles = Profiles::default();
        let loose = profiles.load("capability, network, mount, umount, ptrace,");
        let pod = node
            .pod_with(|config| pod_security(config).privileged = true)
            .await;
        let label = async |privileged, typed: Option<v1::SecurityProfile>, name: &str| {
            let seen = pod.sh_with(LABEL, |config| {
                set_old_field(config, name);
                let security = security(config);
                security.privileged = privileged;
                security.apparmor = typed.clone();
            });
            seen.await
        };
        assert_eq!(
            label(false, profile(ProfileType::Unconfined, ""), "").await,
            "unconfined\n"
        );
        assert_eq!(label(false, None, "unconfined").await, "unconfined\n");
        assert_eq!(
            label(false, None, "runtime/default").await,
            format!("{DEFAULT} (enforce)\n")
        );
        assert_eq!(label(true, None, "").await, "unconfined\n");
        assert_eq!(
            label(true, profile(ProfileType::RuntimeDefault, ""), "").await,
            "unconfined\n"
        );
        let named = label(true, profile(ProfileType::Localhost, &loose), "").await;
        assert_eq!(named, format!("{loose} (enforce)\n"));
    });
}

/// `hostUsers: false` (KEP-127) with the default profile.
#[test]
#[ignore = "needs root"]
fn the_default_profile_holds_in_a_user_namespace() {
    with_apparmor(FlockOperation::LockShared, async |node| {
        if !user_namespaces::can(node).await {
            return;
        }
        let pod = node.pod_with(user_namespaces::set_default).await;
        let container = pod.start(|_| {}).await;
        let expected = format!("{DEFAULT} (enforce)\n");
        assert_eq!(container.sh("cat /proc/1/attr/current").await, expected);
        assert_eq!(container.sh(LABEL).await, expected);
    });
}

/// A node without AppArmor: a profile by name is refused by name, the default one has no effect, and Status says so.
#[test]
#[ignore = "needs root"]
fn a_node_without_apparmor() {
    if is_on() {
        eprintln!("skipped: AppArmor is enabled in this kernel");
        return;
    }
    on_pausa(async |node| {
        let pod = node.pod().await;
        let seen = pod.sh_with("echo runs", |config| {
            security(config).apparmor = profile(ProfileType::RuntimeDefault, "");
        });
        assert_eq!(seen.await, "runs\n");
        let mut config = pod.container_config();
        set_old_field(&mut config, "localhost/mine");
        let text = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(
            text.contains("mine") && text.contains("AppArmor is not enabled"),
            "{text}"
        );
        let described = confinement(node).await;
        assert_eq!(described["enabled"], false, "{described}");
        assert_eq!(described["confinesByDefault"], false, "{described}");
    });
}
