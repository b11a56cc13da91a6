use std::fs;

use super::*;
use crate::oci::tests::Case;

fn hook(path: &str, when: &str, stages: &str) -> String {
    format!(r#"{{"version":"1.0.0","hook":{{"path":"{path}"}},"when":{when},"stages":{stages}}}"#)
}

/// Whether a condition lets the hook of a container through that runs `/usr/bin/web`, with an annotation and a mount.
fn is_for(when: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("a.json"),
        hook("/h", when, r#"["poststop"]"#),
    )
    .unwrap();
    let mut case = Case::new();
    case.config.command = vec!["/usr/bin/web".to_owned()];
    case.config
        .annotations
        .insert("com.example.gpu".to_owned(), "all 12".to_owned());
    case.config.mounts = vec![v1::Mount {
        container_path: "/data".to_owned(),
        host_path: "/".to_owned(),
        ..Default::default()
    }];
    case.prepared.hooks = read_all(&[directory.path().to_path_buf()]).unwrap();
    case.generate().unwrap().hooks().is_some()
}

#[test]
fn all_conditions_must_be_met_and_there_must_be_one() {
    for (when, expected) in [
        ("{}", false),
        (r#"{"always":true}"#, true),
        (r#"{"always":false}"#, false),
        (r#"{"hasBindMounts":true}"#, true),
        (r#"{"hasBindMounts":false}"#, false),
        (r#"{"commands":["^/bin/","web$"]}"#, true),
        (r#"{"commands":["^/bin/"]}"#, false),
        (r#"{"annotations":{"^com\\.example\\.":"\\d+$"}}"#, true),
        (r#"{"annotations":{"^com\\.example\\.":"^none$"}}"#, false),
        (r#"{"annotations":{"gpu":"all","cpu":".*"}}"#, false),
        (r#"{"always":true,"commands":["sh"]}"#, false),
        (r#"{"always":true,"commands":["web"],"hasBindMounts":true}"#, true),
    ] {
        assert_eq!(is_for(when), expected, "{when}");
    }
}

#[test]
fn later_directories_win_and_names_give_the_order() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let always = r#"{"always":true}"#;
    let stages = r#"["createRuntime","poststart"]"#;
    fs::write(first.path().join("20.json"), hook("/twenty", always, stages)).unwrap();
    fs::write(first.path().join("10.json"), hook("/hidden", always, stages)).unwrap();
    fs::write(second.path().join("10.json"), hook("/ten", always, stages)).unwrap();
    fs::write(second.path().join("readme"), "no hook").unwrap();
    let mut case = Case::new();
    let missing = first.path().join("missing");
    case.prepared.hooks = read_all(&[first.path().into(), missing, second.path().into()]).unwrap();
    let spec = case.generate().unwrap();
    let hooks = spec.hooks().as_ref().unwrap();
    let paths = |list: &Option<Vec<Hook>>| -> Vec<PathBuf> {
        list.iter().flatten().map(|hook| hook.path().clone()).collect()
    };
    for list in [hooks.create_runtime(), hooks.poststart()] {
        assert_eq!(paths(list), [Path::new("/ten"), Path::new("/twenty")]);
    }
    assert_eq!(paths(hooks.poststop()), Vec::<PathBuf>::new());
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.json");
    let always = r#"{"always":true}"#;
    for text in [
        "{".to_owned(),
        hook("relative", always, r#"["poststop"]"#),
        hook("/h", always, "[]"),
        hook("/h", always, r#"["later"]"#),
        hook("/h", r#"{"sometimes":true}"#, r#"["poststop"]"#),
        hook("/h", always, r#"["poststop"]"#).replace("1.0.0", "0.1.0"),
    ] {
        fs::write(&file, &text).unwrap();
        let error = read_all(&[directory.path().into()]).unwrap_err();
        assert!(error.to_string().contains("a.json"), "{text}: {error}");
    }
    fs::write(&file, hook("/h", r#"{"commands":["("]}"#, r#"["poststop"]"#)).unwrap();
    let mut case = Case::new();
    case.prepared.hooks = read_all(&[directory.path().into()]).unwrap();
    let error = case.generate().unwrap_err();
    assert!(crate::error::chain(&error).contains("a.json"));
    // A fifo neither blocks nor counts as a file.
    fs::remove_file(&file).unwrap();
    let fifo = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.as_c_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(matches!(
        read_all(&[directory.path().into()]),
        Err(HookFileError::Json { .. })
    ));
}
