//! A volume whose server is dead: its container's start hangs, and nobody else notices.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Duration;

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;
use rustix::mount::{MountFlags, UnmountFlags};

use tonic::Code;

use crate::harness::pod::bind;
use crate::harness::{Container, Pod, eventually, leaks, ok, on_own_node, refused, strings};

/// A directory with a file that is there until the volume dies: then who looks for it hangs until killed (fuse(4)
/// with nobody to answer).
struct Volume {
    dir: PathBuf,
    device: File,
}

impl Volume {
    /// None where there is no fuse.
    fn new(dir: PathBuf) -> Option<Self> {
        let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
            eprintln!("skipped: needs /dev/fuse");
            return None;
        };
        std::fs::create_dir(&dir).expect("a new directory");
        std::fs::write(dir.join("file"), "").expect("an empty file");
        Some(Self { dir, device })
    }

    fn die(&self) {
        let fd = self.device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        let data = std::ffi::CString::new(data).expect("no NUL");
        rustix::mount::mount("dead", &self.dir, "fuse", MountFlags::empty(), data.as_c_str())
            .expect("fuse mounts");
    }

    /// Mounts it with a server that takes one request and never answers it: whoever waits for that cannot even be killed
    /// (`request_wait_answer` in the kernel's fs/fuse/dev.c), until the volume is dropped.
    fn swallow_a_request(&self) -> std::thread::JoinHandle<()> {
        self.die();
        let mut device = self.device.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let mut request = vec![0; 64 * 1024];
            assert!(device.read(&mut request).expect("FUSE_INIT") > 16);
            // fuse_out_header: length, error, and the number of the request; fuse_init_out: version 7.31, most bytes a write.
            let mut answer: Vec<u8> = [80_u32, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            answer.extend(&request[8..16]);
            answer.extend([7_u32, 31, 0, 0, 0, 4096].into_iter().flat_map(u32::to_ne_bytes));
            answer.resize(80, 0);
            device.write_all(&answer).expect("the answer to FUSE_INIT");
            assert!(device.read(&mut request).expect("a request") > 16);
        })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.dir, UnmountFlags::DETACH).ok();
    }
}

/// A container with the file mounted.
async fn with_volume<'a>(pod: &'a Pod<'_>, volume: &Volume) -> Container<'a> {
    let mut config = pod.container_config();
    config.mounts.push(bind(&volume.dir.join("file"), "/volume"));
    pod.create(config).await
}

/// Asks for the start, and comes back once its child hangs.
async fn hang(container: &Container<'_>, volume: &Volume) -> tokio::task::JoinHandle<Option<tonic::Status>> {
    volume.die();
    let (mut runtime, container_id) = (container.node.runtime(), container.id.clone());
    let start = tokio::spawn(async move {
        runtime
            .start_container(v1::StartContainerRequest { container_id })
            .await
            .err()
    });
    eventually("the start hangs", async || {
        let waiting = leaks::processes(container.node.slot());
        let hangs = |pid: &i32| {
            let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("wchan").contains("fuse") || read("stack").contains("fuse")
        };
        waiting.iter().any(hangs).then_some(())
    })
    .await;
    start
}

/// DESIGN: slow paths are fenced. Probes, logs and exits of the pod go on; StopContainer ends the start.
#[test]
#[ignore = "needs root"]
fn a_hanging_start_stalls_nobody_and_can_be_stopped() {
    on_own_node(async |node| {
        let Some(volume) = Volume::new(node.dir().join("volume")) else {
            return;
        };
        let pod = node.pod().await;
        let other = pod.start(|_| {}).await;
        let stuck = with_volume(&pod, &volume).await;
        let start = hang(&stuck, &volume).await;
        assert_eq!(other.sh("echo alive").await, "alive\n");
        let quick = pod
            .run(|config| config.command = strings(&["sh", "-c", "echo said; exit 3"]))
            .await;
        assert_eq!((quick.stdout().as_str(), quick.status.exit_code), ("said\n", 3));
        assert!(!start.is_finished());
        assert_eq!(stuck.status().await.state(), ContainerState::ContainerCreated);
        stuck.stop(30).await;
        let failed = start.await.expect("no panic").expect("it did not start");
        assert!(
            failed
                .message()
                .contains("open the source of the mount on /volume"),
            "{failed:?}"
        );
        let status = stuck.status().await;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!((status.reason.as_str(), status.exit_code), ("StartError", 128));
        assert_eq!(other.sh("echo alive").await, "alive\n");
        pod.remove().await;
    });
}

/// A start under way outlives the daemon as everything of a pod does; the next one knows of it and can end it.
#[test]
#[ignore = "needs root"]
fn the_next_daemon_takes_over_a_hanging_start() {
    on_own_node(async |node| {
        let Some(volume) = Volume::new(node.dir().join("volume")) else {
            return;
        };
        let pod = node.pod().await;
        let stuck = with_volume(&pod, &volume).await;
        let start = hang(&stuck, &volume).await;
        node.kill_and_restart_daemon().await;
        assert!(start.await.expect("no panic").is_some());
        assert_eq!(stuck.status().await.state(), ContainerState::ContainerCreated);
        // Asked again, it is the same start.
        let request = v1::StartContainerRequest {
            container_id: stuck.id.clone(),
        };
        let mut again = tonic::Request::new(request);
        again.set_timeout(Duration::from_millis(300));
        assert!(node.runtime().start_container(again).await.is_err());
        assert_eq!(stuck.status().await.state(), ContainerState::ContainerCreated);
        let remove = v1::RemoveContainerRequest {
            container_id: stuck.id.clone(),
        };
        ok("RemoveContainer", node.runtime().remove_container(remove).await);
        pod.remove().await;
    });
}

/// A command that is not dead when its time is up is not called killed. It is once it can be.
#[test]
#[ignore = "needs root"]
fn a_command_that_cannot_be_killed_at_its_timeout_is_said_to_live() {
    on_own_node(async |node| {
        let dir = node.dir().join("volumes");
        std::fs::create_dir(&dir).expect("a new directory");
        let Some(volume) = Volume::new(dir.join("dead")) else {
            return;
        };
        let server = volume.swallow_a_request();
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.mounts.push(bind(&dir, "/volumes"));
            })
            .await;
        let runs = || {
            let pids = leaks::processes(node.slot());
            pids.into_iter()
                .any(|pid| leaks::command(pid).contains("cat /volumes/dead/file"))
        };
        let answer = container.try_exec(&["cat", "/volumes/dead/file"], 5).await;
        assert!(runs(), "{answer:?}");
        let text = refused(Code::DeadlineExceeded, answer);
        assert!(text.contains("cannot be killed"), "{text}");
        assert!(text.contains("waits in the kernel (state D"), "{text}");
        server.join().expect("a server that has got its request");
        drop(volume);
        eventually("the command is gone", async || (!runs()).then_some(())).await;
        assert_eq!(container.sh("echo alive").await, "alive\n");
        pod.remove().await;
    });
}
