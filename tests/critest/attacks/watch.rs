//! Looks at every new process in its PID namespace as fast as it can, as a container with CAP_SYS_PTRACE may, and says what
//! it finds of the host. Compiled by the test that runs it in a container: see `attacks.rs`.
//!
//! Arguments: device and inode of the host's root, the device of the host's /dev, the host's mount namespace, a file that
//! only the host's root has, and a word that only other processes' memory has.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

struct Host {
    root: (u64, u64),
    dev: u64,
    mount_namespace: String,
    file: String,
    secret: Vec<u8>,
    /// CapPrm that no process here may exceed, and the filter mode that each must have.
    capabilities: u64,
    seccomp: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<u64>().unwrap();
    let (capabilities, seccomp) = rights("self").unwrap();
    let host = Host {
        root: (number(0), number(1)),
        dev: number(2),
        mount_namespace: arguments[3].clone(),
        file: arguments[4].clone(),
        // The argument has a dash in the middle, so that it is not the word itself.
        secret: arguments[5].replace('-', "").into_bytes(),
        capabilities,
        seccomp,
    };
    println!("watching");
    let (mut last, mut seen) = (last_pid(), 0_u64);
    loop {
        // The next one, too: it may come to be meanwhile.
        let next = last_pid() + 1;
        for pid in last + 1..=next {
            if !look(pid, &host) {
                continue;
            }
            last = pid;
            seen += 1;
            println!("seen {seen}");
            for _ in 0..20 {
                if !look(pid, &host) {
                    break;
                }
            }
        }
        last = last.max(next - 1);
    }
}

/// The process id that was given out last in this PID namespace (proc_loadavg(5)).
fn last_pid() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}

fn found(pid: u32, what: &str) {
    println!("FOUND in process {pid}: {what}");
    std::io::stdout().flush().unwrap();
}

/// Examines a process. Returns whether it exists.
fn look(pid: u32, host: &Host) -> bool {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let Ok(root) = fs::metadata(path("root/")) else {
        return fs::metadata(path("")).is_ok();
    };
    if (root.dev(), root.ino()) == host.root {
        found(pid, "the host's root");
        if fs::read(path(&format!("root{}", host.file))).is_ok() {
            found(pid, "a file of the host, opened");
        }
    }
    if fs::metadata(path("cwd/")).is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == host.root) {
        found(pid, "the host's root as its working directory");
    }
    if fs::read_link(path("ns/mnt")).is_ok_and(|link| link.to_str() == Some(&host.mount_namespace)) {
        found(pid, "the host's mount namespace");
    }
    if let Some((capabilities, seccomp)) = rights(&pid.to_string()) {
        if capabilities & !host.capabilities != 0 {
            found(pid, &format!("capabilities {capabilities:x}"));
        }
        if seccomp != host.seccomp {
            found(pid, &format!("seccomp mode {seccomp}"));
        }
    }
    for entry in fs::read_dir(path("fd")).into_iter().flatten().flatten() {
        let descriptor = entry.path();
        let Ok(target) = fs::read_link(&descriptor) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        // The last are the state and the output of a hook that runs in the container.
        let harmless = ["pipe:", "socket:", "/dev/null", "/dev/pts/", "/null", "/memfd:pausa-hook"];
        if !harmless.iter().any(|prefix| target.starts_with(prefix)) {
            found(pid, &format!("descriptor {} of {target}", descriptor.display()));
        }
        if fs::metadata(&descriptor).is_ok_and(|file| file.dev() == host.dev) {
            found(pid, &format!("the host's {target}"));
        }
    }
    if fs::read(path("environ")).is_ok_and(|text| contains(&text, &host.secret)) {
        found(pid, "a secret in its environment");
    }
    memory(pid, host);
    true
}

/// Permitted capabilities and seccomp mode.
fn rights(pid: &str) -> Option<(u64, String)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let zombie = field("State:")?.starts_with(['Z', 'X']);
    let capabilities = u64::from_str_radix(field("CapPrm:")?, 16).ok()?;
    (!zombie).then(|| Some((capabilities, field("Seccomp:")?.to_owned())))?
}

fn memory(pid: u32, host: &Host) {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return;
    };
    let Ok(mut memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return;
    };
    let mut checked = HashSet::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else {
            continue;
        };
        if !checked.insert(start) || memory.seek(SeekFrom::Start(start)).is_err() {
            continue;
        }
        let mut bytes = vec![0; (end - start).min(512 << 10) as usize];
        let length = memory.read(&mut bytes).unwrap_or(0);
        if contains(&bytes[..length], &host.secret) {
            found(pid, &format!("a secret in its memory at {line}"));
        }
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == word[0]);
    starts.into_iter().any(|(at, _)| bytes[at..].starts_with(word))
}
