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

/// A daemon that was killed has not copied what it had just saved.
#[test]
fn copies_that_are_missing_or_old_are_made_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, container) = (Id::random(), Id::random());
    let first = store(&dir);
    first.save_pod(&pod, &note("pod")).unwrap();
    first.save_container(&pod, &container, &note("one")).unwrap();
    drop(first);
    let kept = dir.path().join("lib/pods").join(pod.as_str());
    let kept_container = kept
        .join("containers")
        .join(container.as_str())
        .join("container.json");
    std::fs::remove_file(kept.join("pod.json")).unwrap();
    std::fs::write(&kept_container, "{\"version\":1,\"text\":\"old\"}").unwrap();
    let second = store(&dir);
    second.load::<Note, Note>();
    second.flush();
    for (path, text) in [(kept.join("pod.json"), "pod"), (kept_container, "one")] {
        let copy: Note = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(copy, note(text));
    }
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

/// So a save that fails midway leaves the record of before.
#[test]
fn a_save_replaces_the_record_and_never_writes_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let pod = Id::random();
    let store = store(&dir);
    store.save_pod(&pod, &note("before")).unwrap();
    let (record, before) = (
        store.layout().pod(&pod).join("pod.json"),
        dir.path().join("before"),
    );
    std::fs::hard_link(&record, &before).unwrap();
    store.save_pod(&pod, &note("after")).unwrap();
    let read = |path| serde_json::from_slice::<Note>(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!((read(before), read(record)), (note("before"), note("after")));
}
