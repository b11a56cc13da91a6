//! What the kernel makes of our layers: they are mounted as an overlay in a mount namespace of its own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::testing::{Site, Tar, privileged};

/// Runs a script in the overlay of two layers and yields its output; `None` where overlays cannot be mounted.
fn in_overlay(upper: &Path, lower: &Path, script: &str) -> Option<String> {
    let target = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t overlay overlay -o lowerdir={}:{} {} || exit 77; cd {}; {script}",
        upper.display(),
        lower.display(),
        target.path().display(),
        target.path().display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &mount])
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        eprintln!(
            "skipped: needs overlay mounts: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
#[ignore = "needs root"]
fn whiteouts_opaque_directories_and_replacements_hide_what_lies_below() {
    if !privileged() {
        return;
    }
    let (lower, upper) = (Site::new(), Site::new());
    let base = Tar::new()
        .file("gone", b"")
        .file("dir-gone/f", b"")
        .file("opaque/old", b"")
        .file("merged/old", b"")
        .file("fresh/old", b"")
        .file("swapped/old", b"");
    lower.unpack(&base.end()).unwrap();
    let layer = Tar::new()
        .file(".wh.gone", b"")
        .file(".wh.dir-gone", b"")
        .file("opaque/new", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("merged/new", b"")
        .file(".wh.fresh", b"")
        .file("fresh/new", b"")
        .file("swapped", b"")
        .directory("swapped")
        .file("swapped/new", b"");
    let unpacked = upper.unpack(&layer.end()).unwrap();
    assert_eq!(
        unpacked
            .implied
            .iter()
            .map(crate::EntryPath::as_bytes)
            .collect::<Vec<_>>(),
        [&b"fresh"[..], b"merged", b"opaque"]
    );
    if let Some(found) = in_overlay(&upper.root, &lower.root, "find . -mindepth 1 | LC_ALL=C sort") {
        let expected = "./fresh\n./fresh/new\n./merged\n./merged/new\n./merged/old\n./opaque\n./opaque/new\n\
                        ./swapped\n./swapped/new\n";
        assert_eq!(found, expected);
    }
}

#[test]
#[ignore = "needs root"]
fn an_opaque_root_is_reported_because_the_kernel_ignores_it() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let unpacked = site
        .unpack(&Tar::new().file(".wh..wh..opq", b"").file("new", b"").end())
        .unwrap();
    assert!(unpacked.opaque_root);
    let lower = Site::new();
    lower.unpack(&Tar::new().file("old", b"").end()).unwrap();
    if let Some(found) = in_overlay(&site.root, &lower.root, "ls") {
        assert_eq!(
            found, "new\nold\n",
            "the kernel has learnt it: opaque_root is no longer needed"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn mount_points_stop_a_removal() {
    // The mount lives in a namespace of its own; the removal must run there too, so this very test is run again.
    if let Some(root) = std::env::var_os("PAUSA_LAYER_TEST_ROOT") {
        return removal_meets_a_mount_point(Path::new(&root));
    }
    if !privileged() {
        return;
    }
    let site = Site::new();
    std::fs::create_dir_all(site.root.join("tree/mounted")).unwrap();
    let inner = "unpack::tests::overlay::mount_points_stop_a_removal";
    let script = format!(
        "mount -t tmpfs tmpfs {0}/tree/mounted && touch {0}/tree/mounted/precious && exec \"$1\" --exact {inner} --ignored",
        site.root.display()
    );
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(program)
        .env("PAUSA_LAYER_TEST_ROOT", &site.root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert!(std::fs::metadata(site.root.join("tree/mounted")).unwrap().mode() & 0o40000 != 0);
}

fn removal_meets_a_mount_point(root: &Path) {
    use std::os::fd::AsFd;
    let dir = std::fs::File::open(root).unwrap();
    let error = crate::remove_tree(dir.as_fd(), "tree".as_ref()).unwrap_err();
    assert!(matches!(error, crate::Error::MountPoint { .. }), "{error}");
    assert!(matches!(
        crate::usage(dir.as_fd()),
        Err(crate::Error::MountPoint { .. })
    ));
    assert!(root.join("tree/mounted/precious").exists());
}

fn umoci(dir: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("umoci").args(arguments).current_dir(dir).output();
    match output {
        Err(_) => {
            eprintln!("skipped: needs umoci");
            false
        }
        Ok(output) => {
            assert!(
                output.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            true
        }
    }
}

/// umoci applies layers one over the other, as the specification describes; the overlay of ours must look the same.
#[test]
#[ignore = "needs root"]
fn two_layers_look_the_same_as_after_umoci() {
    if !privileged() {
        return;
    }
    let base = Tar::new()
        .directory("kept")
        .file("kept/f", b"1")
        .directory("gone")
        .file("gone/f", b"2")
        .directory("opaque")
        .file("opaque/old", b"3")
        .directory("both")
        .file("both/old", b"4")
        .symlink("link", "kept/f")
        .file("turned", b"5")
        .end();
    let layer = Tar::new()
        .file(".wh.gone", b"")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"6")
        .directory("both")
        .file("both/.wh.old", b"")
        .hardlink("both/linked", "opaque/new")
        .file("link", b"7")
        .directory("turned")
        .file("turned/f", b"8")
        .end();
    let temp = tempfile::tempdir().unwrap();
    if !umoci(temp.path(), &["init", "--layout", "image"]) {
        return;
    }
    umoci(temp.path(), &["new", "--image", "image:tag"]);
    let (lower, upper) = (Site::new(), Site::new());
    for (site, archive) in [(&lower, &base), (&upper, &layer)] {
        std::fs::write(temp.path().join("layer.tar"), archive).unwrap();
        umoci(
            temp.path(),
            &["raw", "add-layer", "--image", "image:tag", "layer.tar"],
        );
        site.unpack(archive).unwrap();
    }
    umoci(temp.path(), &["unpack", "--image", "image:tag", "bundle"]);
    let script = "find . -mindepth 1 -printf '%p %y %m %U:%G %l %TY-%Tm-%Td\\n' | LC_ALL=C sort; \
                  find . -type f | LC_ALL=C sort | xargs cat";
    let theirs = Command::new("sh")
        .args(["-c", script])
        .current_dir(temp.path().join("bundle/rootfs"))
        .output();
    if let Some(ours) = in_overlay(&upper.root, &lower.root, script) {
        assert_eq!(ours, String::from_utf8(theirs.unwrap().stdout).unwrap());
    }
}
