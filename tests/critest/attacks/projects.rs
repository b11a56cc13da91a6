//! Tries to take a file and a directory out of the project whose limit counts for them, and prints the errno of each call,
//! or 0. Compiled by the test that runs it in a container: see `layer_quota.rs`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_PROJINHERIT_FL: u64 = 0x2000_0000;
const FILE_SETATTR: i64 = 469;
const AT_FDCWD: i32 = -100;

unsafe extern "C" {
    fn ioctl(fd: i32, command: u64, ...) -> i32;
    fn syscall(number: i64, ...) -> i64;
}

fn errno(result: i64) -> i32 {
    match result {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap(),
        _ => 0,
    }
}

fn main() {
    let file = File::create("/out").unwrap();
    fs::create_dir_all("/way").unwrap();
    let directory = File::open("/way").unwrap();
    // struct fsxattr: the project is the fourth word.
    let mut attributes = [0_u32; 7];
    let got = unsafe { ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    println!("get {}", errno(got.into()));
    attributes[3] = 0;
    // The kernel looks at the lower half of the command only.
    for high in [0, 1 << 40] {
        let set = unsafe { ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR | high, &raw const attributes) };
        println!("project {}", errno(set.into()));
    }
    let mut flags = 0_u64;
    unsafe { ioctl(directory.as_raw_fd(), FS_IOC_GETFLAGS, &raw mut flags) };
    flags &= !FS_PROJINHERIT_FL;
    let set = unsafe { ioctl(directory.as_raw_fd(), FS_IOC_SETFLAGS, &raw const flags) };
    println!("inheritance {}", errno(set.into()));
    // struct file_attr: flags, then extent size, extents, project, extent size of copies.
    let attributes = [0_u64; 3];
    let set = unsafe { syscall(FILE_SETATTR, AT_FDCWD, c"/out".as_ptr(), &raw const attributes, 24_usize, 0) };
    println!("file_setattr {}", errno(set));
}
