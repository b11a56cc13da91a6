//! Plugins in the form of shell scripts.

use std::fs::{Permissions, create_dir, set_permissions, write};

use tempfile::TempDir;

use super::*;
use crate::testing::{LIMIT, until};

fn script(directory: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
    let path = directory.join(name);
    write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn executable_files_with_a_name_are_found_with_their_configuration() {
    let (plugins, configs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for (name, mode) in [
        ("20-b", 0o755),
        ("10-a", 0o700),
        ("10-off", 0o644),
        ("README", 0o755),
        ("30-c", 0o755),
        ("40-broken", 0o755),
    ] {
        script(plugins.path(), name, mode, "");
    }
    create_dir(plugins.path().join("50-directory")).unwrap();
    for (name, config) in [
        ("10-a.conf", &b"special"[..]),
        ("a.conf", b"general"),
        ("b.conf", b"\xc3\xa4"),
    ] {
        write(configs.path().join(name), config).unwrap();
    }
    write(configs.path().join("broken.conf"), b"\xff").unwrap();
    let found = installed(plugins.path(), configs.path()).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|plugin| (plugin.name.to_string(), &*plugin.config))
        .collect();
    let expected = [("10-a", "special"), ("20-b", "ä"), ("30-c", "")];
    assert_eq!(found, expected.map(|(name, config)| (name.to_owned(), config)));
}

#[test]
fn a_configuration_has_a_limit() {
    let (plugins, configs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    script(plugins.path(), "10-a", 0o755, "");
    let config = " ".repeat(usize::try_from(MAX_CONFIG).unwrap() + 1);
    write(configs.path().join("a.conf"), &config).unwrap();
    assert_eq!(installed(plugins.path(), configs.path()).unwrap().len(), 0);
    write(configs.path().join("a.conf"), &config[1..]).unwrap();
    assert_eq!(installed(plugins.path(), configs.path()).unwrap().len(), 1);
}

#[test]
fn a_directory_may_be_missing() {
    let none = Path::new("/nonexistent");
    assert!(installed(none, none).unwrap().is_empty());
}

/// Starts a script, and returns what it writes to its connection.
async fn said(text: &str) -> (Process, String) {
    let directory = TempDir::new().unwrap();
    let path = script(directory.path(), "07-sh", 0o755, text);
    let name = Name::of_file("07-sh").unwrap();
    let config = String::new();
    let (process, mut socket) = Process::launch(&Installed { name, path, config }).await.unwrap();
    let mut said = String::new();
    let read = async {
        let mut byte = [0];
        while said.lines().last() != Some("end") {
            socket.read_exact(&mut byte).await.unwrap();
            said.push(char::from(byte[0]));
        }
    };
    timeout(LIMIT, read).await.unwrap();
    (process, said)
}

/// Descriptors of this process that every child gets, because this process got them in the same way.
fn inheritable() -> Vec<String> {
    let cloexec = |path: PathBuf| {
        let flags = std::fs::read_to_string(path).unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
        flags
            .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok())
            .is_none_or(|flags| flags & libc::O_CLOEXEC != 0)
    };
    let entries = Path::new("/proc/self/fdinfo").read_dir().unwrap().flatten();
    let inheritable = entries.filter(|entry| !cloexec(entry.path()));
    inheritable
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[tokio::test]
async fn a_plugin_gets_its_connection_and_nothing_else() {
    let ours = File::open("/dev/null").unwrap();
    // The last one is that by which ls reads the directory.
    let (process, said) = said(
        "{ env | grep -v ^PWD= | grep -v ^_= | sort; } >&3; exec sh -c 'ls /proc/self/fd; echo end' >&3",
    )
    .await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["NRI_PLUGIN_IDX=07", "NRI_PLUGIN_NAME=sh", "NRI_PLUGIN_SOCKET=3"]
    );
    let inherited = inheritable();
    let descriptors = lines[3..]
        .iter()
        .filter(|line| !inherited.iter().any(|fd| fd == *line));
    assert_eq!(descriptors.collect::<Vec<_>>(), [&"3", &"4", &"end"]);
    drop(ours);
    process.end(Duration::ZERO).await;
}

fn exists(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn a_plugin_leads_a_session_that_ends_with_it() {
    let (process, said) =
        said("sleep 1000 & { echo $!; cut -d' ' -f6 /proc/$$/stat; echo end; } >&3; wait").await;
    let numbers: Vec<i32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    let (child, session) = (Pid::from_raw(numbers[0]).unwrap(), numbers[1]);
    let pid = process.pid;
    assert_eq!(session, pid.as_raw_nonzero().get());
    drop(process);
    // It is an orphan then, whose parent may take its time to reap it.
    let gone = |pid: Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| stat.contains(") Z ")) || !exists(pid)
    };
    until("the child is killed", || gone(child)).await;
    until("the leader is killed", || gone(pid)).await;
}

#[tokio::test]
async fn a_plugin_may_end_by_itself() {
    let marker = TempDir::new().unwrap();
    let path = marker.path().join("ended");
    let text = format!(
        "trap 'touch {}; exit 0' TERM; echo end >&3; while :; do sleep 0.01; done",
        path.display()
    );
    let (process, _) = said(&text).await;
    let pid = process.pid;
    process.end(LIMIT).await;
    assert!(path.exists());
    assert!(!exists(pid), "it is reaped");
}

#[tokio::test]
async fn a_plugin_that_does_not_end_is_killed() {
    let (process, _) = said("trap '' TERM; echo end >&3; while :; do sleep 0.01; done").await;
    let pid = process.pid;
    process.end(Duration::from_millis(20)).await;
    assert!(!exists(pid));
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error() {
    let name = Name::of_file("10-a").unwrap();
    let (path, config) = ("/nonexistent".into(), String::new());
    let refused = Process::launch(&Installed { name, path, config })
        .await
        .unwrap_err();
    assert_eq!(
        chain(&refused),
        "cannot start it: posix_spawn(3): No such file or directory (os error 2)"
    );
}
