//! The programs of the node itself, as `/proc` shows them: those in the mount namespace of the first process, which containers
//! are not.

use std::fs;
use std::path::Path;

/// Bytes of a command line that are read.
const LONGEST: usize = 64 * 1024;

/// A running program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The last part of the path it was started by.
    pub(super) name: String,
    /// Without the path.
    pub(super) arguments: Vec<String>,
}

/// All programs of the node.
pub(super) fn all() -> Vec<Process> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let of_node = namespace("1");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let pid = name.parse().ok()?;
            // Who may not look at them takes all of them.
            let own = namespace(&name);
            if own.is_some() && of_node.is_some() && own != of_node {
                return None;
            }
            let mut line = fs::read(format!("/proc/{name}/cmdline")).ok()?;
            line.truncate(LONGEST);
            parse(pid, &line)
        })
        .collect()
}

/// None for kernel threads and zombies, which have no command line.
fn parse(pid: i32, line: &[u8]) -> Option<Process> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let mut words = line.split(|byte| *byte == 0);
    let words = words
        .by_ref()
        .map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words = words.filter(|word| !word.is_empty());
    let program = words.next()?;
    let name = Path::new(&program).file_name()?.to_str()?.to_owned();
    Some(Process {
        pid,
        name,
        arguments: words.collect(),
    })
}

#[cfg(test)]
mod tests;
