use super::*;
use crate::proto::v1::ContainerMetadata;

fn pod(id: &str, namespace: &str, name: &str, created_at: i64) -> PodSandbox {
    PodSandbox {
        id: id.to_owned(),
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..Default::default()
        }),
        created_at,
        ..Default::default()
    }
}

fn container(id: &str, pod: &str, name: &str, created_at: i64) -> Container {
    Container {
        id: id.to_owned(),
        pod_sandbox_id: pod.to_owned(),
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        state: ContainerState::ContainerExited.into(),
        created_at,
        ..Default::default()
    }
}

fn running(mut container: Container) -> Container {
    container.state = ContainerState::ContainerRunning.into();
    container
}

/// `shop/web` has been made anew; `lab/web` has its name. Containers of `shop/web`: `nginx`, which has crashed once, and `log`.
fn objects() -> Objects {
    Objects::new(
        vec![
            pod("a1000", "shop", "web", 1),
            pod("a2000", "shop", "web", 5),
            pod("b1000", "lab", "web", 3),
            pod("c1000", "lab", "db", 4),
        ],
        vec![
            container("d1000", "a1000", "nginx", 2),
            container("d2000", "a2000", "nginx", 6),
            running(container("d3000", "a2000", "nginx", 7)),
            container("e1000", "a2000", "log", 6),
            running(container("f1000", "b1000", "app", 4)),
            container("f2000", "c1000", "postgres", 5),
            container("f3000", "c1000", "init", 4),
        ],
    )
}

fn id(found: Result<&Container, CommandError>) -> String {
    found.map_or_else(|error| error.to_string(), |one| one.id.clone())
}

#[test]
fn a_container_has_an_id_and_names() {
    let objects = objects();
    for (given, wanted) in [
        ("d1", "d1000"),
        ("d1000", "d1000"),
        ("nginx", "d3000"),
        ("web/nginx", "d3000"),
        ("shop/web/nginx", "d3000"),
        ("app", "f1000"),
        ("lab/web", "f1000"),
        ("shop/web", "d3000"),
        ("a2", "d3000"),
    ] {
        assert_eq!(id(objects.container(given)), wanted, "{given}");
    }
}

#[test]
fn what_may_mean_several_is_refused_with_their_names() {
    let objects = objects();
    for (given, names) in [
        (
            "d",
            &[
                "shop/web/nginx (d1000)",
                "shop/web/nginx (d2000)",
                "shop/web/nginx (d3000)",
            ][..],
        ),
        ("web", &["lab/web/app (f1000)", "shop/web/nginx (d3000)"]),
        ("lab/db", &["lab/db/postgres (f2000)", "lab/db/init (f3000)"]),
    ] {
        match objects.container(given) {
            Err(CommandError::Ambiguous { candidates, .. }) => {
                assert_eq!(candidates.len(), names.len(), "{given}");
            }
            other => panic!("{given}: {other:?}"),
        }
        let error = id(objects.container(given));
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
    assert!(matches!(objects.pod("web"), Err(CommandError::Ambiguous { .. })));
    assert!(matches!(
        objects.container("none"),
        Err(CommandError::NoObject { .. })
    ));
    assert!(matches!(
        objects.container(""),
        Err(CommandError::NoObject { .. })
    ));
    assert!(matches!(
        objects.container("a/b/c/d"),
        Err(CommandError::NoObject { .. })
    ));
}

#[test]
fn a_pod_has_an_id_and_names_and_its_containers() {
    let objects = objects();
    for (given, wanted) in [
        ("shop/web", "a2000"),
        ("a1", "a1000"),
        ("db", "c1000"),
        ("postgres", "c1000"),
        ("shop/web/log", "a2000"),
    ] {
        let found = objects.pod(given);
        assert_eq!(found.map(|pod| pod.id.as_str()).ok(), Some(wanted), "{given}");
    }
}

#[test]
fn of_pod_and_container_the_one_that_is_named_is_meant() {
    let objects = objects();
    let pod = |id: &str| Object::Pod(objects.pods.iter().find(|pod| pod.id == id).unwrap());
    let container = |id: &str| Object::Container(objects.containers.iter().find(|one| one.id == id).unwrap());
    for (given, wanted) in [
        ("shop/web", pod("a2000")),
        ("db", pod("c1000")),
        ("shop/web/log", container("e1000")),
        ("db/init", container("f3000")),
        ("c1000", pod("c1000")),
    ] {
        assert_eq!(objects.either(given).ok(), Some(wanted), "{given}");
    }
    assert!(matches!(objects.either("f"), Err(CommandError::Ambiguous { .. })));
}
