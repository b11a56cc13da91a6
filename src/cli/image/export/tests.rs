use super::*;

#[test]
fn the_archive_grows_beside_its_place() {
    let path = partial(Path::new("/a/b.tar")).unwrap();
    assert_eq!(path.parent(), Some(Path::new("/a")));
    assert!(path.file_name().unwrap().to_str().unwrap().starts_with(".b.tar."));
    assert!(partial(Path::new("b.tar")).unwrap().parent() == Some(Path::new("")));
    assert!(partial(Path::new("/a/..")).is_err());
}

#[test]
fn every_name_has_a_line() {
    let image = |names: &[&str]| ExportedImage {
        id: "sha256:1".to_owned(),
        exported_id: "sha256:2".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        exact: false,
    };
    assert_eq!(
        lines(&[image(&["a:1", "b:1"]), image(&[])]),
        "sha256:2 a:1\nsha256:2 b:1\nsha256:2\n"
    );
}
