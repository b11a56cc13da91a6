//! Operations in flight.

use super::*;

fn handle() -> Arc<PodHandle> {
    let name = PodName {
        name: "web-0".to_owned(),
        uid: "u".to_owned(),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    PodHandle::new(Id::random(), name).0
}

fn creating(name: &str) -> Option<Subject> {
    Some(Subject {
        name: name.to_owned(),
        id: None,
    })
}

fn names(handle: &PodHandle) -> Vec<(&'static str, Option<String>, Option<&'static str>)> {
    let operations = handle.operations().into_iter();
    operations
        .map(|(container, doing)| {
            let container = container.map(|container| container.name);
            (doing.operation, container, doing.step.map(|(step, _)| step))
        })
        .collect()
}

#[test]
fn operations_are_known_from_their_beginning_to_their_end() {
    let handle = handle();
    assert_eq!(handle.doing(), "it waits for its containers to end");
    let run = handle.begin("RunPodSandbox", None);
    // The first has not entered a step when the second begins.
    let create = handle.begin("CreateContainer", creating("main"));
    create.enter("image");
    assert_eq!(
        names(&handle),
        [
            ("RunPodSandbox", None, None),
            ("CreateContainer", Some("main".to_owned()), Some("image")),
        ]
    );
    let doing = handle.doing();
    assert!(
        doing.contains(&format!("RunPodSandbox of {} has not begun", handle.id.short())),
        "{doing}"
    );
    assert!(
        doing.contains("; CreateContainer of main has been in step image for "),
        "{doing}"
    );
    drop(run);
    assert_eq!(names(&handle).len(), 1);
    drop(create);
    assert!(handle.operations().is_empty());
}

#[test]
fn operations_that_have_ended_do_not_pile_up() {
    let handle = handle();
    let stays = handle.begin("RunPodSandbox", None);
    for _ in 0..1000 {
        drop(handle.begin("CreateContainer", creating("main")));
    }
    assert!(handle.operations.lock().len() <= 2);
    drop(stays);
}
