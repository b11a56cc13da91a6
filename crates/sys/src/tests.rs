use std::os::fd::AsFd;

use super::*;

#[test]
fn strings_with_zero_bytes_are_refused() {
    let memory = ChildMemory::new().unwrap();
    assert!(ArgumentVector::new(&[b"a\0b"], &memory).is_err());
    assert!(ArgumentVector::new(&[b"ab".as_slice(), b""], &memory).is_ok());
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

#[test]
#[ignore = "needs root"]
fn a_user_namespace_has_its_map_and_owns_what_is_made_in_it() {
    // Fails on a kernel without user namespaces, and where they are switched off.
    let users = user_namespace(200_000, 65_536).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, dir.path(), flags).unwrap();
    map_mount_ids(mount.as_fd(), users.as_fd(), false).unwrap();
    let shown = rustix::fs::fstat(&mount).unwrap();
    assert_eq!((shown.st_uid, shown.st_gid), (200_000, 200_000));
    let own = std::fs::File::open("/proc/self/ns/uts").unwrap();
    let owner = std::fs::File::from(owner_of(own.as_fd()).unwrap());
    let identity = |file: &std::fs::File| {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata().unwrap().ino()
    };
    assert_eq!(
        identity(&owner),
        identity(&std::fs::File::open("/proc/self/ns/user").unwrap())
    );
    assert_ne!(identity(&owner), identity(&std::fs::File::from(users)));
}

#[test]
#[ignore = "needs root"]
fn a_map_that_cannot_be_names_its_file() {
    let error = user_namespace(u32::MAX, 2).unwrap_err();
    assert_eq!(error.call, "write(/proc/PID/uid_map)");
    assert_eq!(error.errno, rustix::io::Errno::INVAL);
}

#[test]
#[ignore = "needs root"]
fn mounting_inside_is_possible_or_said_to_be_not() {
    let refused = |path: &str| {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .any(|at| at.starts_with(path))
    };
    match check_mounts_inside() {
        Ok(()) => {}
        // As in a container whose runtime masks parts of them.
        Err(error) => {
            assert_eq!(error.errno, rustix::io::Errno::PERM, "{error}");
            assert!(refused("/proc/") || refused("/sys/"), "{error}");
        }
    }
}

/// The mapping of the program's code, as address and length, and how many KiB of it are resident (proc_pid_smaps(5)).
fn code() -> (usize, usize, u64) {
    let program = std::fs::read_link("/proc/self/exe").unwrap();
    let program = program.to_str().unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines();
    let mapping = lines
        .find(|line| line.contains(" r-xp ") && line.ends_with(program))
        .unwrap();
    let (start, end) = mapping.split_once(' ').unwrap().0.split_once('-').unwrap();
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).unwrap());
    let resident = lines.find(|line| line.starts_with("Rss:")).unwrap();
    let resident = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    (start, end - start, resident)
}

#[test]
fn a_released_program_runs_on_and_takes_less_room() {
    let (start, length, _) = code();
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: populating a mapping for reading changes nothing in it (madvise(2)).
    let populated = unsafe { libc::madvise(address, length, libc::MADV_POPULATE_READ) };
    assert_eq!(populated, 0);
    let (_, _, before) = code();
    assert_eq!(before, length as u64 / 1024);
    release_program();
    let (_, _, after) = code();
    assert!(after < before, "{after} KiB after, {before} before");
}

#[test]
fn memory_in_use_is_kept_when_free_pages_are_returned() {
    let kept: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; 5000]).collect();
    let free: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; 5000]).collect();
    drop(free);
    return_free_pages();
    for (byte, buffer) in (0..100).zip(&kept) {
        assert!(buffer.iter().all(|other| *other == byte));
    }
}

#[test]
fn the_clock_can_be_asked_by_everybody() {
    assert!(clock_state().unwrap().error >= 0);
}
