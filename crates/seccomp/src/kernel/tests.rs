use super::*;

#[test]
fn releases_and_profile_versions_are_read() {
    assert_eq!("4.8".parse(), Ok(KernelVersion::new(4, 8)));
    assert_eq!("6.18.44-fc-v657".parse(), Ok(KernelVersion::new(6, 18)));
    assert_eq!("5.15-rc1".parse(), Ok(KernelVersion::new(5, 15)));
    assert_eq!("5.4+".parse(), Ok(KernelVersion::new(5, 4)));
}

#[test]
fn what_is_no_version_is_refused() {
    for text in ["", "4", "4.", ".8", "a.b", "-1.2", "4.x8", "99999999999.1"] {
        let error = text.parse::<KernelVersion>().expect_err(text);
        assert_eq!(error.text, text);
    }
}

#[test]
fn minor_versions_compare_as_numbers() {
    assert!(KernelVersion::new(4, 10) > KernelVersion::new(4, 8));
    assert!(KernelVersion::new(5, 0) > KernelVersion::new(4, 20));
}
