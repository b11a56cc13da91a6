//! A file system whose only file cannot be opened for long, like a file on an unreachable network volume (fuse(4)).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::mount::{MountFlags, UnmountFlags};

/// A mounted FUSE file system with one file.
pub(crate) struct SlowSource {
    dir: tempfile::TempDir,
    device: Option<File>,
    server: Option<Server>,
}

struct Server {
    thread: JoinHandle<()>,
    release: Sender<()>,
    asked: Receiver<()>,
}

impl SlowSource {
    /// No server answers: a process that opens the file hangs until it is killed. None without FUSE.
    pub(crate) fn dead() -> Option<Self> {
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                eprintln!("skipped: needs /dev/fuse: {error}");
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        let data = std::ffi::CString::new(data).unwrap();
        rustix::mount::mount("slow", dir.path(), "fuse", MountFlags::empty(), data.as_c_str()).unwrap();
        Some(Self {
            dir,
            device: Some(device),
            server: None,
        })
    }

    /// The server has received the request: a process that opens the file hangs, even if killed, until [`Self::let_go`].
    pub(crate) fn stuck() -> Option<Self> {
        let mut source = Self::dead()?;
        let device = source.device.take().unwrap();
        let (release, released) = channel();
        let (asks, asked) = channel();
        let thread = std::thread::spawn(move || serve(device, &asks, &released));
        source.server = Some(Server {
            thread,
            release,
            asked,
        });
        Some(source)
    }

    /// Waits until a process hangs.
    pub(crate) fn until_asked(&self) {
        self.server.as_ref().unwrap().asked.recv().unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    /// Makes the server answer.
    pub(crate) fn let_go(&self) {
        if let Some(server) = &self.server {
            server.release.send(()).ok();
        }
    }
}

impl Drop for SlowSource {
    fn drop(&mut self) {
        self.let_go();
        rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH).ok();
        self.device = None;
        if let Some(Server { thread, release, .. }) = self.server.take() {
            drop(release);
            thread.join().ok();
        }
    }
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;

/// Serves until the file system is unmounted.
fn serve(mut device: File, asks: &Sender<()>, released: &Receiver<()>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut free = false;
    while let Ok(40..) = device.read(&mut buffer) {
        let number = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap());
        let unique: [u8; 8] = buffer[8..16].try_into().unwrap();
        let body = match number(4) {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init()),
            LOOKUP => {
                if !free {
                    asks.send(()).ok();
                    released.recv().ok();
                    free = true;
                }
                // Node 2, valid for a minute.
                let mut entry = [2_u64, 1, 60, 60, 0].map(u64::to_ne_bytes).concat();
                entry.extend(attributes(2, 0o100_444));
                Ok(entry)
            }
            GETATTR => {
                let node = number(16);
                let mode = if node == 1 { 0o40_755 } else { 0o100_444 };
                let mut answer = [60_u64, 0].map(u64::to_ne_bytes).concat();
                answer.extend(attributes(node.into(), mode));
                Ok(answer)
            }
            STATFS => Ok(vec![0; 80]),
            _ => Err(-ENOSYS),
        };
        let (error, body) = body.map_or_else(|error| (error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut answer = [length.to_ne_bytes(), error.to_ne_bytes()].concat();
        answer.extend(unique);
        answer.extend(body);
        // ENOENT: the requesting process was killed meanwhile.
        device.write_all(&answer).ok();
    }
}

/// `struct fuse_init_out`, version 7.31.
fn init() -> Vec<u8> {
    let mut answer = [7_u32, 31, 0, 0, 0, 4096, 1].map(u32::to_ne_bytes).concat();
    answer.resize(64, 0);
    answer
}

/// `struct fuse_attr`.
fn attributes(node: u64, mode: u32) -> Vec<u8> {
    let mut attributes = [node, 0, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    attributes.extend(
        [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
            .map(u32::to_ne_bytes)
            .concat(),
    );
    attributes
}
