//! The real monitor with real containers.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use pausa_monitor_protocol::{
    Attributes, CapabilitySets, ContainerPlan, Event, FdRole, MountPlan, MountSource, Namespace,
    PodNamespaces, PodPlan, Reply, Request,
};
use pausa_sys::MountAttributes;
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, open_tree};

use crate::rig::{Rig, container, exec, open_log, pod, until};

/// Makes a root file system of busybox and opens it as a detached mount.
pub(crate) fn image(dir: &Path) -> OwnedFd {
    let root = dir.join("root");
    if !root.exists() {
        for name in ["bin", "proc", "dev", "etc", "tmp"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "sleep", "ps", "hostname", "cat", "tty", "stty", "setsid", "printf", "id", "grep",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, &root, flags).unwrap();
    // A clone of a shared mount, as systemd makes them, is a peer of it; pivot_root(2) takes none.
    let private = MountAttributes {
        propagation: MountPropagationFlags::PRIVATE,
        ..MountAttributes::default()
    };
    pausa_sys::mount_setattr(mount.as_fd(), &private).unwrap();
    mount
}

pub(crate) fn plan(id: &str, script: &str) -> ContainerPlan {
    let mut plan = container(id, script);
    plan.fds = vec![FdRole::Root, FdRole::Log];
    plan.namespaces.pid = Namespace::New;
    plan.process.env = vec![b"PATH=/bin".to_vec()];
    plan.process.capabilities = CapabilitySets::default();
    plan.mounts = vec![
        filesystem("/proc", "proc"),
        filesystem("/dev", "tmpfs"),
        filesystem("/dev/pts", "devpts"),
    ];
    plan
}

pub(crate) fn filesystem(target: &str, fstype: &str) -> MountPlan {
    MountPlan {
        target: target.as_bytes().to_vec(),
        source: MountSource::Filesystem {
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            options: Vec::new(),
        },
        attributes: Attributes {
            set: 0,
            clear: 0,
            set_recursive: 0,
        },
        propagation: None,
    }
}

/// A pod without own namespaces.
pub(crate) fn real_pod() -> Option<Rig> {
    real(&PodNamespaces::default(), &pod())
}

pub(crate) fn real(namespaces: &PodNamespaces, plan: &PodPlan) -> Option<Rig> {
    if !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs busybox");
        return None;
    }
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_pausa-monitor"));
    rig.daemon.hello();
    rig.set_up(namespaces, plan).unwrap();
    Some(rig)
}

pub(crate) fn start(rig: &mut Rig, plan: &ContainerPlan) -> i32 {
    let log = open_log(&rig.log());
    let image = image(rig.dir.path());
    rig.daemon.start(plan, &[image.as_fd(), log.as_fd()]).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_container_is_process_one_in_the_pods_namespaces() {
    let namespaces = PodNamespaces {
        uts: true,
        ..PodNamespaces::default()
    };
    let named = PodPlan {
        hostname: Some("hearth".to_owned()),
        ..pod()
    };
    let Some(mut rig) = real(&namespaces, &named) else {
        return;
    };
    start(&mut rig, &plan("a", "echo $$; hostname; echo err >&2; exit 3"));
    assert_eq!(rig.daemon.exit("a").code, 3);
    let mut entries = rig.entries();
    entries.sort();
    assert_eq!(entries, ["stderr F err", "stdout F 1", "stdout F hearth"]);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_container_is_stopped_by_its_signal_and_by_force() {
    let Some(mut rig) = real_pod() else { return };
    start(
        &mut rig,
        &plan(
            "polite",
            "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done",
        ),
    );
    until("a log entry", || !rig.entries().is_empty());
    rig.daemon
        .ask(Request::Signal {
            container: "polite".into(),
            signal: 15,
        })
        .unwrap();
    assert_eq!(rig.daemon.exit("polite").code, 5);
    start(&mut rig, &plan("deaf", "setsid sleep 1000 & sleep 1000; true"));
    rig.daemon
        .ask(Request::KillAll {
            container: "deaf".into(),
        })
        .unwrap();
    assert_eq!(rig.daemon.exit("deaf").code, 137);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_shared_pid_namespace_shows_pause_and_the_other_container() {
    let shared = PodPlan {
        shared_pid: true,
        ..pod()
    };
    let Some(mut rig) = real(&PodNamespaces::default(), &shared) else {
        return;
    };
    let mut first = plan("first", "exec sleep 1234");
    first.namespaces.pid = Namespace::Pod;
    start(&mut rig, &first);
    // busybox's shell becomes another applet under the name "exe".
    let names = "until grep -q sleep /proc/2/comm; do :; done; cat /proc/1/comm; cat /proc/2/comm";
    let mut second = plan("second", names);
    second.namespaces.pid = Namespace::Pod;
    start(&mut rig, &second);
    assert_eq!(rig.daemon.exit("second").code, 0);
    assert_eq!(rig.entries(), ["stdout F pause", "stdout F sleep"]);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn an_exec_runs_in_the_container_and_its_terminal_goes_to_the_asker() {
    let Some(mut rig) = real_pod() else { return };
    start(&mut rig, &plan("a", "exec sleep 1000"));
    let (read, write) = rustix::pipe::pipe().unwrap();
    rig.daemon
        .ask_with(
            Request::Exec(Box::new(exec(
                "e",
                "a",
                "until grep -q sleep /proc/1/comm; do :; done; cat /proc/1/comm",
            ))),
            &[write.as_fd()],
        )
        .unwrap();
    drop(write);
    assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "sleep\n");
    assert!(matches!(rig.daemon.event(), Event::ExecExited { .. }));
    let mut plan = exec("t", "a", "tty");
    plan.fds.clear();
    plan.process.env = vec![b"PATH=/bin".to_vec()];
    plan.process.terminal = true;
    let reply = rig.daemon.ask(Request::Exec(Box::new(plan))).unwrap();
    assert!(matches!(reply, Reply::Started { .. }));
    let terminal = rig.daemon.received.pop().unwrap();
    let mut text = [0; 64];
    let length = rustix::io::read(&terminal, &mut text).unwrap();
    assert!(
        text[..length].starts_with(b"/dev/"),
        "{:?}",
        String::from_utf8_lossy(&text[..length])
    );
    assert!(matches!(rig.daemon.event(), Event::ExecExited { exit, .. } if exit.code == 0));
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_terminal_is_logged_as_standard_output() {
    let Some(mut rig) = real_pod() else { return };
    let mut plan = plan("a", "echo out; echo err >&2; tty");
    plan.io.terminal = true;
    plan.process.terminal = true;
    start(&mut rig, &plan);
    assert_eq!(rig.daemon.exit("a").code, 0);
    assert_eq!(
        rig.entries(),
        ["stdout F out", "stdout F err", "stdout F /dev/pts/0"]
    );
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_command_that_is_not_there_is_the_containers_fault() {
    let Some(mut rig) = real_pod() else { return };
    let mut plan = plan("a", "");
    plan.process.args = vec![b"/no/such".to_vec()];
    let log = open_log(&rig.log());
    let image = image(rig.dir.path());
    let failure = rig
        .daemon
        .start(&plan, &[image.as_fd(), log.as_fd()])
        .unwrap_err();
    assert_eq!(
        failure.kind,
        pausa_monitor_protocol::FailureKind::Start,
        "{failure}"
    );
    rig.shut_down();
}
