use std::fs;

use pausa_cni::Command;
use serde_json::json;

use super::*;
use crate::ipam_config::tests::with_args;
use crate::reference::call;

#[test]
fn unknown_arguments_fail_unless_they_are_to_be_ignored() {
    let config = json!({});
    let read = |args: &[(&str, &str)]| {
        let call = with_args(call(Command::Add, "a", &config), args);
        arguments(&call, &["IP"]).map(|arguments| arguments.get("IP").map(|ip| (*ip).to_owned()))
    };
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("IP", "1"), ("IP", "2")]), Ok(Some("2".to_owned())));
    assert_eq!(
        read(&[("K8S_POD_NAME", "web"), ("IgnoreUnknown", "True"), ("IP", "1")]),
        Ok(Some("1".to_owned()))
    );
    read(&[("K8S_POD_NAME", "web"), ("IgnoreUnknown", "0")]).unwrap_err();
    read(&[("K8S_POD_NAME", "web")]).unwrap_err();
    read(&[("IgnoreUnknown", "yes")]).unwrap_err();
    read(&[("IP", "a=b")]).unwrap_err();
}

#[test]
fn a_file_that_is_too_large_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(read_if_any(&path).unwrap(), None);
    assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    let most = usize::try_from(MAX_FILE).unwrap();
    fs::write(&path, vec![b'a'; most]).unwrap();
    assert_eq!(read(&path).unwrap().len(), most);
    fs::write(&path, vec![b'a'; most + 1]).unwrap();
    assert_eq!(
        read_if_any(&path).unwrap_err().kind(),
        io::ErrorKind::FileTooLarge
    );
}
