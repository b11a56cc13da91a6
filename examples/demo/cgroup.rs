//! Reads the resource usage of a container from its cgroup, version 1 or 2 (Documentation/admin-guide/cgroup-v2.rst).

use std::path::PathBuf;

use anyhow::Context as _;

/// Prints the memory and CPU time of a process's cgroup.
pub(crate) fn print(pid: i64) -> anyhow::Result<()> {
    let paths = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context("cannot read the cgroup")?;
    for line in paths.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let file = |hierarchy: &str, name: &str| {
            PathBuf::from("/sys/fs/cgroup")
                .join(hierarchy)
                .join(path)
                .join(name)
        };
        let shown = match controllers {
            "memory" => show("memory in use, bytes", &file("memory", "memory.usage_in_bytes")),
            "" => {
                show("memory in use, bytes", &file("", "memory.current"));
                show("CPU time", &file("", "cpu.stat"))
            }
            list if list.split(',').any(|name| name == "cpuacct") => {
                show("CPU time, nanoseconds", &file(list, "cpuacct.usage"))
            }
            _ => continue,
        };
        shown.unwrap_or_default();
    }
    Ok(())
}

/// Prints the first line of a file, if it exists.
fn show(what: &str, file: &std::path::Path) -> Option<()> {
    let text = std::fs::read_to_string(file).ok()?;
    println!("  {what}: {}", text.lines().next()?);
    Some(())
}
