//! OCI hooks of real containers: when they run, where, with which input, and what their failure means.

use std::fs::{read_to_string, write};
use std::os::fd::AsFd;
use std::path::Path;

use pausa_monitor_protocol::{
    Event, ExtendedPlan, Failure, FailureKind, HookCommand, HookPlan, IdRange, Namespace, PodNamespaces,
    PodPlan, Reply, Request,
};

use crate::builtin::{image, plan, real, real_pod};
use crate::rig::{Rig, open_log, pod, until};

/// A script of the host as a hook.
fn host(script: &str) -> Vec<HookCommand> {
    vec![HookCommand {
        path: b"/bin/sh".to_vec(),
        args: ["sh", "-ec", script].map(|arg| arg.as_bytes().to_vec()).to_vec(),
        env: vec![b"PATH=/usr/bin:/bin:/sbin".to_vec(), b"MARK=of the hook".to_vec()],
        timeout: Some(20),
    }]
}

/// Appends a line to the file `seen`.
fn seen(rig: &Rig, line: &str) -> String {
    format!("echo \"{line}\" >> {}", rig.dir.path().join("seen").display())
}

fn lines(rig: &Rig) -> Vec<String> {
    let text = read_to_string(rig.dir.path().join("seen")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn extended(rig: &Rig, script: &str) -> ExtendedPlan {
    let bundle = rig.dir.path().join("bundle");
    std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    ExtendedPlan {
        hooks: HookPlan {
            root: bytes(&bundle.join("rootfs")),
            bundle: bytes(&bundle),
            state: br#""ociVersion":"1.0.2","id":"a","annotations":{}"#.to_vec(),
            ..HookPlan::default()
        },
        ..plan("a", script).into()
    }
}

fn start(rig: &mut Rig, plan: &ExtendedPlan) -> Result<i32, Failure> {
    let log = open_log(&rig.log());
    let image = image(rig.dir.path());
    let request = Request::StartExtended(Box::new(plan.clone()));
    match rig.daemon.ask_with(request, &[image.as_fd(), log.as_fd()])? {
        Reply::Started { pid, .. } => Ok(pid),
        other => panic!("{other:?}"),
    }
}

/// In the order of the specification, each with its status, in its namespaces.
#[test]
#[ignore = "needs root"]
fn hooks_run_in_their_order_and_namespaces() {
    let namespaces = PodNamespaces {
        network: true,
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
    let host_name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let mut extended = extended(&rig, "cat /tmp/made /mnt/from-hook; exit 0");
    std::fs::create_dir_all(rig.dir.path().join("source")).unwrap();
    write(rig.dir.path().join("source/from-hook"), "mounted\n").unwrap();
    drop(image(rig.dir.path()));
    std::fs::create_dir_all(rig.dir.path().join("root/mnt")).unwrap();
    let note = |what: &str| {
        let script = format!(
            "state=$(cat); {}",
            seen(
                &rig,
                &format!("{what} $(echo $state | grep -o 'status\\\":\\\"[a-z]*') $(hostname) $PWD $MARK")
            )
        );
        host(&script)
    };
    let source = rig.dir.path().join("source");
    extended.hooks.create_runtime = [
        note("createRuntime"),
        // The container's mounts are found by the process id in the state.
        host(&format!(
            "pid=$(grep -o 'pid\":[0-9]*' | grep -o '[0-9]*$'); \
             test $(readlink /proc/$pid/ns/mnt) != $(readlink /proc/self/ns/mnt); \
             nsenter -m -t $pid mount --bind {} $PWD/rootfs/mnt",
            source.display()
        )),
    ]
    .concat();
    extended.hooks.create_container = [
        note("createContainer"),
        host("echo made > rootfs/tmp/made; test -d rootfs/proc/1"),
    ]
    .concat();
    extended.hooks.poststart = note("poststart");
    extended.hooks.poststop = note("poststop");
    start(&mut rig, &extended).unwrap();
    assert_eq!(rig.daemon.exit("a").code, 0);
    assert_eq!(rig.entries(), ["stdout F made", "stdout F mounted"]);
    let bundle = rig.dir.path().join("bundle");
    let expected = [
        ("createRuntime", "creating", host_name.as_str()),
        ("createContainer", "creating", "hearth"),
        ("poststart", "running", &host_name),
        ("poststop", "stopped", &host_name),
    ]
    .map(|(stage, status, name)| {
        format!(
            "{stage} status\":\"{status} {name} {} of the hook",
            bundle.display()
        )
    });
    // A command that ends at once may be gone before its poststart hooks are.
    let mut lines = lines(&rig);
    lines.sort();
    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(lines, sorted);
    rig.shut_down();
    let mounts = read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(bundle.to_str().unwrap()),
        "nothing appears on the host"
    );
}

/// Its program is the container's, and it may do no more than the command.
#[test]
#[ignore = "needs root"]
fn a_start_hook_is_confined_as_the_command_is() {
    for shared in [false, true] {
        let plan = PodPlan {
            shared_pid: shared,
            ..pod()
        };
        let Some(mut rig) = real(&PodNamespaces::default(), &plan) else {
            return;
        };
        let mut extended = extended(&rig, "cat /tmp/hook; exec sleep 1000");
        if shared {
            extended.container.namespaces.pid = Namespace::Pod;
        }
        drop(image(rig.dir.path()));
        let tmp = rig.dir.path().join("root/tmp");
        std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        extended.container.process.uid = 1234;
        extended.container.process.gid = 5678;
        let script = "cd /proc/self; { id -u; id -g; grep CapEff status; pwd; cat; echo; } > /tmp/hook";
        extended.hooks.start_container = vec![HookCommand {
            path: b"/bin/sh".to_vec(),
            args: ["sh", "-c", script].map(|arg| arg.as_bytes().to_vec()).to_vec(),
            env: vec![b"PATH=/bin".to_vec()],
            timeout: None,
        }];
        start(&mut rig, &extended).unwrap();
        until("the command's output", || rig.entries().len() >= 5);
        let entries = rig.entries();
        assert_eq!(entries[0], "stdout F 1234");
        assert_eq!(entries[1], "stdout F 5678");
        assert!(entries[2].ends_with("\t0000000000000000"), "{entries:?}");
        let pid = if shared { 0 } else { 1 };
        let state = format!(r#"{{"status":"created","pid":{pid},"ociVersion""#);
        assert!(entries[4].contains(&state), "{entries:?}");
        rig.shut_down();
    }
}

/// Each failure names the hook, what it said, and leaves nothing but what `poststop` has to undo.
#[test]
#[ignore = "needs root"]
fn a_failing_hook_fails_the_start() {
    type Place = fn(&mut HookPlan) -> &mut Vec<HookCommand>;
    let stages: [(&str, Place); 4] = [
        ("createRuntime", |hooks| &mut hooks.create_runtime),
        ("createContainer", |hooks| &mut hooks.create_container),
        ("startContainer", |hooks| &mut hooks.start_container),
        ("poststart", |hooks| &mut hooks.poststart),
    ];
    for (stage, place) in stages {
        let Some(mut rig) = real_pod() else { return };
        let mut extended = extended(&rig, "exec sleep 1000");
        *place(&mut extended.hooks) = host("echo no luck >&2; echo today; exit 3");
        extended.hooks.poststop = host(&seen(&rig, "undone"));
        let failure = start(&mut rig, &extended).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Internal);
        let expected = format!("the {stage} hook /bin/sh has failed: exit code 3: no luck; today");
        assert_eq!(failure.step, expected);
        assert_eq!(lines(&rig), ["undone"]);
        let Reply::Hello { containers, .. } = rig.daemon.hello() else {
            panic!()
        };
        assert!(containers.is_empty(), "{stage}: {containers:?}");
        rig.shut_down();
    }
}

#[test]
#[ignore = "needs root"]
fn a_hook_has_its_time_and_may_be_missing() {
    let Some(mut rig) = real_pod() else { return };
    let mut slow = extended(&rig, "exit 0");
    let pids = rig.dir.path().join("pids");
    slow.hooks.create_runtime = host(&format!("sleep 1000 & echo $! > {}; wait", pids.display()));
    slow.hooks.create_runtime[0].timeout = Some(1);
    let failure = start(&mut rig, &slow).unwrap_err();
    assert!(failure.step.ends_with("it has not ended within 1 s"), "{failure}");
    let child = read_to_string(&pids).unwrap();
    until("the end of what the hook has started", || {
        let stat = read_to_string(format!("/proc/{}/stat", child.trim()));
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    });
    let mut missing = extended(&rig, "exit 0");
    missing.hooks.create_container = host("");
    missing.hooks.create_container[0].path = b"/no/such/hook".to_vec();
    let failure = start(&mut rig, &missing).unwrap_err();
    assert!(failure.step.contains("/no/such/hook"), "{failure}");
    assert!(failure.step.ends_with("no such file or directory"), "{failure}");
    rig.shut_down();
}

/// A stop while hooks run cancels the start, and the hooks with it.
#[test]
#[ignore = "needs root"]
fn a_start_is_cancelled_in_its_hooks() {
    let Some(mut rig) = real_pod() else { return };
    let mut extended = extended(&rig, "exit 0");
    let pids = rig.dir.path().join("pids");
    extended.hooks.create_runtime = host(&format!("echo $$ > {}; exec sleep 1000", pids.display()));
    let log = open_log(&rig.log());
    let image = image(rig.dir.path());
    let request = Request::StartExtended(Box::new(extended));
    let asked = rig.daemon.send(request, &[image.as_fd(), log.as_fd()]);
    until("the hook", || {
        read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'))
    });
    rig.daemon.send(
        Request::Signal {
            container: "a".to_owned(),
            signal: 15,
        },
        &[],
    );
    let failure = rig.daemon.reply_among(asked).unwrap_err();
    assert!(failure.step.contains("cancelled"), "{failure}");
    let hook = read_to_string(&pids).unwrap();
    until("the hook's end", || {
        let stat = read_to_string(format!("/proc/{}/stat", hook.trim()));
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    });
    rig.shut_down();
}

/// The exit is reported all the same, after an event that says what has failed.
#[test]
#[ignore = "needs root"]
fn a_failing_poststop_hook_is_told() {
    let Some(mut rig) = real_pod() else { return };
    let mut extended = extended(&rig, "exit 7");
    extended.hooks.poststop = host("echo stuck; exit 1");
    start(&mut rig, &extended).unwrap();
    let event = rig.daemon.event();
    let Event::HookFailed { container, failure } = event else {
        panic!("{event:?}")
    };
    assert_eq!(container, "a");
    assert!(
        failure
            .step
            .contains("poststop hook /bin/sh has failed: exit code 1: stuck")
    );
    assert_eq!(rig.daemon.exit("a").code, 7);
    rig.shut_down();
}

/// In a pod with a user namespace `createContainer` hooks are root of that, and of nothing else.
#[test]
#[ignore = "needs root"]
fn hooks_of_a_pod_with_a_user_namespace() {
    if let Err(error) = pausa_sys::check_mounts_inside() {
        eprintln!("skipped: {error} is refused");
        return;
    }
    let range = IdRange {
        first: 500_000,
        length: 65_536,
    };
    let namespaces = PodNamespaces {
        network: true,
        ipc: true,
        uts: true,
        users: Some(range),
        ..PodNamespaces::default()
    };
    let Some(mut rig) = real(&namespaces, &pod()) else {
        return;
    };
    let mut extended = extended(&rig, "cat /tmp/map; exit 0");
    extended.hooks.create_runtime = host(&seen(&rig, "$(cat /proc/self/uid_map | tr -s ' ')"));
    extended.hooks.create_container = host("cat /proc/self/uid_map > rootfs/tmp/map");
    let image = image(rig.dir.path());
    for below in [rig.dir.path().to_path_buf(), rig.dir.path().join("bundle")] {
        std::fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let users = pausa_sys::user_namespace(range.first, range.length).unwrap();
    pausa_sys::map_mount_ids(image.as_fd(), users.as_fd(), false).unwrap();
    let log = open_log(&rig.log());
    let request = Request::StartExtended(Box::new(extended));
    rig.daemon
        .ask_with(request, &[image.as_fd(), log.as_fd()])
        .unwrap();
    assert_eq!(rig.daemon.exit("a").code, 0);
    assert_eq!(lines(&rig), [" 0 0 4294967295"]);
    let entries = rig.entries().join("");
    assert_eq!(
        entries.split_whitespace().collect::<Vec<_>>(),
        ["stdout", "F", "0", "500000", "65536"]
    );
    rig.shut_down();
}
