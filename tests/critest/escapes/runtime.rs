//! Attacks on the runtime's own program, descriptors, privileges and files.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use pausa::proto::v1;
use sha2::{Digest as _, Sha256};

use super::{Bait, SECRET, attempt, run};
use crate::attacks::attacker;
use crate::harness::pod::{bind, monitor_of, pod_security, security};
use crate::harness::{on_node, on_own_node, strings};

const EXECS: usize = 40;

fn digest(program: &str) -> Vec<u8> {
    Sha256::digest(std::fs::read(program).expect("a program")).to_vec()
}

/// CVE-2019-5736: runc's program was the one that the process ran which entered a container, and so the container could open
/// it and write to it. pausa's monitor runs from a memfd that nobody can write to any more, its children are not
/// dumpable, and none runs the daemon's program.
#[test]
#[ignore = "needs root"]
fn the_monitors_program_cannot_be_overwritten() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let program = attacker("overwrite");
        let attack = pod.start(|config| {
            config.command = strings(&["/attack"]);
            config.mounts = vec![v1::Mount {
                readonly: true,
                ..bind(&program, "/attack")
            }];
            // Without it, the attacker cannot even open the program of a process that is not dumpable.
            let capabilities = security(config).capabilities.get_or_insert_default();
            capabilities.add_capabilities.push("SYS_PTRACE".to_owned());
        });
        let attack = attack.await;
        attack.says("watching").await;
        let programs = [
            format!("/proc/{}/exe", monitor_of(node, &pod).as_raw_nonzero()),
            format!("/proc/{}/exe", node.daemon(|daemon| daemon.pid())),
        ];
        let before = programs.each_ref().map(|program| digest(program));
        attack
            .sh("printf '#!/proc/self/exe\\n' > /script && chmod 755 /script")
            .await;
        for round in 0..EXECS {
            // Each of them is a way to have the program of the process that enters run once more, for longer.
            let command = ["/proc/self/exe", "/script", "true"][round % 3];
            drop(attack.try_exec(&[command], 10).await);
        }
        attack.stop(0).await;
        let said = attack.end().await.stdout();
        assert!(said.contains("opened"), "it has never seen a program: {said}");
        assert!(!said.contains("WROTE"), "{said}");
        assert_eq!(programs.map(|program| digest(&program)), before);
    });
}

/// Says the secret if any way up from the working directory leads to it, and what is open.
fn look_around(bait: &Bait) -> String {
    let secret = format!("{}/secret", bait.path());
    format!(
        "up=.; for i in 1 2 3 4 5 6 7 8; do cat $up{secret} 2>/dev/null; up=$up/..; done; \
         for fd in /proc/self/fd/*; do cat $fd{secret} $fd/../../../../../..{secret} 2>/dev/null; done; ls /proc/self/fd"
    )
}

/// CVE-2024-21626: runc had a descriptor of the node's cgroup directory open when it entered the working directory, so that
/// `/proc/self/fd/7` as working directory led to the node. pausa closes its descriptors before, and refuses a directory that is not
/// below the root. The same for exec, whose working directory the container may have changed.
#[test]
#[ignore = "needs root"]
fn no_descriptor_leads_to_the_node() {
    on_node(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let descriptors = (3..32).map(|number| format!("/proc/self/fd/{number}"));
        let others = ["/proc/self/cwd", "/proc/1/cwd", "/proc/self/fd/7/../../.."].map(str::to_owned);
        let paths: Vec<String> = descriptors.chain(others).collect();
        for path in &paths {
            let mut config = pod.container_config();
            config.working_dir.clone_from(path);
            run(&mut config, &look_around(&bait));
            if let Ok(said) = attempt(&pod, config).await {
                assert!(!said.contains(SECRET), "{path}: {said}");
            }
        }
        let shared = node.dir().join("shared");
        std::fs::create_dir(&shared).expect("a directory");
        std::fs::create_dir(shared.join("work")).expect("a directory");
        let container = pod.start(|config| {
            config.working_dir = "/shared/work".to_owned();
            config.mounts = vec![bind(&shared, "/shared")];
        });
        let container = container.await;
        let said = container.sh(&look_around(&bait)).await;
        assert!(!said.contains(SECRET), "{said}");
        // ls has the directory open itself.
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        std::fs::remove_dir(shared.join("work")).expect("the directory");
        for path in &paths {
            std::fs::remove_file(shared.join("work")).ok();
            symlink(path, shared.join("work")).expect("a link");
            let done = container.try_exec(&["sh", "-c", &look_around(&bait)], 30).await;
            if let Ok(done) = done {
                let said = String::from_utf8_lossy(&done.into_inner().stdout).into_owned();
                assert!(!said.contains(SECRET), "{path}: {said}");
            }
        }
        bait.is_untouched();
    });
}

/// CVE-2022-24769 and, for exec, CVE-2022-29162: with inheritable capabilities, a program of the image with inheritable file
/// capabilities gives them to any user. No process has any, unless as ambient ones that were asked for.
#[test]
#[ignore = "needs root"]
fn no_capability_is_inheritable() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| pod_security(config).privileged = true)
            .await;
        for user in [0, 1000] {
            for (add, privileged) in [(vec![], false), (vec!["ALL"], false), (vec![], true)] {
                let container = pod.start(|config| {
                    let security = security(config);
                    security.run_as_user = Some(v1::Int64Value { value: user });
                    security.privileged = privileged;
                    security.capabilities.get_or_insert_default().add_capabilities = strings(&add);
                    run(config, "grep CapInh /proc/1/status; sleep 3600");
                });
                let container = container.await;
                container.says("CapInh").await;
                let of_exec = container.sh("grep CapInh /proc/self/status").await;
                container.stop(0).await;
                let of_first = container.end().await.stdout();
                let none = "CapInh:\t0000000000000000\n";
                assert_eq!(
                    (&*of_first, &*of_exec),
                    (none, none),
                    "{user} {add:?} {privileged}"
                );
            }
        }
    });
}

/// CVE-2024-25621: users of the node could enter containerd's directories, and use programs of images that run as root. Only
/// root can enter any directory that has images, writable layers, records or sockets of monitors.
#[test]
#[ignore = "needs root"]
fn users_of_the_node_see_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        pod.start(|_| {}).await;
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        // The test's own directory is closed, unlike /run and /var/lib.
        open(node.dir(), 0o755);
        let seen = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "find"])
            .args([node.dir().join("r"), node.dir().join("s")])
            .output()
            .expect("find");
        open(node.dir(), 0o700);
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        println!("{seen}");
        let everything = Command::new("find")
            .args([node.dir().join("r"), node.dir().join("s")])
            .output()
            .expect("find");
        let everything = String::from_utf8_lossy(&everything.stdout).into_owned();
        for word in ["busybox", "pod.json", "config.json", "monitor.sock", "upper"] {
            assert!(everything.contains(word), "there is no {word}: {everything}");
            assert!(!seen.contains(word), "{seen}");
        }
    });
}
