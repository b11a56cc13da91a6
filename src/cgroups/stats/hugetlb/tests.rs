use std::fs;

use super::*;

#[test]
fn sizes_are_those_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "hugepages-1048576kB",
        "hugepages-2048kB",
        "hugepages-64kB",
        "hugepages-x",
        "y",
    ] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    assert_eq!(sizes(directory.path()), ["64KB", "2MB", "1GB"]);
    assert_eq!(sizes(&directory.path().join("none")), Vec::<String>::new());
}

#[test]
fn files_of_both_versions() {
    let Some(size) = SIZES.first() else {
        return eprintln!("skipped: the kernel has no huge pages");
    };
    let directory = tempfile::tempdir().unwrap();
    let dir = Dir::root(directory.path()).unwrap();
    assert_eq!(read(&dir, "current", None).unwrap(), []);
    for (file, text) in [
        ("usage_in_bytes", "4194304\n"),
        ("max_usage_in_bytes", "6291456\n"),
        ("current", "2097152\n"),
    ] {
        fs::write(directory.path().join(format!("hugetlb.{size}.{file}")), text).unwrap();
    }
    let pages = |usage, peak| HugePages {
        size: size.clone(),
        usage,
        peak,
    };
    let v1 = read(&dir, "usage_in_bytes", Some("max_usage_in_bytes")).unwrap();
    assert_eq!(v1, [pages(4_194_304, Some(6_291_456))]);
    assert_eq!(read(&dir, "current", None).unwrap(), [pages(2_097_152, None)]);
}
