//! Opens the program of each new process in its PID namespace, and tries to write to it afterwards, as the exploits of
//! CVE-2019-5736 do. What it writes is what is there, so that it harms nothing if it can. Compiled by the test that runs it
//! in a container: see `escapes/runtime.rs`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

fn main() {
    let own = fs::metadata("/proc/self/exe").unwrap();
    let root = fs::metadata("/").unwrap();
    // Programs that are neither ours nor of our image, by device and inode.
    let mut programs: HashMap<(u64, u64), File> = HashMap::new();
    println!("watching");
    let mut last = last_pid();
    loop {
        // The next one, too: it may come to be meanwhile.
        let next = last_pid() + 1;
        for pid in last + 1..=next {
            // Until it is gone: it may replace its program meanwhile.
            for _ in 0..200 {
                let Ok(program) = File::open(format!("/proc/{pid}/exe")) else {
                    break;
                };
                last = last.max(pid);
                let metadata = program.metadata().unwrap();
                let id = (metadata.dev(), metadata.ino());
                if id.0 == root.dev() || id == (own.dev(), own.ino()) || programs.contains_key(&id) {
                    continue;
                }
                let name = fs::read_link(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap();
                println!("opened {}", name.display());
                programs.insert(id, program);
            }
        }
        last = last.max(next - 1);
        for program in programs.values() {
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            let Ok(writable) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let mut first = [0];
            program.read_exact_at(&mut first, 0).unwrap();
            if writable.write_at(&first, 0).is_ok() {
                println!("WROTE");
            }
        }
    }
}

/// The process id that was given out last in this PID namespace (proc_loadavg(5)).
fn last_pid() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}
