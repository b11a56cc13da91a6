use proptest::prelude::*;

use super::*;

#[test]
fn fields_tags_and_escapes() {
    let text = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 /a\\040b /mnt/c\\134d ro shared:7 master:3 - ext4 /dev/sda1 rw,cpu\n\
        broken\n";
    let mounts = parse(text);
    assert_eq!(mounts.len(), 2);
    assert_eq!((mounts[0].shared, mounts[0].slave), (false, false));
    let second = &mounts[1];
    assert_eq!(second.id, 32);
    assert_eq!(second.root, PathBuf::from("/a b"));
    assert_eq!(second.mount_point, PathBuf::from("/mnt/c\\d"));
    assert_eq!((second.shared, second.slave), (true, true));
    assert_eq!(second.super_options, ["rw", "cpu"]);
}

#[test]
fn this_process_has_a_root() {
    let mounts = parse(&std::fs::read("/proc/self/mountinfo").unwrap());
    assert!(mounts.iter().any(|mount| mount.mount_point.as_os_str() == "/"));
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([0-9]|[ \\\\:/-]|\\PC){0,80}") {
        parse(text.as_bytes());
    }
}
