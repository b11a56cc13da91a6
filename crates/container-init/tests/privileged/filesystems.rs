//! Roots, mounts, devices, hidden paths, and images that want out.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use pausa_container_init::{ContainerFds, Streams};
use pausa_monitor_protocol::{Attributes, ContainerPlan, Failure, MountPlan, MountSource};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, unmount,
};

use crate::Case;
use crate::privileged::propagation::mount_tmpfs;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    ("filesystems::a_read_only_root_is_read_only", read_only_root),
    (
        "filesystems::hidden_and_protected_paths",
        hidden_and_protected_paths,
    ),
    (
        "filesystems::a_mount_becomes_read_only_where_it_is",
        read_only_mount,
    ),
    (
        "filesystems::the_images_null_device_hides_nothing",
        images_null_device,
    ),
    (
        "filesystems::an_image_whose_proc_is_a_link_is_refused",
        proc_is_a_link,
    ),
    ("filesystems::links_in_the_image_stay_in_the_image", hostile_links),
    ("filesystems::nothing_is_mounted_into_procfs", into_procfs),
    ("filesystems::the_root_is_no_target", root_is_no_target),
    ("filesystems::mounts_that_came_along_are_used", sent_mounts),
    (
        "filesystems::an_overlay_or_a_plain_directory_serves_as_root",
        roots,
    ),
    ("filesystems::dev_has_its_nodes_and_links", dev),
    ("filesystems::the_working_directory_is_made", working_directory),
    (
        "filesystems::missing_sources_and_unknown_options_are_named",
        named_failures,
    ),
    (
        "filesystems::nothing_of_the_host_stays_mounted_inside",
        nothing_of_the_host,
    ),
];

fn refused(world: &World, plan: &ContainerPlan, text: &str) -> Failure {
    let failure = world.run(plan).unwrap_err();
    assert!(failure.step.contains(text), "{failure}");
    failure
}

fn read_only_root() {
    let world = World::new();
    let mut plan = shell("touch /x; touch /tmp/x; touch /dev/shm/x && echo shm");
    plan.root_readonly = true;
    let output = world.run(&plan).unwrap().output;
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert!(output.ends_with("shm\n"));
}

fn hidden_and_protected_paths() {
    let world = World::new();
    std::fs::create_dir_all(world.root().join("secret")).unwrap();
    std::fs::write(world.root().join("secret/key"), "key").unwrap();
    let mut plan = shell(
        "cat /proc/keys; ls /proc/scsi /proc/fs /secret; touch /secret/x; \
         echo 1 > /proc/sys/kernel/pid_max; stat -c %t:%T /proc/keys",
    );
    let list = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    plan.masked_paths = list(&[
        "/proc/keys",
        "/proc/kcore",
        "/proc/fs",
        "/secret",
        "/no/such",
        "/proc/keys/x",
    ]);
    plan.readonly_paths = list(&["/proc/sys", "/proc/bus", "/no/such"]);
    let output = world.run(&plan).unwrap().output;
    assert!(!output.contains("key\n"), "{output}");
    assert!(
        output.contains("touch: /secret/x: Read-only file system"),
        "{output}"
    );
    assert!(
        output.contains("can't create /proc/sys/kernel/pid_max: Read-only file system"),
        "{output}"
    );
    assert!(output.ends_with("1:3\n"), "{output}");
}

fn read_only_mount() {
    let world = World::new();
    let mut plan = shell(
        "touch /volume/x /volume/inner/x 2>&1 | grep -c Read-only; grep -c ' /volume' /proc/self/mounts; \
         touch /volume/inner-of-dir 2>&1 | grep -c Read-only",
    );
    plan.mounts.extend([
        filesystem("/volume", "tmpfs", 0, &[]),
        filesystem("/volume/inner", "tmpfs", 0, &[]),
    ]);
    plan.readonly_paths = vec![b"/volume".to_vec()];
    assert_eq!(world.run(&plan).unwrap().output, "2\n2\n1\n");
}

fn images_null_device() {
    let world = World::new();
    std::fs::write(world.root().join("etc/secret"), "secret").unwrap();
    symlink("/etc/secret", world.root().join("dev/null")).unwrap();
    let mut plan = shell("cat /masked; stat -c %t:%T /masked /dev/null");
    plan.mounts.retain(|mount| mount.target == b"/proc");
    std::fs::write(world.root().join("masked"), "masked").unwrap();
    plan.masked_paths = vec![b"/masked".to_vec()];
    // The link was replaced by the plan's node, and the file behind it is untouched.
    assert_eq!(world.run(&plan).unwrap().output, "1:3\n1:3\n");
    assert_eq!(
        std::fs::read_to_string(world.root().join("etc/secret")).unwrap(),
        "secret"
    );
}

fn proc_is_a_link() {
    for link in ["/etc", "../../../../etc", "tmp/../sys"] {
        let world = World::new();
        std::fs::remove_dir(world.root().join("proc")).unwrap();
        symlink(link, world.root().join("proc")).unwrap();
        refused(
            &world,
            &shell("true"),
            "only mounted on a directory without links in its path",
        );
    }
}

fn hostile_links() {
    let world = World::new();
    let outside = world.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(world.path("file"), "from the host").unwrap();
    let way_out = format!("../../../../../../..{}", outside.display());
    symlink(&way_out, world.root().join("evil")).unwrap();
    symlink("../run/resolve/stub.conf", world.root().join("etc/resolv.conf")).unwrap();
    let source = world.path("file");
    let plan = with(
        "cat /evil/x /etc/resolv.conf",
        vec![
            bind(&source, "/evil/x", Attributes::default()),
            bind(&source, "/etc/resolv.conf", Attributes::default()),
        ],
    );
    assert_eq!(world.run(&plan).unwrap().output, "from the hostfrom the host");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(world.root().join("run/resolve/stub.conf").exists());
    let mut plan = shell("pwd");
    plan.process.cwd = b"/evil/deeper".to_vec();
    world.run(&plan).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

fn into_procfs() {
    let world = World::new();
    std::fs::write(world.path("file"), "mine").unwrap();
    std::fs::create_dir(world.path("dir")).unwrap();
    symlink("/proc/sys", world.root().join("sysctls")).unwrap();
    symlink("/proc/self/attr", world.root().join("attr")).unwrap();
    for (source, target) in [
        ("file", "/proc/self/attr/exec"),
        ("dir", "/sysctls"),
        ("dir", "/attr"),
        ("file", "/proc/self/fd/1"),
    ] {
        let plan = with(
            "true",
            vec![bind(&world.path(source), target, Attributes::default())],
        );
        let failure = world.run(&plan).unwrap_err();
        let links = Errno::LOOP.raw_os_error();
        assert!(
            failure.step.contains("inside procfs") || failure.errno == links,
            "{target}: {failure}"
        );
    }
    let plan = with(
        "cat /proc/uptime",
        vec![bind(&world.path("file"), "/proc/uptime", Attributes::default())],
    );
    assert_eq!(world.run(&plan).unwrap().output, "mine");
}

fn root_is_no_target() {
    let world = World::new();
    std::fs::create_dir(world.path("dir")).unwrap();
    for target in ["/", "", "/./..", "//"] {
        let plan = with(
            "true",
            vec![bind(&world.path("dir"), target, Attributes::default())],
        );
        refused(&world, &plan, "root itself");
    }
}

fn sent_mounts() {
    let world = World::new();
    std::fs::create_dir(world.path("dir")).unwrap();
    std::fs::write(world.path("dir/file"), "sent").unwrap();
    let plan = with(
        "cat /sent/file; touch /sent/x 2>&1",
        vec![MountPlan {
            target: b"/sent".to_vec(),
            source: MountSource::Fd(0),
            attributes: Attributes {
                set: RDONLY,
                ..Attributes::default()
            },
            propagation: None,
        }],
    );
    let (read, write) = pipe();
    let (root, sent) = (detached(&world.root()), detached(&world.path("dir")));
    let streams = Streams {
        stdout: Some(write.as_fd()),
        stderr: Some(write.as_fd()),
        stdin: None,
    };
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        mounts: vec![sent.as_fd()],
        ..ContainerFds::default()
    };
    let spawned = start_with(&plan, &fds, &streams, None).unwrap();
    drop(write);
    let output = finish(&spawned, read).output;
    assert_eq!(output, "senttouch: /sent/x: Read-only file system\n");
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        ..ContainerFds::default()
    };
    assert!(
        start_with(&plan, &fds, &Streams::default(), None)
            .unwrap_err()
            .step
            .contains("no descriptor")
    );
    assert!(start_with(&plan, &ContainerFds::default(), &Streams::default(), None).is_err());
}

fn roots() {
    let world = World::new();
    for name in ["upper", "work"] {
        std::fs::create_dir(world.path(name)).unwrap();
    }
    mount_tmpfs(&world.path("upper"));
    for name in ["u", "w"] {
        std::fs::create_dir(world.path("upper").join(name)).unwrap();
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, path) in [
        ("lowerdir", world.root()),
        ("upperdir", world.path("upper/u")),
        ("workdir", world.path("upper/w")),
    ] {
        fsconfig_set_string(context.as_fd(), key, path).unwrap();
    }
    fsconfig_create(context.as_fd()).unwrap();
    let overlay = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap();
    let plain = File::open(world.root()).unwrap();
    for root in [overlay.as_fd(), plain.as_fd()] {
        let (read, write) = pipe();
        let fds = ContainerFds {
            root: Some(root),
            ..ContainerFds::default()
        };
        let streams = Streams {
            stdout: Some(write.as_fd()),
            ..Streams::default()
        };
        let spawned = start_with(&shell("echo made > /made; cat /made"), &fds, &streams, None).unwrap();
        drop(write);
        assert_eq!(finish(&spawned, read).output, "made\n");
    }
    assert_eq!(
        std::fs::read_to_string(world.path("upper/u/made")).unwrap(),
        "made\n"
    );
    drop((overlay, context));
    unmount(world.path("upper"), UnmountFlags::DETACH).unwrap();
}

fn dev() {
    let world = World::new();
    let mut plan = shell(
        "umask; cd /dev; stat -c '%n %a %t:%T %u:%g' null urandom net/tun; \
         for l in fd stdin stdout stderr ptmx; do readlink $l; done; echo > null",
    );
    plan.devices.push(pausa_monitor_protocol::DevicePlan {
        path: b"/dev/net/tun".to_vec(),
        major: 10,
        minor: 200,
        mode: 0o620,
        uid: 5,
        gid: 6,
        ..plan.devices[0].clone()
    });
    let output = world.run(&plan).unwrap().output;
    let expected = "0022\nnull 666 1:3 0:0\nurandom 666 1:9 0:0\nnet/tun 620 a:c8 5:6\n\
        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert_eq!(output, expected);
}

fn working_directory() {
    let world = World::new();
    let mut plan = shell("pwd; stat -c '%u %a' .");
    plan.process.cwd = b"/srv/app".to_vec();
    plan.process.uid = 1000;
    assert_eq!(world.run(&plan).unwrap().output, "/srv/app\n0 755\n");
    assert_eq!(std::fs::metadata(world.root().join("srv/app")).unwrap().uid(), 0);
    // Only root may enter the directory, but the process of another user starts in it.
    let private = world.root().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    plan.process.args = vec![b"readlink".to_vec(), b"/proc/self/cwd".to_vec()];
    plan.process.cwd = b"/private".to_vec();
    assert_eq!(world.run(&plan).unwrap().output, "/private\n");
    plan.process.cwd = b"/bin/busybox".to_vec();
    assert_eq!(
        refused(&world, &plan, "working directory").errno,
        Errno::NOTDIR.raw_os_error()
    );
}

fn named_failures() {
    let world = World::new();
    let plan = with(
        "true",
        vec![bind(Path::new("/no/such"), "/v", Attributes::default())],
    );
    let failure = refused(&world, &plan, "open_tree(/no/such");
    assert_eq!(failure.errno, Errno::NOENT.raw_os_error());
    let plan = with(
        "true",
        vec![filesystem("/v", "tmpfs", 0, &[("no_such_option", Some("1"))])],
    );
    let failure = refused(&world, &plan, "no_such_option=1");
    assert_eq!(failure.errno, Errno::INVAL.raw_os_error());
    assert!(failure.step.contains("the kernel says"), "{failure}");
    let plan = with("true", vec![filesystem("/v", "nosuchfs", 0, &[])]);
    refused(&world, &plan, "fsopen(nosuchfs)");
    std::fs::write(world.path("file"), "").unwrap();
    let plan = with(
        "true",
        vec![bind(&world.path("file"), "/etc", Attributes::default())],
    );
    refused(&world, &plan, "move_mount");
}

fn nothing_of_the_host() {
    let world = World::new();
    let output = world.script("cat /proc/self/mountinfo");
    let targets: Vec<&str> = output
        .lines()
        .map(|line| line.split(' ').nth(4).unwrap())
        .collect();
    assert_eq!(
        targets,
        [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/dev/shm"
        ]
    );
    assert!(
        !output.contains("shared:") && !output.contains("master:"),
        "{output}"
    );
}
