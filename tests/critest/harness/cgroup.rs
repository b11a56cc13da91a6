//! The cgroups of processes, in files.

use std::path::{Path, PathBuf};

/// A file in the cgroup of a process: the name of controller and file in version 1, the name of the file in version 2.
pub(crate) fn file(pid: i32, controller: &str, v1_file: &str, v2_file: &str) -> PathBuf {
    let paths = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process's cgroups");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("our mounts");
    let place = |wanted: &dyn Fn(&str) -> bool| -> Option<PathBuf> {
        let mount = mounts.lines().find(|line| wanted(line))?;
        Some(PathBuf::from(mount.split(' ').nth(4)?))
    };
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        let mut lines = paths
            .lines()
            .filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
        lines
            .find(|(controllers, _)| wanted(controllers))
            .map(|(_, path)| path.trim_start_matches('/').to_owned())
    };
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let v1 = place(&|line| line.contains(" - cgroup ") && line.rsplit(' ').next().is_some_and(has));
    let (root, path, file) = match v1 {
        Some(root) => (root, path_of(&has), v1_file),
        None => (
            place(&|line| line.contains(" - cgroup2 ")).expect("a hierarchy"),
            path_of(&str::is_empty),
            v2_file,
        ),
    };
    root.join(path.expect("the process is in it")).join(file)
}

pub(crate) fn value(pid: i32, controller: &str, v1_file: &str, v2_file: &str) -> String {
    let file = file(pid, controller, v1_file, v2_file);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.trim_end().to_owned()
}

/// Whether the controllers are those of version 2.
pub(crate) fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
