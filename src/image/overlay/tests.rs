//! All mount methods of this kernel, read only through the descriptor.

use super::*;
use rustix::fs::{ResolveFlags, openat2};
use rustix::mount::MountPropagationFlags;
use std::fs::File;
use std::io::{Read as _, Write as _};

fn read(mount: &OwnedFd, path: &str) -> std::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut text = String::new();
    File::from(openat2(mount, path, flags, Mode::empty(), resolve)?).read_to_string(&mut text)?;
    Ok(text)
}

fn layers(dir: &Path, contents: &[&[(&str, &str)]]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (at, files) in contents.iter().enumerate() {
        let path = dir.join(format!("layer {at},with:odd name"));
        std::fs::create_dir(&path).unwrap();
        for (name, text) in *files {
            std::fs::write(path.join(name), text).unwrap();
        }
        paths.push(path);
    }
    paths
}

fn stack(layers: &[PathBuf], writable: Option<&Path>) -> Stack {
    Stack {
        lower: open_all(layers, None).unwrap(),
        mapped: false,
        label: None,
        writable: writable.map(|dir| {
            for name in ["upper", "work"] {
                drop(std::fs::create_dir(dir.join(name)));
            }
            let work = super::open(&dir.join("work")).unwrap();
            remove_volatile_mark(&work).unwrap();
            (super::open(&dir.join("upper")).unwrap(), work)
        }),
    }
}

#[test]
fn older_kernels_get_older_methods() {
    // Their answers to a descriptor: before 6.5, from 6.5 on, and for another reason.
    assert_eq!(
        older(Method::Descriptors, Errno::OPNOTSUPP),
        Some(Method::Classic)
    );
    assert_eq!(older(Method::Descriptors, Errno::INVAL), Some(Method::Strings));
    assert_eq!(older(Method::Descriptors, Errno::NOSPC), None);
    assert_eq!(older(Method::Strings, Errno::INVAL), Some(Method::Classic));
    assert_eq!(older(Method::Strings, Errno::OPNOTSUPP), None);
    assert_eq!(older(Method::Classic, Errno::INVAL), None);
}

/// Linux 6.8 to 6.14 accept mapped layers as strings, mark the work directory, and then refuse the layers.
#[test]
fn a_failed_method_leaves_no_mark_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let layers = layers(dir.path(), &[&[("a", "low")]]);
    let stack = stack(&layers, Some(dir.path()));
    let mark = dir.path().join("work/work/incompat/volatile");
    let mounted = attempt(&stack, |_, method| {
        assert!(!mark.exists(), "{method:?}");
        if method == Method::Classic {
            return Ok(File::open(dir.path()).unwrap().into());
        }
        std::fs::create_dir_all(mark.join("dirty")).unwrap();
        Err(failed("fsconfig(FSCONFIG_CMD_CREATE)", 1, None)(Errno::INVAL))
    });
    mounted.unwrap();
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
#[ignore = "needs root"]
fn every_method_stacks_layers_and_leaves_no_mount_behind() {
    for method in [Method::Descriptors, Method::Strings, Method::Classic] {
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(dir.path(), &[&[("a", "low"), ("b", "low")], &[("b", "high")]]);
        // Twice, the second time despite the mark of the first volatile mount.
        for round in ["first", "second"] {
            let mount = match mount_with(&stack(&layers, Some(dir.path())), method) {
                Ok(mount) => mount,
                Err(error) if method != Method::Classic => {
                    println!("this kernel has no {method:?}: {error}");
                    continue;
                }
                Err(error) => panic!("{method:?}: {}", crate::error::chain(&error)),
            };
            assert_eq!(
                (read(&mount, "a").unwrap(), read(&mount, "b").unwrap()),
                ("low".into(), "high".into())
            );
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&mount, "new", flags, Mode::RUSR).unwrap();
            File::from(file).write_all(round.as_bytes()).unwrap();
            assert_eq!(
                std::fs::read_to_string(dir.path().join("upper/new")).unwrap(),
                round
            );
            assert!(!mounts().contains(dir.path().to_str().unwrap()), "{method:?}");
        }
        let mount = match mount_with(&stack(&layers, None), method) {
            Err(_) if method != Method::Classic => continue,
            mounted => mounted.unwrap(),
        };
        assert_eq!(read(&mount, "b").unwrap(), "high", "{method:?}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        assert_eq!(
            rustix::fs::openat(&mount, "new", flags, Mode::RUSR).unwrap_err(),
            Errno::ROFS,
            "{method:?}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn one_layer_many_layers_and_wrong_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let texts: Vec<String> = (0..120).map(|at| at.to_string()).collect();
    let many: Vec<[(&str, &str); 1]> = texts.iter().map(|text| [("top", text.as_str())]).collect();
    let many: Vec<&[(&str, &str)]> = many.iter().map(<[_; 1]>::as_slice).collect();
    let many = layers(dir.path(), &many);
    assert_eq!(
        read(&mount(&many, &upper, &work, None, None).unwrap(), "top").unwrap(),
        "119"
    );
    assert_eq!(
        read(&mount(&many[..1], &upper, &work, None, None).unwrap(), "top").unwrap(),
        "0"
    );
    assert_eq!(
        read(&classic::mount(&stack(&many, None)).unwrap(), "top").unwrap(),
        "119"
    );
    assert!(matches!(
        mount(&[], &upper, &work, None, None),
        Err(ImageError::LayerCount { given: 0, .. })
    ));
    assert!(matches!(
        mount_readonly(&many[..1], None, None),
        Err(ImageError::LayerCount { given: 1, .. })
    ));
    // An image without layers.
    let empty = mount_readonly(std::slice::from_ref(&upper), None, None).unwrap();
    assert_eq!(
        read(&empty, "top").unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
#[ignore = "needs root"]
fn an_error_has_the_call_and_the_kernels_message() {
    let dir = tempfile::tempdir().unwrap();
    let layers = layers(dir.path(), &[&[]]);
    // Upper and work on different file systems.
    let error = mount(&layers, dir.path(), Path::new("/proc"), None, None).unwrap_err();
    let text = crate::error::chain(&error);
    assert!(text.contains("overlay") && text.contains("1 layers"), "{text}");
    let missing = mount(&[dir.path().join("missing")], dir.path(), dir.path(), None, None).unwrap_err();
    assert!(matches!(missing, ImageError::Io { .. }), "{missing}");
}

#[test]
#[ignore = "needs root"]
fn every_method_maps_the_owners_of_layers_but_not_of_written_files() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let users = pausa_sys::user_namespace(400_000, 65_536).unwrap();
    for method in [Method::Descriptors, Method::Strings, Method::Classic] {
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(dir.path(), &[&[("a", "low"), ("b", "low")], &[("b", "high")]]);
        chown(layers[1].join("b"), Some(33), Some(44)).unwrap();
        let mut stack = stack(&layers, Some(dir.path()));
        chown(dir.path().join("upper"), Some(400_000), Some(400_000)).unwrap();
        stack.lower = open_all(&layers, Some(users.as_fd())).unwrap();
        stack.mapped = true;
        let mount = match mount_with(&stack, method) {
            Ok(mount) => mount,
            Err(error) if method != Method::Classic => {
                println!("this kernel has no {method:?} of mapped layers: {error}");
                continue;
            }
            Err(error) => panic!("{method:?}: {}", crate::error::chain(&error)),
        };
        let owner = |name: &str| {
            let found = rustix::fs::statat(&mount, name, rustix::fs::AtFlags::EMPTY_PATH).unwrap();
            (found.st_uid, found.st_gid)
        };
        assert_eq!(owner(""), (400_000, 400_000), "{method:?}");
        assert_eq!(owner("a"), (400_000, 400_000), "{method:?}");
        assert_eq!(owner("b"), (400_033, 400_044), "{method:?}");
        assert_eq!(read(&mount, "b").unwrap(), "high", "{method:?}");
        // A copied-up file keeps its mapped owner, the file in the layer its own.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&mount, "b", flags, Mode::empty()).unwrap();
        File::from(file).write_all(b"er").unwrap();
        let upper = std::fs::metadata(dir.path().join("upper/b")).unwrap();
        assert_eq!((upper.uid(), upper.gid()), (400_033, 400_044), "{method:?}");
        assert_eq!(owner("b"), (400_033, 400_044), "{method:?}");
        assert_eq!(
            std::fs::metadata(layers[1].join("b")).unwrap().uid(),
            33,
            "{method:?}"
        );
        assert!(!mounts().contains(dir.path().to_str().unwrap()), "{method:?}");
    }
}

/// systemd makes all mounts of a node shared. Mounts in the private namespace must not propagate back.
#[test]
#[ignore = "needs root"]
fn mapped_layers_of_shared_mounts_leave_no_mount_behind() {
    let node = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let change = |flags| rustix::mount::mount_change("/", flags | MountPropagationFlags::REC).unwrap();
        // Private from the real node, then shared as on a node with systemd.
        change(MountPropagationFlags::PRIVATE);
        change(MountPropagationFlags::SHARED);
        let users = pausa_sys::user_namespace(400_000, 65_536).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(dir.path(), &[&[("a", "low")], &[("b", "high")]]);
        let mut stack = stack(&layers, Some(dir.path()));
        stack.lower = open_all(&layers, Some(users.as_fd())).unwrap();
        stack.mapped = true;
        let mount = mount_with(&stack, Method::Classic).unwrap();
        assert_eq!(read(&mount, "b").unwrap(), "high");
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!table.contains(dir.path().to_str().unwrap()), "{table}");
    };
    std::thread::spawn(node).join().unwrap();
}

#[test]
#[ignore = "needs root"]
fn checking_user_namespaces_leaves_no_mount_behind() {
    let dir = tempfile::tempdir().unwrap();
    match check_user_namespaces(dir.path()) {
        // Before Linux 6.3.
        Err(error) if error.to_string().contains("tmpfs") => println!("this kernel cannot: {error}"),
        tried => tried.unwrap(),
    }
    assert!(!mounts().contains(dir.path().to_str().unwrap()));
    // A file system without support for mapped owners: the error has the call.
    let users = pausa_sys::user_namespace(400_000, 65_536).unwrap();
    let error = open_all(&["/proc/sys".into()], Some(users.as_fd()))
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("MOUNT_ATTR_IDMAP"), "{error}");
}
