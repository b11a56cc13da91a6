use pausa_monitor_protocol::ExtendedPlan;
use serde_json::{Value, json};

use crate::error::{ErrorKind, Kinded};
use crate::oci::OciError;
use crate::oci::compile::tests::edited;

/// The plan of a spec in which the JSON at `path` is replaced.
fn with(path: &str, value: Value) -> Result<ExtendedPlan, OciError> {
    edited(|spec| {
        let mut json = serde_json::to_value(&*spec).unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = value;
        *spec = serde_json::from_value(json).unwrap();
    })
}

#[test]
fn hooks_of_the_old_stage_come_first() {
    let plan = with(
        "/hooks",
        json!({
            "createRuntime": [{"path": "/new", "args": ["n", "-v"], "env": ["A=b"], "timeout": 7}],
            "prestart": [{"path": "/old"}],
            "startContainer": [{"path": "/inside", "timeout": 3600}],
        }),
    );
    let hooks = plan.unwrap().hooks;
    let [old, new] = hooks.create_runtime.as_slice() else {
        panic!()
    };
    assert_eq!((old.path.as_slice(), old.timeout), (&b"/old"[..], None));
    assert_eq!(old.args, [b"/old"]);
    assert_eq!((new.path.as_slice(), new.timeout), (&b"/new"[..], Some(7)));
    assert_eq!(new.args, [&b"n"[..], b"-v"]);
    assert_eq!(new.env, [b"A=b"]);
    assert_eq!(
        hooks.start_container[0].timeout,
        Some(120),
        "as long as a start may take"
    );
    assert_eq!(
        (hooks.bundle.as_slice(), hooks.root.as_slice()),
        (&b"/run/b"[..], &b"rootfs"[..])
    );
    let state = format!("{{{}}}", String::from_utf8(hooks.state).unwrap());
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["id"], "c1");
    assert_eq!(state["bundle"], "/run/b");
    assert_eq!(state["annotations"]["io.kubernetes.cri.container-name"], "main");
}

#[test]
fn scheduling_becomes_the_kernels_numbers() {
    let plan = with(
        "/process/scheduler",
        json!({"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_RESET_ON_FORK"]}),
    );
    let scheduler = plan.unwrap().scheduling.scheduler.unwrap();
    assert_eq!((scheduler.policy, scheduler.priority, scheduler.flags), (2, 9, 1));
    let plan = with(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 4}),
    );
    assert_eq!(plan.unwrap().scheduling.io_priority, Some(2 << 13 | 4));
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0-1,65", "flags": ["MPOL_F_STATIC_NODES"]});
    let memory = with("/linux/memoryPolicy", policy)
        .unwrap()
        .scheduling
        .memory
        .unwrap();
    assert_eq!((memory.mode, memory.nodes.as_slice()), (2 | 1 << 15, &[3, 2][..]));
    let plan = with("/linux/sysctl", json!({"net.b": "2", "net.a": "1"})).unwrap();
    let sysctl = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(plan.sysctls, [sysctl("net.a", "1"), sysctl("net.b", "2")]);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (path, value, field) in [
        (
            "/hooks",
            json!({"poststop": [{"path": "relative"}]}),
            "hooks.poststop",
        ),
        (
            "/hooks",
            json!({"poststart": [{"path": "/h", "timeout": 0}]}),
            "hooks.poststart",
        ),
        (
            "/hooks",
            json!({"poststart": [{"path": "/h", "timeout": -1}]}),
            "hooks.poststart",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_RT", "priority": 8}),
            "process.ioPriority",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "priority": -1}),
            "process.scheduler",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "x"}),
            "linux.memoryPolicy",
        ),
    ] {
        let error = with(path, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(field), "{error}");
    }
}
