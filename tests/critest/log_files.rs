//! Container logs: `<RFC 3339 time> <stream> <P|F> <content>`, as kubelet reads them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;
use tonic::Code;

use crate::harness::{eventually, logs, ok, on_node, on_own_node, on_pausa, refused, strings, which};

/// Where a line is split (kubelet and every runtime agree on 16 KiB).
const SPLIT: usize = 16 * 1024;

async fn reopen(container: &crate::harness::Container<'_>) {
    let request = v1::ReopenContainerLogRequest {
        container_id: container.id.clone(),
    };
    ok(
        "ReopenContainerLog",
        container.node.runtime().reopen_container_log(request).await,
    );
}

/// CRI logging: both streams in one file, each entry with its stream, lines in order.
#[test]
#[ignore = "needs root"]
fn both_streams_are_in_the_log() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "echo one; echo two >&2; echo three; printf '\\n'; echo ' spaces '";
        let ended = pod
            .run(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        assert_eq!(ended.stdout(), "one\nthree\n\n spaces \n");
        assert_eq!(ended.stderr(), "two\n");
        assert!(
            ended.lines.iter().all(|line| line.tag == "F"),
            "{:?}",
            ended.lines
        );
    });
}

/// Lines up to 16384 bytes are one entry, longer ones are pieces, and there is never an empty last piece.
#[test]
#[ignore = "needs root"]
fn long_lines_are_split_at_16_kib_exactly() {
    on_node(async |node| {
        let pod = node.pod().await;
        for (length, expected) in [
            (SPLIT - 1, vec![("F", SPLIT - 1)]),
            (SPLIT, vec![("F", SPLIT)]),
            (SPLIT + 1, vec![("P", SPLIT), ("F", 1)]),
            (2 * SPLIT, vec![("P", SPLIT), ("F", SPLIT)]),
            (
                3 * SPLIT + 7,
                vec![("P", SPLIT), ("P", SPLIT), ("P", SPLIT), ("F", 7)],
            ),
        ] {
            let script = format!("head -c {length} /dev/zero | tr '\\0' x; echo");
            let ended = pod
                .run(|config| config.command = strings(&["sh", "-c", &script]))
                .await;
            let found: Vec<_> = ended
                .lines
                .iter()
                .map(|line| (line.tag.as_str(), line.content.len()))
                .collect();
            assert_eq!(found, expected, "a line of {length} bytes");
        }
    });
}

/// What comes without a newline before the end is a piece (`P`), and it is there when the status says EXITED.
#[test]
#[ignore = "needs root"]
fn the_rest_of_a_line_is_a_piece() {
    on_node(async |node| {
        let pod = node.pod().await;
        let ended = pod
            .run(|config| config.command = strings(&["printf", "first\\nrest"]))
            .await;
        let found: Vec<_> = ended
            .lines
            .iter()
            .map(|line| (line.tag.as_str(), line.content.as_slice()))
            .collect();
        assert_eq!(found, [("F", &b"first"[..]), ("P", &b"rest"[..])]);
    });
}

/// All bytes are in the file before anybody hears EXITED: kubelet reads termination messages from it.
#[test]
#[ignore = "needs root"]
fn nothing_is_missing_when_the_container_has_exited() {
    on_node(async |node| {
        let pod = node.pod().await;
        let ended = pod
            .run(|config| config.command = strings(&["seq", "1", "200000"]))
            .await;
        let text = ended.stdout();
        assert_eq!(text.lines().count(), 200_000);
        assert_eq!(text.lines().next_back(), Some("200000"));
    });
}

/// Content is bytes: what is not UTF-8 goes through unchanged.
#[test]
#[ignore = "needs root"]
fn content_need_not_be_text() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = r"printf '\377\376\001\n\000x\n'";
        let ended = pod
            .run(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        assert_eq!(logs::content(&ended.lines, "stdout"), b"\xff\xfe\x01\n\0x\n");
    });
}

/// CRI `PodSandboxConfig.log_directory` and `ContainerConfig.log_path`: missing directories are made.
#[test]
#[ignore = "needs root"]
fn missing_directories_are_made() {
    on_node(async |node| {
        let pod = node.pod().await;
        let ended = pod
            .run(|config| {
                config.log_path = "a/b/c/0.log".to_owned();
                config.command = strings(&["echo", "deep"]);
            })
            .await;
        assert_eq!(ended.stdout(), "deep\n");
        assert!(
            ended.status.log_path.ends_with("/a/b/c/0.log"),
            "{}",
            ended.status.log_path
        );
    });
}

/// A pod that may write to logs (a hostPath below /var/log/pods) must not choose where the daemon writes.
#[test]
#[ignore = "needs root"]
fn links_in_the_log_directory_are_not_followed() {
    on_node(async |node| {
        let pod = node.pod().await;
        let elsewhere = node.dir().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a directory");
        std::fs::create_dir_all(&pod.config.log_directory).expect("the log directory");
        let log_directory = std::path::Path::new(&pod.config.log_directory);
        std::os::unix::fs::symlink(&elsewhere, log_directory.join("sub")).expect("a link");
        let mut config = pod.container_config();
        config.log_path = "sub/0.log".to_owned();
        let container = pod.create(config).await;
        let message = crate::harness::refused(tonic::Code::Internal, container.try_start().await);
        assert!(message.contains("symbolic link"), "{message}");
        assert_eq!(std::fs::read_dir(&elsewhere).expect("a directory").count(), 0);
    });
}

/// CRI `log_path` empty: logging is off, and the container is not stopped by a full pipe.
#[test]
#[ignore = "needs root"]
fn without_a_log_path_the_output_is_drained() {
    on_node(async |node| {
        let pod = node.pod().await;
        let ended = pod
            .run(|config| {
                config.log_path = String::new();
                config.command = strings(&["sh", "-c", "head -c 1000000 /dev/zero"]);
            })
            .await;
        assert_eq!(ended.status.exit_code, 0);
    });
}

/// CRI ReopenContainerLog: kubelet renames the file and asks for a new one, which is there when the call returns.
#[test]
#[ignore = "needs root"]
fn rotation_loses_no_line() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script =
            "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); [ $((i%100)) = 0 ] && usleep 20000; done";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        let rotated = container.log.with_extension("rotated");
        container.says(" 100\n").await;
        std::fs::rename(&container.log, &rotated).expect("kubelet renames");
        reopen(&container).await;
        assert!(
            container.log.exists(),
            "the new file is there when the call returns"
        );
        let ended = container.end().await;
        let mut lines = logs::read(&rotated);
        assert!(!lines.is_empty());
        lines.extend(ended.lines);
        let seen = String::from_utf8(logs::content(&lines, "stdout")).expect("numbers");
        let expected: String = (0..3000).map(|i| format!("{i}\n")).collect();
        assert_eq!(seen, expected, "every line once and in order");
    });
}

/// CRI ReopenContainerLog: "If the container is not running, container runtime can choose to either create a new log file or return an error".
#[test]
#[ignore = "needs root"]
fn reopening_an_ended_log_does_not_succeed_silently() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = strings(&["true"])).await;
        container.end().await;
        let kept = container.log.with_extension("rotated");
        std::fs::rename(&container.log, &kept).expect("renamed");
        let request = v1::ReopenContainerLogRequest {
            container_id: container.id.clone(),
        };
        let answer = node.runtime().reopen_container_log(request).await;
        assert!(
            answer.is_err() || container.log.exists(),
            "neither an error nor a file"
        );
        if node.is_pausa() {
            refused(Code::FailedPrecondition, answer);
        }
    });
}

/// With a terminal everything is standard output (CRI `ContainerConfig.tty`).
#[test]
#[ignore = "needs root"]
fn a_terminal_has_one_stream() {
    on_node(async |node| {
        let pod = node.pod().await;
        let ended = pod
            .run(|config| {
                config.tty = true;
                config.command = strings(&["sh", "-c", "echo out; echo err >&2"]);
            })
            .await;
        assert_eq!(ended.stderr(), "");
        assert_eq!(ended.stdout().replace('\r', ""), "out\nerr\n");
    });
}

/// Exec output never goes to the log.
#[test]
#[ignore = "needs root"]
fn exec_does_not_write_to_the_log() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "echo up; sleep 3600"]))
            .await;
        container.says("up").await;
        container.sh("echo from exec; echo from exec >&2").await;
        container.stop(0).await;
        assert_eq!(container.end().await.stdout(), "up\n");
    });
}

/// A log is appended to, and its entries appear while the container runs.
#[test]
#[ignore = "needs root"]
fn lines_appear_while_the_container_runs() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "echo early; sleep 3600"]))
            .await;
        let line = eventually("an entry", async || {
            container
                .log
                .exists()
                .then(|| logs::read_some(&container.log))
                .flatten()
        });
        assert_eq!(line.await.content, b"early");
    });
}

/// Times have nine digits of a second, always: parsers with a fixed layout and sorting by text both work.
#[test]
#[ignore = "needs root"]
fn times_have_nine_digits() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["seq", "1", "500"]))
            .await;
        container.end().await;
        let text = std::fs::read_to_string(&container.log).expect("a log");
        for line in text.lines() {
            let time = line.split(' ').next().expect("a time");
            let fraction = time.split_once('.').map_or("", |(_, rest)| rest);
            assert_eq!(
                fraction.bytes().take_while(u8::is_ascii_digit).count(),
                9,
                "{line}"
            );
        }
    });
}

/// A file system of its own at a directory, which can be frozen: then whoever writes to it waits in the kernel. A process
/// of its own thaws and unmounts it, also when the test is killed.
struct Disk {
    keeper: Child,
    answers: BufReader<ChildStdout>,
}

impl Disk {
    /// None where there is no such file system.
    fn new(dir: &Path) -> Option<Self> {
        let skipped = |why: &str| eprintln!("skipped: needs {why}");
        if which("mkfs.ext4").is_none() || which("fsfreeze").is_none() {
            skipped("mkfs.ext4 and fsfreeze");
            return None;
        }
        std::fs::create_dir_all(dir).expect("a new directory");
        let script = r#"
            truncate -s 32M "$0.img" && mkfs.ext4 -q "$0.img" && mount -o loop "$0.img" "$0" && echo mounted || exit
            read freeze && fsfreeze --freeze "$0" && echo frozen
            read thaw
            fsfreeze --unfreeze "$0"
            umount --lazy "$0"
            rm "$0.img"
        "#;
        let mut keeper = Command::new("sh")
            .args(["-c", script])
            .arg(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let answers = BufReader::new(keeper.stdout.take().expect("a pipe"));
        let mut disk = Self { keeper, answers };
        if disk.answer() != "mounted\n" {
            skipped("loop devices");
            return None;
        }
        Some(disk)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line
    }

    fn freeze(&mut self) {
        let mut input = self.keeper.stdin.as_ref().expect("a pipe");
        input.write_all(b"freeze\n").expect("the keeper reads");
        assert_eq!(self.answer(), "frozen\n");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// DESIGN: slow paths are fenced. A log whose disk does not answer stops neither other logs of the pod, nor commands, nor
/// the end of its own container.
#[test]
#[ignore = "needs root"]
fn a_frozen_log_disk_stalls_nobody() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let dir = Path::new(&pod.config.log_directory).join("disk");
        let Some(mut disk) = Disk::new(&dir) else { return };
        let stalled = pod
            .start(|config| {
                config.log_path = "disk/0.log".to_owned();
                config.command = strings(&["sh", "-c", "while :; do echo flood; done"]);
            })
            .await;
        stalled.says("flood").await;
        disk.freeze();
        let length = || std::fs::metadata(&stalled.log).expect("a log").len();
        let frozen_at = length();
        let other = pod.start(|_| {}).await;
        assert_eq!(other.sh("echo alive").await, "alive\n");
        assert_eq!(stalled.sh("echo alive").await, "alive\n");
        let quick = pod
            .run(|config| config.command = strings(&["sh", "-c", "echo said; exit 3"]))
            .await;
        assert_eq!((quick.stdout().as_str(), quick.status.exit_code), ("said\n", 3));
        stalled.stop(0).await;
        let status = stalled.status().await;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(status.exit_code, 137);
        assert_eq!(other.sh("echo alive").await, "alive\n");
        assert_eq!(length(), frozen_at);
        drop(disk);
        pod.remove().await;
    });
}
