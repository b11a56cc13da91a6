//! Bind mounts of volumes with mounts in them, and what passes between host and container later.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pausa_monitor_protocol::{Attributes, Propagation};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    (
        "propagation::binds_are_writable_read_only_or_recursively_so",
        binds,
    ),
    ("propagation::cleared_and_atime_attributes", cleared_attributes),
    (
        "propagation::what_the_host_mounts_later_appears_in_a_slave",
        slave_propagation,
    ),
    (
        "propagation::what_a_shared_mount_gets_appears_on_the_host",
        shared_propagation,
    ),
    ("propagation::private_mounts_hear_nothing", private_propagation),
];

/// A directory with a tmpfs on `inner`, gone at the end.
struct Volume<'a> {
    world: &'a World,
}

impl<'a> Volume<'a> {
    fn new(world: &'a World) -> Self {
        std::fs::create_dir_all(world.path("volume/inner")).unwrap();
        mount_tmpfs(&world.path("volume"));
        std::fs::create_dir_all(world.path("volume/inner")).unwrap();
        mount_tmpfs(&world.path("volume/inner"));
        Self { world }
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        unmount(self.world.path("volume"), UnmountFlags::DETACH).unwrap();
    }
}

fn tmpfs() -> OwnedFd {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap()
}

pub(crate) fn mount_tmpfs(path: &Path) {
    move_mount(tmpfs(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
}

fn binds() {
    let world = World::new();
    let volume = Volume::new(&world);
    let source = world.path("volume");
    let readonly = Attributes {
        set: RDONLY,
        ..Attributes::default()
    };
    let recursive = Attributes {
        set_recursive: RDONLY,
        ..Attributes::default()
    };
    let script =
        "for d in rw ro rro; do touch /$d/x && echo $d; touch /$d/inner/x && echo $d/inner; done 2>&1";
    let plan = with(
        script,
        vec![
            bind(&source, "/rw", Attributes::default()),
            bind(&source, "/ro", readonly),
            bind(&source, "/rro", recursive),
        ],
    );
    let output = world.run(&plan).unwrap().output;
    let written: Vec<&str> = output.lines().filter(|line| !line.starts_with("touch")).collect();
    assert_eq!(written, ["rw", "rw/inner", "ro/inner"], "{output}");
    drop(volume);
}

fn cleared_attributes() {
    let world = World::new();
    std::fs::create_dir(world.path("volume")).unwrap();
    let noatime = Attributes {
        set: 0x10 | NOSUID,
        clear: RDONLY,
        ..Attributes::default()
    };
    let plan = with(
        "grep ' /v ' /proc/self/mountinfo",
        vec![bind(&world.path("volume"), "/v", noatime)],
    );
    let output = world.run(&plan).unwrap().output;
    assert!(output.contains(" rw,nosuid,noatime "), "{output}");
}

/// Runs a container with the volume at `/v`, waits for it to be there, and lets `act` do something while it sleeps.
fn with_propagation(world: &World, propagation: Option<Propagation>, act: impl FnOnce(&Running)) {
    let volume = Volume::new(world);
    mount_change(world.path("volume"), MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir(world.path("volume/later")).unwrap();
    let mut mount = bind(&world.path("volume"), "/v", Attributes::default());
    mount.propagation = propagation;
    let running = world.sleeper(|plan| {
        plan.mounts.push(mount);
        plan.root_propagation = propagation.unwrap_or(Propagation::Private);
        plan.process.capabilities.bounding |= 1 << 21;
        plan.process.capabilities.permitted |= 1 << 21;
        plan.process.capabilities.effective |= 1 << 21;
    });
    act(&running);
    drop(running);
    drop(volume);
}

fn sees_later_mount(world: &World, running: &Running) -> bool {
    mount_tmpfs(&world.path("volume/later"));
    let mut process = process(&["grep", " /v/later ", "/proc/1/mountinfo"]);
    process.env.clear();
    running.exec(process).unwrap().code == Some(0)
}

fn slave_propagation() {
    let world = World::new();
    with_propagation(&world, Some(Propagation::Slave), |running| {
        assert!(sees_later_mount(&world, running));
    });
}

fn private_propagation() {
    let world = World::new();
    with_propagation(&world, None, |running| {
        assert!(!sees_later_mount(&world, running));
    });
}

fn shared_propagation() {
    let world = World::new();
    let mount = || {
        let mut process = process(&["mount", "-t", "tmpfs", "none", "/v/later"]);
        process.capabilities.bounding |= 1 << 21;
        process.capabilities.permitted |= 1 << 21;
        process.capabilities.effective |= 1 << 21;
        process
    };
    let later = |world: &World| {
        world
            .mounts()
            .iter()
            .filter(|line| line.contains("volume/later"))
            .count()
    };
    with_propagation(&world, Some(Propagation::Shared), |running| {
        assert_eq!(running.exec(mount()).unwrap().code, Some(0));
        assert_eq!(later(&world), 1);
    });
    with_propagation(&world, Some(Propagation::Slave), |running| {
        assert_eq!(running.exec(mount()).unwrap().code, Some(0));
        assert_eq!(later(&world), 0);
    });
}
