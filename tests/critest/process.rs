//! What a container's first process is: its words, environment, directory, terminal.

use pausa::proto::v1;

use crate::harness::node::{reference, spec};
use crate::harness::{logs, on_node, on_pausa, strings};

fn env(key: &str, value: &str) -> v1::KeyValue {
    v1::KeyValue {
        key: key.to_owned(),
        value: value.into(),
    }
}

/// CRI `ContainerConfig.command` and `args` against ENTRYPOINT and CMD: the table of the Kubernetes documentation
/// ("Define a Command and Arguments for a Container").
#[test]
#[ignore = "needs root"]
fn command_and_arguments_against_the_image() {
    on_node(async |node| {
        node.pull("entry").await;
        let pod = node.pod().await;
        for (command, args, expected) in [
            (&[][..], &[][..], "entry cmd\n"),
            (&[][..], &["mine"][..], "entry mine\n"),
            (&["/bin/echo", "own"][..], &[][..], "own\n"),
            (&["/bin/echo", "own"][..], &["mine"][..], "own mine\n"),
        ] {
            let ended = pod.run(|config| {
                config.image = Some(spec(&reference("entry")));
                config.command = strings(command);
                config.args = strings(args);
            });
            assert_eq!(
                ended.await.stdout(),
                expected,
                "command {command:?}, args {args:?}"
            );
        }
    });
}

/// CRI `ContainerConfig.envs` over the image's Env; a later duplicate wins.
#[test]
#[ignore = "needs root"]
fn the_environment_is_the_images_and_then_the_requests() {
    on_node(async |node| {
        node.pull("rich").await;
        let pod = node.pod().await;
        let script = r#"echo "$FROM $SHARED $TWICE $OWN [$EMPTY]""#;
        let seen = pod.sh_with(script, |config| {
            config.image = Some(spec(&reference("rich")));
            config.envs = vec![
                env("SHARED", "request"),
                env("TWICE", "first"),
                env("OWN", "a=b c"),
                env("TWICE", "second"),
                env("EMPTY", ""),
            ];
        });
        assert_eq!(seen.await, "image request second a=b c []\n");
    });
}

/// CRI `KeyValue.value` is bytes (since 0.37): what is not UTF-8 arrives as it is.
#[test]
#[ignore = "needs root"]
fn a_value_of_the_environment_may_be_any_bytes() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let ended = pod.run(|config| {
            config.command = strings(&["sh", "-c", "tr '\\0' '\\n' < /proc/1/environ | grep -a ^BYTES"]);
            config.envs = vec![v1::KeyValue {
                key: "BYTES".to_owned(),
                value: vec![b'<', 0xFF, 0xC3, b'>'],
            }];
        });
        assert_eq!(logs::content(&ended.await.lines, "stdout"), b"BYTES=<\xff\xc3>\n");
    });
}

/// Without PATH in image and request there is still one, and HOSTNAME is the pod's.
#[test]
#[ignore = "needs root"]
fn path_and_hostname_are_always_there() {
    on_node(async |node| {
        node.pull("bare-env").await;
        let pod = node.pod().await;
        let seen = pod.sh_with("echo $HOSTNAME; echo $PATH", |config| {
            config.image = Some(spec(&reference("bare-env")));
            config.command[0] = "/bin/sh".to_owned();
        });
        let seen = seen.await;
        let (hostname, path) = seen.trim_end().split_once('\n').expect("two lines");
        assert_eq!(hostname, pod.config.hostname);
        assert!(path.split(':').any(|dir| dir == "/bin"), "{path}");
    });
}

/// CRI `ContainerConfig.working_dir`, else the image's WorkingDir, else `/`; made when missing (OCI runtime spec, `process.cwd`).
#[test]
#[ignore = "needs root"]
fn the_working_directory_is_made() {
    on_node(async |node| {
        node.pull("rich").await;
        let pod = node.pod().await;
        assert_eq!(pod.sh("pwd").await, "/\n");
        let rich = |config: &mut v1::ContainerConfig| config.image = Some(spec(&reference("rich")));
        assert_eq!(pod.sh_with("pwd", rich).await, "/made/by/image\n");
        let own = |config: &mut v1::ContainerConfig| config.working_dir = "/quite/new".to_owned();
        assert_eq!(pod.sh_with("pwd", own).await, "/quite/new\n");
    });
}

/// OCI image spec `Volumes`: writable even where the root filesystem is not.
#[test]
#[ignore = "needs root"]
fn a_volume_of_the_image_is_writable() {
    on_node(async |node| {
        node.pull("rich").await;
        let pod = node.pod().await;
        pod.sh_with("touch /data/x && ! touch /x 2>/dev/null", |config| {
            config.image = Some(spec(&reference("rich")));
            crate::harness::pod::security(config).readonly_rootfs = true;
        })
        .await;
    });
}

/// CRI `ContainerConfig.tty`: a terminal on all three, `TERM` set, and the size of nothing yet.
#[test]
#[ignore = "needs root"]
fn a_terminal_is_one() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo $TERM";
        let seen = pod.sh_with(script, |config| config.tty = true).await;
        let lines: Vec<_> = seen.lines().map(|line| line.trim_end_matches('\r')).collect();
        assert!(lines[0].starts_with("/dev/"), "{lines:?}");
        assert_eq!(&lines[1..], ["all", "xterm"]);
        let without = pod.sh("test -t 0 || echo none").await;
        assert_eq!(without, "none\n");
    });
}

/// CRI `ContainerConfig.stdin` false: standard input is at its end at once.
#[test]
#[ignore = "needs root"]
fn without_stdin_there_is_nothing_to_read() {
    on_node(async |node| {
        let pod = node.pod().await;
        assert_eq!(pod.sh("cat | wc -c").await, "0\n");
    });
}

/// OCI runtime spec, Linux default devices and links in /dev.
#[test]
#[ignore = "needs root"]
fn dev_has_what_programs_expect() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
                      for l in fd stdin stdout stderr ptmx; do test -L /dev/$l || test -e /dev/$l || echo no $l; done; \
                      echo x > /dev/null && head -c 3 /dev/zero | wc -c";
        assert_eq!(pod.sh(script).await, "3\n");
    });
}

/// What the runtime has open is nobody else's business (CVE-2024-21626 began with a leaked descriptor).
#[test]
#[ignore = "needs root"]
fn file_descriptors_of_the_runtime_do_not_leak_in() {
    on_node(async |node| {
        let pod = node.pod().await;
        // ls has its own descriptor on the directory: four in all.
        let seen = pod.sh("ls /proc/self/fd | wc -l").await;
        assert_eq!(seen, "4\n", "standard streams, and the directory that ls reads");
    });
}
