use super::*;

fn layout(lines: &[&str]) -> Option<Layout> {
    Layout::from_mounts(&mountinfo::parse(lines.join("\n").as_bytes()))
}

#[test]
fn hybrid_is_v1() {
    let found = layout(&[
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate",
        "90 80 0:29 / /run/container/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    ]);
    let Some(Layout::V1 { hierarchies }) = found else {
        panic!("{found:?}")
    };
    assert_eq!(hierarchies.len(), 2);
    assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
    assert_eq!(
        hierarchies[0].mount_point,
        PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")
    );
    assert_eq!(hierarchies[1].controllers, ["name=systemd"]);
}

#[test]
fn v2_with_a_bare_named_hierarchy_is_v2() {
    let found = layout(&[
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
        "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,seclabel,nsdelegate,memory_recursiveprot",
    ]);
    let mount_point = PathBuf::from("/sys/fs/cgroup");
    let flags = vec!["nsdelegate".to_owned(), "memory_recursiveprot".to_owned()];
    assert_eq!(found, Some(Layout::V2 { mount_point, flags }));
}

#[test]
fn without_mounts_there_is_none() {
    assert_eq!(layout(&["1 1 0:1 / / rw - ext4 /dev/a rw"]), None);
}
