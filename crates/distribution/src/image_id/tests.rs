use super::*;

#[test]
fn ids_and_prefixes_are_told_from_names() {
    let id = Digest::sha256(b"");
    assert_eq!(ImageId::parse(&id.to_string()), Some(ImageId::Full(id.clone())));
    assert_eq!(ImageId::parse(id.hex()), Some(ImageId::Full(id.clone())));
    for text in [&id.hex()[..13], "sha256:e3b0", "e"] {
        let found = ImageId::parse(text).unwrap();
        assert!(matches!(found, ImageId::Prefix(_)), "{text}");
        assert!(found.matches(&id), "{text}");
    }
    assert!(!ImageId::parse("beef").unwrap().matches(&id));
    let long = "a".repeat(65);
    for text in ["", "sha256:", "busybox", "E3B0", "sha512:e3", "a:b", &long] {
        assert_eq!(ImageId::parse(text), None, "{text}");
    }
}
