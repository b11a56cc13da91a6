//! Which names are valid, and what annotations ask for.

use super::*;

#[test]
fn names_are_split_or_refused() {
    for (name, expected) in [
        ("vendor.com/class=device", Some(("vendor.com/class", "device"))),
        ("v/c=0", Some(("v/c", "0"))),
        (
            "Vendor-1.x_y/gpu.mig=GPU-1:2.3_4",
            Some(("Vendor-1.x_y/gpu.mig", "GPU-1:2.3_4")),
        ),
        ("", None),
        ("device", None),
        ("=device", None),
        ("/dev/null", None),
        ("/class=device", None),
        ("vendor/=device", None),
        ("vendor/class=", None),
        ("vendor=device", None),
        ("1vendor/class=device", None),
        ("vendor/1class=device", None),
        ("vendor-/class=device", None),
        ("vendor/class.=device", None),
        ("vendor/class/more=device", None),
        ("vendor/class=:device", None),
        ("vendor/class=device:", None),
        ("vendor/class=a=b", None),
        ("vendor/class=a/b", None),
        ("vendor:x/class=device", None),
        ("vendor/class=gerät", None),
        ("vendor/class=a b", None),
        (" vendor/class=a", None),
    ] {
        assert_eq!(split(name), expected, "{name:?}");
    }
}

#[test]
fn parts_of_names_have_a_limit() {
    let (longest, longer) = ("a".repeat(253), "a".repeat(254));
    assert!(is_kind(&format!("{longest}/{longest}")) && is_device(&longest));
    assert!(!is_kind(&format!("{longer}/c")) && !is_kind(&format!("v/{longer}")) && !is_device(&longer));
}

#[test]
fn annotations_are_read_in_the_order_of_their_keys() {
    let annotations = |list: &[(&str, &str)]| {
        let list = list
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        annotated_devices(&list.collect())
    };
    let devices = annotations(&[
        ("cdi.k8s.io/b", "v/c=3"),
        ("cdi.k8s.io/a", "v/c=2,v/c=1"),
        ("cdi.k8s.io", "not ours"),
        ("other/cdi.k8s.io/", "not ours"),
    ]);
    assert_eq!(devices.unwrap(), ["v/c=2", "v/c=1", "v/c=3"]);
    assert_eq!(annotations(&[]).unwrap(), Vec::<String>::new());
    for value in ["", "v/c=1,", "v/c=1, v/c=2", "gpu"] {
        let error = annotations(&[("cdi.k8s.io/a", value)]).unwrap_err();
        assert!(error.to_string().contains("cdi.k8s.io/a"), "{error}");
    }
}
