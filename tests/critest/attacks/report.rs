//! Says everything about its process that a runtime decides, a section and a fact a line. Compiled by the test that runs it
//! in containers: see `differential.rs`. It has no `main` of Rust's, which would change how signals are handled.
//!
//! With the argument `stay` it does not end. With `calls` it only says what system calls answer, in a process of their own,
//! since some of them change the process.

#![no_main]

use std::ffi::{c_int, c_long, c_uint};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn pause() -> c_int;
    fn nice(increment: c_int) -> c_int;
    fn sched_getscheduler(pid: c_int) -> c_int;
    fn personality(persona: u64) -> c_uint;
}

fn say(section: &str, fact: impl AsRef<str>) {
    println!("{section}\t{}", fact.as_ref());
}

/// The lines of a file, or why it cannot be read.
fn file(section: &str, path: &str) {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).replace('\0', "|");
            text.lines().for_each(|line| say(section, line));
        }
        Err(error) => say(section, format!("cannot be read: {error}")),
    }
}

fn kind(file: &fs::Metadata) -> &'static str {
    let kind = file.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    }
}

fn describe(section: &str, path: &Path) {
    let Ok(file) = fs::symlink_metadata(path) else {
        return say(section, format!("{} is not there", path.display()));
    };
    let target = fs::read_link(path).map(|target| format!(" -> {}", target.display())).unwrap_or_default();
    let device = file.rdev();
    let number = if device == 0 { String::new() } else { format!(" {}:{}", (device >> 8) & 0xfff, device & 0xff) };
    let (mode, owner) = (file.mode() & 0o7777, (file.uid(), file.gid()));
    say(section, format!("{} {} {mode:04o} {owner:?}{number}{target}", path.display(), kind(&file)));
}

fn walk(section: &str, path: &Path) {
    describe(section, path);
    if fs::symlink_metadata(path).is_ok_and(|file| file.is_dir()) {
        match fs::read_dir(path) {
            Ok(entries) => entries.flatten().for_each(|entry| walk(section, &entry.path())),
            Err(error) => say(section, format!("{} cannot be read: {error}", path.display())),
        }
    }
}

/// What each system call answers to arguments that are all ones, which none but those left out can do anything with.
#[cfg(target_arch = "x86_64")]
fn calls() {
    // rt_sigreturn, pause, clone, fork, vfork, exit, msgget, umask, vhangup, exit_group, uretprobe
    let left_out = [15, 34, 56, 57, 58, 60, 68, 95, 153, 231, 335];
    for number in (0..=470).filter(|number| !left_out.contains(number)) {
        let ones: c_long = -1;
        let done = unsafe { syscall(number, ones, ones, ones, ones, ones, ones) };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        say("calls", format!("{number}: {}", if done < 0 { errno } else { 0 }));
    }
    const SOCKET: c_long = 41;
    const PERSONALITY: c_long = 135;
    const UNSHARE: c_long = 272;
    let tried: [(&str, c_long, [c_long; 3]); 11] = [
        ("socket(AF_ALG)", SOCKET, [38, 5, 0]),
        ("socket(AF_VSOCK)", SOCKET, [40, 1, 0]),
        ("socket(AF_NETLINK)", SOCKET, [16, 3, 0]),
        ("socket(AF_PACKET)", SOCKET, [17, 3, 0]),
        ("socket(AF_UNIX)", SOCKET, [1, 1, 0]),
        ("personality(0)", PERSONALITY, [0, 0, 0]),
        ("personality(8)", PERSONALITY, [8, 0, 0]),
        ("personality(ADDR_NO_RANDOMIZE)", PERSONALITY, [0x4_0000, 0, 0]),
        ("unshare(0)", UNSHARE, [0, 0, 0]),
        ("unshare(CLONE_NEWNS)", UNSHARE, [0x2_0000, 0, 0]),
        ("unshare(CLONE_NEWUSER)", UNSHARE, [0x1000_0000, 0, 0]),
    ];
    for (name, number, [one, two, three]) in tried {
        let done = unsafe { syscall(number, one, two, three) };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        say("calls", format!("{name}: {}", if done < 0 { errno } else { 0 }));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn calls() {}

#[unsafe(no_mangle)]
pub extern "C" fn main(_: c_int, _: *const *const u8) -> c_int {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "calls" {
        calls();
        return 0;
    }
    file("status", "/proc/self/status");
    file("limits", "/proc/self/limits");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        say("ns", format!("{name} {}", link.display()));
    }
    for name in ["current", "exec", "fscreate", "keycreate", "prev", "sockcreate", "apparmor/current"] {
        file(&format!("attr/{name}"), &format!("/proc/self/attr/{name}"));
    }
    file("cgroup", "/proc/self/cgroup");
    file("mountinfo", "/proc/self/mountinfo");
    for number in 0..64 {
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) {
            say("fd", format!("{number} {}", target.display()));
        }
    }
    file("environ", "/proc/self/environ");
    file("cmdline", "/proc/self/cmdline");
    for name in ["oom_score_adj", "coredump_filter", "timerslack_ns", "loginuid", "uid_map", "gid_map", "setgroups", "comm"] {
        file(name, &format!("/proc/self/{name}"));
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let stat: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let own = std::process::id().to_string();
    say("session", format!("leads its group: {}, its session: {}", stat[2] == own, stat[3] == own));
    say("session", format!("parent: {}", if stat[1] == "0" { "outside" } else { "inside" }));
    say("session", format!("terminal: {}", stat[4] != "0"));
    let (nice, policy) = unsafe { (nice(0), sched_getscheduler(0)) };
    say("scheduling", format!("nice {nice}, policy {policy}"));
    say("personality", format!("{:x}", unsafe { personality(0xffff_ffff) }));
    say("cwd", std::env::current_dir().map_or_else(|error| error.to_string(), |path| path.display().to_string()));
    walk("dev", Path::new("/dev"));
    for path in [
        "/", "/proc", "/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
        "/proc/kcore", "/proc/keys", "/proc/sys/kernel/hostname", "/sys/firmware", "/volume", "/data", "/made/by/image",
    ] {
        describe("files", Path::new(path));
    }
    for name in [
        "kernel/hostname", "kernel/domainname", "kernel/shmmax", "net/ipv4/ip_forward", "net/ipv4/ping_group_range",
        "net/ipv4/ip_unprivileged_port_start",
    ] {
        file(&format!("sysctl {name}"), &format!("/proc/sys/{name}"));
    }
    for path in ["/probe", "/written", "/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/written", "/dev/written"] {
        let error = fs::OpenOptions::new().append(true).create(true).open(path).err();
        say("writable", format!("{path}: {error:?}"));
    }
    let called = std::process::Command::new("/proc/self/exe").arg("calls").status();
    say("calls", format!("{called:?}"));
    say("end", "");
    if argument == "stay" {
        unsafe { pause() };
    }
    0
}
