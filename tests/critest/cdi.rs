//! Devices of vendors (Container Device Interface), with a stand-in for a vendor's toolkit: its spec, and the program that
//! its hooks run.
//!
//! Sources: SPEC.md of the Container Device Interface; `docs/design/0022-devices-and-hooks.md`.

use std::os::unix::fs::PermissionsExt as _;

use pausa::proto::v1;
use tonic::Code;

use crate::harness::{Container, Node, map, on_own_node, refused};

/// What hooks of vendors do in the container's root: links to libraries, the loader's cache, modes of nodes.
const TOOLKIT: &str = r#"#!/bin/sh
set -e
bundle=$(sed 's/.*"bundle":"\([^"]*\)".*/\1/')
root=$(sed 's/.*"root":{"path":"\([^"]*\)".*/\1/' "$bundle/config.json")
case $1 in
create-symlinks) ln -s "$2" "$root$3" ;;
update-ldcache)
    mkdir -p "$root/etc/ld.so.conf.d"
    echo "$2" > "$root/etc/ld.so.conf.d/vendor.conf"
    echo "include /etc/ld.so.conf.d/*.conf" > "$root/etc/ld.so.conf"
    ldconfig -r "$root"
    ;;
chmod) chmod "$2" "$root$3" ;;
*) echo "no command $1" >&2; exit 2 ;;
esac
"#;

/// A node with the toolkit's program, a library and a spec for two devices. Gives the configuration for them.
fn toolkit(node: &Node) -> String {
    let directory = node.dir().join("toolkit");
    std::fs::create_dir_all(directory.join("cdi")).expect("a directory");
    let program = directory.join("vendor-cdi-hook");
    std::fs::write(&program, TOOLKIT).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    // Any shared library of the host will do for the loader's cache.
    let library = std::process::Command::new("ldd")
        .arg("/bin/sh")
        .output()
        .expect("ldd");
    let library = String::from_utf8_lossy(&library.stdout).into_owned();
    let library = library
        .split_whitespace()
        .find(|word| word.contains("/libc.so"))
        .expect("a library");
    std::fs::copy(library, directory.join("libvendor.so.1.2")).expect("a library");
    let at = directory.display();
    let spec = format!(
        r#"
cdiVersion: 0.7.0
kind: vendor.com/gpu
containerEdits:
  env: [VENDOR_VISIBLE_DEVICES=void]
  mounts:
    - hostPath: {at}/libvendor.so.1.2
      containerPath: /usr/lib64/libvendor.so.1.2
      options: [ro, nosuid, nodev, bind]
  hooks:
    - hookName: createContainer
      path: {at}/vendor-cdi-hook
      args: [vendor-cdi-hook, create-symlinks, libvendor.so.1.2, /usr/lib64/libvendor.so]
      env: [PATH=/usr/sbin:/usr/bin:/sbin:/bin]
    - hookName: createContainer
      path: {at}/vendor-cdi-hook
      args: [vendor-cdi-hook, update-ldcache, /usr/lib64]
      env: [PATH=/usr/sbin:/usr/bin:/sbin:/bin]
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - {{path: /dev/vendor0, type: c, major: 1, minor: 5, fileMode: 0o640, gid: 77}}
        - {{path: /dev/null-of-host, hostPath: /dev/null, permissions: r}}
      hooks:
        - hookName: createContainer
          path: {at}/vendor-cdi-hook
          args: [vendor-cdi-hook, chmod, "0666", /dev/vendor0]
          env: [PATH=/usr/sbin:/usr/bin:/sbin:/bin]
      additionalGids: [77]
  - name: "1"
    containerEdits: {{env: [SECOND=yes]}}
"#
    );
    std::fs::write(directory.join("cdi/vendor.yaml"), spec).expect("a spec");
    format!("cdi_spec_dirs = [\"{at}/cdi\"]\n")
}

fn devices(config: &mut v1::ContainerConfig, names: &[&str]) {
    let device = |name: &&str| v1::CdiDevice {
        name: (*name).to_owned(),
    };
    config.cdi_devices = names.iter().map(device).collect();
}

async fn check_device(container: &Container<'_>) {
    // The node's number, mode and group, and that it may be read; what the other allows.
    assert_eq!(
        container.sh("stat -c '%t:%T %a %g' /dev/vendor0").await,
        "1:5 666 77\n"
    );
    assert_eq!(
        container.sh("head -c 3 /dev/vendor0 | od -An -tx1").await.trim(),
        "00 00 00"
    );
    assert_eq!(container.sh("stat -c '%t:%T' /dev/null-of-host").await, "1:3\n");
    assert!(
        container
            .sh("id -G")
            .await
            .split_whitespace()
            .any(|group| group == "77")
    );
    assert_eq!(container.sh("echo $VENDOR_VISIBLE_DEVICES").await, "void\n");
    assert_eq!(
        container.sh("readlink /usr/lib64/libvendor.so").await,
        "libvendor.so.1.2\n"
    );
    assert!(
        container
            .sh("grep -c vendor /etc/ld.so.conf.d/vendor.conf || test -s /etc/ld.so.cache && echo cached")
            .await
            .contains("cached")
    );
    let readonly = container.sh("touch /usr/lib64/libvendor.so.1.2 2>&1; true").await;
    assert!(readonly.contains("Read-only"), "{readonly}");
}

/// By the field and by an annotation, in a pod as any and in one with a shared PID namespace.
#[test]
#[ignore = "needs root"]
fn a_vendors_device_is_in_the_container_as_its_spec_says() {
    on_own_node(async |node| {
        node.restart_with(Some(&toolkit(node))).await;
        let pod = node.pod().await;
        check_device(&pod.start(|config| devices(config, &["vendor.com/gpu=0"])).await).await;
        let annotated = pod.start(|config| {
            devices(config, &["vendor.com/gpu=1"]);
            config.annotations = map(&[("cdi.k8s.io/vendor", "vendor.com/gpu=0,vendor.com/gpu=1")]);
        });
        let annotated = annotated.await;
        check_device(&annotated).await;
        assert_eq!(annotated.sh("echo $SECOND").await, "yes\n");
        let shared = node.pod_with(crate::harness::pod::share_pids).await;
        let container = shared
            .start(|config| devices(config, &["vendor.com/gpu=0"]))
            .await;
        check_device(&container).await;
        // Nothing of the host's is left in sight, which the hooks had.
        let mounts = container.sh("cat /proc/self/mountinfo").await;
        assert!(
            !mounts.contains(node.dir().to_str().expect("text")) || !mounts.contains("bundle"),
            "{mounts}"
        );
        assert_eq!(
            pod.sh("ls /dev/vendor0 2>&1; echo $VENDOR_VISIBLE_DEVICES")
                .await
                .lines()
                .last(),
            Some("")
        );
    });
}

/// What is refused names what there is, and leaves nothing. What is mended is found at once.
#[test]
#[ignore = "needs root"]
fn an_unknown_device_is_refused_with_those_there_are() {
    on_own_node(async |node| {
        node.restart_with(Some(&toolkit(node))).await;
        let pod = node.pod().await;
        let mut config = pod.container_config();
        for (asked, code, expected) in [
            ("vendor.com/gpu=7", Code::FailedPrecondition, "this kind has 0, 1"),
            ("vendor.com/nic=0", Code::FailedPrecondition, "vendor.com/gpu"),
            (
                "other.com/gpu=0",
                Code::FailedPrecondition,
                "vendors are: vendor.com",
            ),
            ("gpu0", Code::InvalidArgument, "vendor.com/class=device"),
        ] {
            devices(&mut config, &["vendor.com/gpu=0", asked]);
            let message = refused(code, pod.try_create(&config).await);
            assert!(message.contains(asked) && message.contains(expected), "{message}");
        }
        let spec = node.dir().join("toolkit/cdi/vendor.yaml");
        let text = std::fs::read_to_string(&spec).expect("the spec");
        let copy = node.dir().join("toolkit/cdi/copy.yaml");
        std::fs::write(&copy, &text).expect("a copy");
        devices(&mut config, &["vendor.com/gpu=1"]);
        let message = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(
            message.contains("copy.yaml") && message.contains("vendor.yaml"),
            "{message}"
        );
        std::fs::write(&copy, "{").expect("broken");
        let container = pod.create(config.clone()).await;
        container.start().await;
        assert_eq!(container.sh("echo $SECOND").await, "yes\n");
        config.metadata.get_or_insert_default().attempt += 1;
        devices(&mut config, &["vendor.com/gpu=2"]);
        let message = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(message.contains("copy.yaml"), "{message}");
        std::fs::write(
            &copy,
            text.replace("\"1\"", "\"2\"")
                .replace("name: \"0\"", "name: \"3\""),
        )
        .expect("mended");
        pod.create(config).await;
    });
}
