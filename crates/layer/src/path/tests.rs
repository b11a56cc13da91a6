use proptest::prelude::*;

use super::*;

fn cleaned(raw: &[u8]) -> Option<Vec<u8>> {
    clean(raw, &Limits::default()).ok()
}

#[test]
fn names_become_relative_and_plain() {
    assert_eq!(cleaned(b"./a//b/./c/").as_deref(), Some(&b"a/b/c"[..]));
    assert_eq!(cleaned(b"/etc/passwd").as_deref(), Some(&b"etc/passwd"[..]));
    assert_eq!(cleaned(b"a/../b").as_deref(), Some(&b"b"[..]));
    assert_eq!(cleaned(b"./").as_deref(), Some(&b""[..]));
    assert_eq!(cleaned(b"a/..").as_deref(), Some(&b""[..]));
}

#[test]
fn names_that_climb_out_are_refused() {
    for raw in [&b".."[..], b"../a", b"/../a", b"a/../../b", b"./.././a"] {
        assert!(
            matches!(clean(raw, &Limits::default()), Err(Error::Escape { .. })),
            "{}",
            raw.escape_ascii()
        );
    }
    assert!(matches!(
        clean(b"a\0b", &Limits::default()),
        Err(Error::Field { field: "path", .. })
    ));
}

#[test]
fn nesting_has_a_limit() {
    let limits = Limits {
        depth: 3,
        ..Limits::default()
    };
    assert!(clean(b"a/b/c", &limits).is_ok());
    assert!(matches!(
        clean(b"a/b/c/d", &limits),
        Err(Error::Limit {
            limit: Limit::Depth,
            allowed: 3,
            ..
        })
    ));
}

#[test]
fn whiteouts_are_told_from_plain_names() {
    assert_eq!(meaning(b"a/.wh.b"), Meaning::Whiteout { name: b"b" });
    assert_eq!(meaning(b".wh..hidden"), Meaning::Whiteout { name: b".hidden" });
    assert_eq!(meaning(b"a/.wh..wh..opq"), Meaning::Opaque);
    assert_eq!(meaning(b".wh..wh.plnk/1.2"), Meaning::Ignored);
    assert_eq!(meaning(b".wh..wh.aufs"), Meaning::Ignored);
    assert_eq!(meaning(b".wh.b/c"), Meaning::Plain);
    for name in [&b".wh."[..], b".wh..", b"a/.wh..."] {
        assert_eq!(meaning(name), Meaning::Nothing);
    }
}

proptest! {
    #[test]
    fn what_is_clean_stays_as_it_is_and_has_only_plain_components(raw in proptest::collection::vec(
        prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..60)) {
        if let Some(path) = cleaned(&raw) {
            prop_assert_eq!(cleaned(&path), Some(path.clone()));
            if !path.is_empty() {
                for part in path.split(|byte| *byte == b'/') {
                    prop_assert!(!part.is_empty() && part != b"." && part != b"..");
                }
            }
        }
    }
}
