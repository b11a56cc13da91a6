use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::{Layout, Store};
use crate::id::Id;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    version: u32,
    text: String,
}

fn note(text: &str) -> Note {
    Note {
        version: 1,
        text: text.to_owned(),
    }
}

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(Layout::new(&dir.path().join("run"), &dir.path().join("lib"))).unwrap()
}

#[test]
fn what_is_saved_is_loaded_by_the_next_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, container) = (Id::random(), Id::random());
    let first = store(&dir);
    first.save_pod(&pod, &note("pod")).unwrap();
    first.save_container(&pod, &container, &note("one")).unwrap();
    first.save_container(&pod, &container, &note("two")).unwrap();
    let loaded = store(&dir).load::<Note, Note>();
    assert!(loaded.broken.is_empty());
    assert_eq!(loaded.pods.len(), 1);
    assert!(loaded.pods[0].this_boot);
    assert_eq!(loaded.pods[0].pod, note("pod"));
    assert_eq!(loaded.pods[0].containers, [note("two")]);
}

#[test]
fn after_a_reboot_the_kept_copies_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, container) = (Id::random(), Id::random());
    let first = store(&dir);
    first.save_pod(&pod, &note("pod")).unwrap();
    first.save_container(&pod, &container, &note("one")).unwrap();
    drop(first);
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    let loaded = store(&dir).load::<Note, Note>();
    assert_eq!(loaded.pods.len(), 1);
    assert!(!loaded.pods[0].this_boot);
    assert_eq!(loaded.pods[0].containers, [note("one")]);
}

#[test]
fn a_broken_record_is_reported_and_the_others_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (Id::random(), Id::random());
    let first = store(&dir);
    first.save_pod(&good, &note("good")).unwrap();
    first.save_pod(&bad, &note("bad")).unwrap();
    drop(first);
    let second = store(&dir);
    std::fs::write(second.layout().pod(&bad).join("pod.json"), "{\"version\":1").unwrap();
    let loaded = second.load::<Note, Note>();
    assert_eq!(loaded.pods.len(), 1);
    assert_eq!(loaded.broken.len(), 1);
    assert!(loaded.broken[0].path.ends_with(bad.as_str()));
}

#[test]
fn what_is_forgotten_stays_forgotten_even_while_it_is_being_copied() {
    let dir = tempfile::tempdir().unwrap();
    let pod = Id::random();
    let first = store(&dir);
    for round in 0..20 {
        first.save_pod(&pod, &note(&round.to_string())).unwrap();
        first.forget_pod(&pod).unwrap();
    }
    drop(first);
    let second = store(&dir);
    assert!(!second.layout().persistent_pod(&pod).exists());
    assert!(second.load::<Note, Note>().pods.is_empty());
}

/// The limit on file sizes holds for the whole process, so the test runs itself in a process of its own, which
/// ignores the signal that comes with the limit.
#[test]
fn a_failing_save_leaves_the_record_of_before() {
    const CHILD: &str = "PAUSA_TEST_FILE_SIZE_LIMIT";
    if std::env::var_os(CHILD).is_none() {
        let child = std::process::Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "state::tests::a_failing_save_leaves_the_record_of_before",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pod = Id::random();
    let first = store(&dir);
    first.save_pod(&pod, &note("before")).unwrap();
    let limit = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    assert!(first.save_pod(&pod, &note("after")).is_err());
    assert_eq!(first.load::<Note, Note>().pods[0].pod, note("before"));
}
