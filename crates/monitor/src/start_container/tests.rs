use super::is_id;

#[test]
fn ids_that_are_no_file_names_are_refused() {
    assert!(is_id("3f2a") && is_id("a_b.c-d"));
    for id in ["", ".", "..", ".hidden", "a/b", "a\0", &"x".repeat(129)] {
        assert!(!is_id(id), "{id:?}");
    }
}
