//! Containers in a user namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};

use pausa_container_init::{ContainerFds, Spawned, Streams, UserNamespace};
use pausa_monitor_protocol::{
    Attributes, ContainerPlan, DeviceKind, DevicePlan, Failure, IdRange, Namespace,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    ("users::root_inside_is_nobody_outside", root_inside),
    ("users::the_kernels_file_systems_are_there", kernel_file_systems),
    ("users::devices_are_there_and_cannot_be_made", devices),
    (
        "users::owners_on_a_mapped_volume_are_the_same_on_both_sides",
        mapped_volume,
    ),
    ("users::an_unmapped_volume_is_nobodys", unmapped_volume),
    ("users::a_file_system_without_maps_is_named", no_map),
    (
        "users::a_source_that_only_the_hosts_root_can_reach",
        unreachable_source,
    ),
    ("users::streams_can_be_opened_again", streams),
    ("users::exec_is_inside_too", exec_inside),
    ("users::a_pid_namespace_of_another_container", joined_pid),
    ("users::capabilities_count_inside", capabilities),
    ("users::a_terminal", a_terminal),
    ("users::a_failure_inside_is_told", failure_inside),
    ("users::the_root_without_a_map_to_it", wrong_plan),
];

const RANGE: IdRange = IdRange {
    first: 300_000,
    length: 65_536,
};
const IDMAP: u64 = 0x0010_0000;

/// A user namespace, and what is started in it.
struct Inside {
    world: World,
    namespace: OwnedFd,
}

impl Inside {
    fn new() -> Self {
        Self {
            world: World::new(),
            namespace: pausa_sys::user_namespace(RANGE.first, RANGE.length).unwrap(),
        }
    }

    fn users(&self) -> UserNamespace<'_> {
        UserNamespace {
            fd: self.namespace.as_fd(),
            range: RANGE,
        }
    }

    fn start(
        &self,
        plan: &ContainerPlan,
        streams: &Streams<'_>,
        joined: Option<&Spawned>,
    ) -> Result<Spawned, Failure> {
        let root = detached(&self.world.root());
        pausa_sys::map_mount_ids(root.as_fd(), self.namespace.as_fd(), false).unwrap();
        let fds = ContainerFds {
            root: Some(root.as_fd()),
            userns: Some(self.users()),
            ..ContainerFds::default()
        };
        let mut plan = plan.clone();
        // sysfs is the network namespace's, which has to be one of this user namespace.
        plan.namespaces.network = Namespace::New;
        start_with(&plan, &fds, streams, joined)
    }

    fn run(&self, plan: &ContainerPlan) -> Result<Ended, Failure> {
        let (read, write) = pipe();
        let streams = Streams {
            stdin: None,
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
        };
        let running = self.start(plan, &streams, None);
        drop(write);
        running.map(|spawned| finish(&spawned, read))
    }

    fn script(&self, script: &str) -> String {
        self.run(&shell(script)).unwrap().output
    }

    fn sleeper(&self) -> Running {
        Running(
            self.start(&shell("exec sleep 1000"), &Streams::default(), None)
                .unwrap(),
        )
    }
}

fn mapped() -> Attributes {
    Attributes {
        set: IDMAP,
        ..Attributes::default()
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn root_inside() {
    let inside = Inside::new();
    let seen =
        inside.script("id -u; id -G; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g / /bin/sh");
    let range = ["0", "300000", "65536"];
    assert_eq!(
        words(&seen),
        [&["0", "0"][..], &range, &range, &["0:0", "0:0"]].concat()
    );
    let sleeper = inside.sleeper();
    let outside = std::fs::metadata(format!("/proc/{}", sleeper.0.pid)).unwrap();
    assert_eq!((outside.uid(), outside.gid()), (RANGE.first, RANGE.first));
    // What the image's root owns, this root may change; what it makes is the image's root's.
    inside.script("touch /made && chmod 700 /made && mkdir -p /a/b");
    let made = std::fs::metadata(inside.world.root().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (0, 0, 0o700));
}

fn kernel_file_systems() {
    let seen = Inside::new().script(
        "grep -cE ' /(proc|sys|dev|dev/pts|dev/mqueue|dev/shm) ' /proc/mounts; \
         stat -c %u /proc/1 /dev /dev/mqueue /dev/shm /dev/pts /dev/pts/ptmx; \
         echo 4 > /proc/self/oom_score_adj && echo writable; hostname inside && hostname",
    );
    // setting the host name takes CAP_SYS_ADMIN, which is not among the default ones.
    assert_eq!(
        words(&seen)[..8],
        ["6", "0", "0", "0", "0", "0", "0", "writable"],
        "{seen}"
    );
}

fn devices() {
    let inside = Inside::new();
    let mut plan = shell(
        "stat -c %t:%T:%u:%g:%a /dev/null /dev/net/tun /dev/odd; stat -c %u:%F /dev/net; \
         echo x > /dev/null && busybox head -c 3 /dev/zero | busybox wc -c; ls /dev/fd/0; \
         busybox mknod /tmp/x c 1 3 || echo refused",
    );
    let device = |path: &str, major, minor, uid, gid, mode| DevicePlan {
        path: path.into(),
        kind: DeviceKind::Character,
        major,
        minor,
        mode,
        uid,
        gid,
    };
    plan.devices.push(device("/dev/net/tun", 10, 200, 0, 104, 0o660));
    // No such group inside, and no such path on the host.
    plan.devices.push(device("/dev/odd", 1, 5, 7, 70_000, 0o600));
    let seen = inside.run(&plan).unwrap().output;
    let expected = [
        "1:3:0:0:666",
        "a:c8:0:104:660",
        "1:5:7:0:600",
        "0:directory",
        "3",
        "/dev/fd/0",
    ];
    assert_eq!(words(&seen)[..6], expected, "{seen}");
    assert!(seen.ends_with("refused\n"), "{seen}");
}

fn mapped_volume() {
    let inside = Inside::new();
    let volume = inside.world.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("from-host"), "text").unwrap();
    chown(volume.join("from-host"), Some(1000), Some(2000)).unwrap();
    let script = "stat -c %u:%g /volume /volume/from-host; touch /volume/made; \
                  touch /volume/given && busybox chown 33:44 /volume/given";
    let plan = with(script, vec![bind(&volume, "/volume", mapped())]);
    assert_eq!(inside.run(&plan).unwrap().output, "0:0\n1000:2000\n");
    let owner = |name: &str| {
        let found = std::fs::metadata(volume.join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!((owner("made"), owner("given")), ((0, 0), (33, 44)));
}

fn unmapped_volume() {
    let inside = Inside::new();
    let volume = inside.world.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let script = "stat -c %u /volume; touch /volume/made 2>/dev/null || echo refused";
    let plan = with(script, vec![bind(&volume, "/volume", Attributes::default())]);
    assert_eq!(inside.run(&plan).unwrap().output, "65534\nrefused\n");
}

fn no_map() {
    let inside = Inside::new();
    let plan = with("true", vec![bind("/proc".as_ref(), "/volume", mapped())]);
    let failure = inside.run(&plan).unwrap_err();
    assert!(
        failure.step.contains("/proc for the mount on /volume") && failure.step.contains("IDMAP"),
        "{}",
        failure.step
    );
}

fn unreachable_source() {
    let inside = Inside::new();
    let closed = inside.world.path("closed");
    std::fs::create_dir_all(closed.join("volume")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&closed, mode).unwrap();
    let volume = bind(&closed.join("volume"), "/volume", mapped());
    let plan = with("touch /volume/x && echo made", vec![volume]);
    assert_eq!(inside.run(&plan).unwrap().output, "made\n");
}

fn streams() {
    let inside = Inside::new();
    assert_eq!(inside.script("echo again > /dev/stdout"), "again\n");
    let mut plan = shell("echo again > /dev/stderr");
    plan.process.uid = 1000;
    plan.process.gid = 1000;
    assert_eq!(inside.run(&plan).unwrap().output, "again\n");
}

fn exec_inside() {
    let inside = Inside::new();
    let sleeper = inside.sleeper();
    let run = |mut process: pausa_monitor_protocol::ProcessPlan, uid| {
        process.uid = uid;
        let (read, write) = pipe();
        let streams = Streams {
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
            ..Streams::default()
        };
        let fds = ContainerFds {
            userns: Some(inside.users()),
            ..ContainerFds::default()
        };
        let spawned = exec(&exec_plan(process), sleeper.0.pidfd.as_fd(), &fds, &streams).unwrap();
        drop(write);
        finish(&spawned, read).output
    };
    let script = "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; echo again > /dev/stdout";
    let link = std::fs::read_link(format!("/proc/{}/ns/user", sleeper.0.pid)).unwrap();
    for uid in [0, 1000] {
        let seen = run(process(&["sh", "-c", script]), uid);
        let uid = uid.to_string();
        assert_eq!(
            words(&seen),
            [&uid, "0", "300000", "65536", link.to_str().unwrap(), "again"]
        );
    }
}

fn joined_pid() {
    let inside = Inside::new();
    let sleeper = inside.sleeper();
    let mut plan = shell("ps | grep -c 'sleep 1000'; cat /proc/1/root/only; stat -c %u /proc/1");
    plan.namespaces.pid = Namespace::Container("other".to_owned());
    std::fs::write(inside.world.root().join("only"), "found\n").unwrap();
    let (read, write) = pipe();
    let streams = Streams {
        stdout: Some(write.as_fd()),
        stderr: Some(write.as_fd()),
        ..Streams::default()
    };
    let spawned = inside.start(&plan, &streams, Some(&sleeper.0)).unwrap();
    drop(write);
    let seen = finish(&spawned, read).output;
    assert!(seen.ends_with("found\n0\n"), "{seen}");
}

fn capabilities() {
    let inside = Inside::new();
    let mut plan =
        shell("hostname inside && hostname; mount -t tmpfs x /tmp && touch /tmp/x && echo mounted");
    let all = (1 << 41) - 1;
    plan.process.capabilities.bounding = all;
    plan.process.capabilities.permitted = all;
    plan.process.capabilities.effective = all;
    assert_eq!(inside.run(&plan).unwrap().output, "inside\nmounted\n");
}

fn a_terminal() {
    let inside = Inside::new();
    let mut plan = shell("tty; stat -c %u /dev/pts/0; test -t 0 && echo terminal");
    plan.io.terminal = true;
    plan.process.terminal = true;
    let mut spawned = inside.start(&plan, &Streams::default(), None).unwrap();
    let master = spawned.terminal.take().unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 256];
    // EIO: the other side is closed.
    while let Ok(length @ 1..) = rustix::io::read(&master, &mut buffer) {
        seen.extend_from_slice(&buffer[..length]);
    }
    waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(words(&seen), ["/dev/pts/0", "0", "terminal"]);
}

fn failure_inside() {
    let inside = Inside::new();
    let mut plan = shell("");
    plan.process.args = vec![b"/no/such/command".to_vec()];
    let failure = inside.run(&plan).unwrap_err();
    assert!(failure.step.contains("/no/such/command"), "{}", failure.step);
    let mut plan = shell("true");
    plan.process.uid = 70_000;
    let failure = inside.run(&plan).unwrap_err();
    assert!(failure.step.contains("become user 70000"), "{}", failure.step);
}

fn wrong_plan() {
    let world = World::new();
    let volume = world.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let plan = with("true", vec![bind(&volume, "/volume", mapped())]);
    let failure = world.run(&plan).unwrap_err();
    assert!(failure.step.contains("user namespace"), "{}", failure.step);
    let inside = Inside::new();
    let spawned = inside
        .start(&shell("exec sleep 1000"), &Streams::default(), None)
        .unwrap();
    // It is ours to reap, and the first child is gone already.
    pidfd_send_signal(&spawned.pidfd, Signal::KILL).unwrap();
    waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    assert!(waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_err());
}
