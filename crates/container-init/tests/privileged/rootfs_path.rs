//! Parts of the own root: the volumes of images.

use std::os::unix::fs::symlink;

use pausa_monitor_protocol::{Attributes, MountPlan, MountSource};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    ("rootfs_path::parts_stay_writable", stay_writable),
    ("rootfs_path::an_image_leads_them_nowhere_else", lead_nowhere_else),
];

fn rootfs_path(path: &str) -> MountPlan {
    MountPlan {
        target: path.into(),
        source: MountSource::RootfsPath { path: path.into() },
        attributes: Attributes::default(),
        propagation: None,
    }
}

fn stay_writable() {
    let world = World::new();
    let data = world.root().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("of-image"), "of the image\n").unwrap();
    std::fs::write(world.root().join("etc/state"), "").unwrap();
    std::fs::create_dir(world.path("source")).unwrap();
    let mut plan = with(
        "touch /x; cat /data/of-image; echo made > /data/made; echo deep > /new/deep/x; echo file > /etc/state; \
         touch /etc/x; stat -c '%a %u' /new/deep; echo host > /data/sub/host",
        vec![
            // The pod's own mount beneath a volume is seen, in whatever order they are written.
            bind(&world.path("source"), "/data/sub", Attributes::default()),
            rootfs_path("/data"),
            rootfs_path("/data/inner"),
            rootfs_path("/new/deep"),
            rootfs_path("/etc/state"),
        ],
    );
    plan.root_readonly = true;
    let output = world.run(&plan).unwrap().output;
    assert_eq!(
        output,
        "touch: /x: Read-only file system\nof the image\ntouch: /etc/x: Read-only file system\n755 0\n"
    );
    // On the container's own layer, not on a copy.
    let read = |path: &str| std::fs::read_to_string(world.root().join(path)).unwrap();
    assert_eq!(
        [read("data/made"), read("new/deep/x"), read("etc/state")],
        ["made\n", "deep\n", "file\n"]
    );
    assert!(data.join("inner").is_dir());
    assert_eq!(
        std::fs::read_to_string(world.path("source/host")).unwrap(),
        "host\n"
    );
}

fn lead_nowhere_else() {
    let world = World::new();
    let outside = world.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let root = world.root();
    symlink(format!("../../../../..{}", outside.display()), root.join("out")).unwrap();
    symlink("/", root.join("top")).unwrap();
    symlink("/loop", root.join("loop")).unwrap();
    symlink("/proc", root.join("kernel")).unwrap();
    symlink("/mounted", root.join("into-mount")).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    let readonly = Attributes {
        set: RDONLY,
        ..Attributes::default()
    };
    let long = format!("/{}", "n".repeat(300));
    let mut plan = with(
        "touch /x /mounted/x; echo 1 > /out/y/made; readlink /proc/self",
        vec![
            bind(&outside, "/mounted", readonly),
            rootfs_path("/out/y"),
            rootfs_path("/top"),
            rootfs_path("/loop/x"),
            rootfs_path("/file/x"),
            rootfs_path("/kernel"),
            rootfs_path("/kernel/sys"),
            rootfs_path("/into-mount/made"),
            rootfs_path("/"),
            rootfs_path(&long),
        ],
    );
    plan.root_readonly = true;
    let output = world.run(&plan).unwrap().output;
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    // procfs is on top of what the image's link made of `/proc`.
    let last = output.lines().last().unwrap();
    assert!(last.parse::<u32>().is_ok(), "{output}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let inside = root.join(outside.strip_prefix("/").unwrap()).join("y/made");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "1\n");
}
