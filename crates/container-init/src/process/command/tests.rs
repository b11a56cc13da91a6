use super::*;

#[test]
fn candidates_skip_relative_elements() {
    let found = candidates(b"sh", b"/bin::.:bin:/usr/bin");
    assert_eq!(found, vec![b"/bin/sh".to_vec(), b"/usr/bin/sh".to_vec()]);
}

#[test]
fn the_last_path_of_the_environment_counts() {
    let env = [b"PATH=/a".to_vec(), b"X=1".to_vec(), b"PATH=/b".to_vec()];
    assert_eq!(search_path(&env), b"/b");
    assert_eq!(search_path(&[]), DEFAULT_PATH);
}
