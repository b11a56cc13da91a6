use std::os::fd::AsFd;

use super::*;

#[test]
fn strings_with_zero_bytes_are_refused() {
    assert!(CStrings::new(&[b"a\0b"]).is_err());
    assert!(CStrings::new(&[b"ab".as_slice(), b""]).is_ok());
}

#[test]
fn programs_that_are_no_programs_are_refused() {
    assert_eq!(load_seccomp(&[], 0), Err(SeccompError::Malformed));
    assert_eq!(load_seccomp(&[0; 12], 0), Err(SeccompError::Malformed));
    assert_eq!(load_seccomp(&vec![0; 8 * 65536], 0), Err(SeccompError::Malformed));
}

#[test]
fn a_plain_directory_is_no_mount_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let fd = std::fs::File::open(dir.path()).unwrap();
    let result = mount_setattr(
        fd.as_fd(),
        &MountAttributes {
            set: 1,
            ..MountAttributes::default()
        },
    );
    assert!(matches!(
        result,
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM)
    ));
}

#[test]
fn joining_nothing_is_done_at_once() {
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(join_by_pidfd(null.as_fd(), NamespaceKinds::default()), Ok(()));
    let uts = NamespaceKinds {
        uts: true,
        ..NamespaceKinds::default()
    };
    assert!(join_by_pidfd(null.as_fd(), uts).is_err());
}
