use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// What a process has open, by another way: whoever started the tests may have left it something. Waits until the program
/// has loaded its libraries.
fn links(pid: i32) -> Vec<PathBuf> {
    let now = || -> std::io::Result<Vec<_>> {
        let mut descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        descriptors.try_fold(Vec::new(), |mut links, entry| {
            links.push(std::fs::read_link(entry?.path())?);
            Ok(links)
        })
    };
    for _ in 0..600 {
        let before = now();
        std::thread::sleep(Duration::from_millis(50));
        if let (Ok(before), Ok(after)) = (before, now())
            && before == after
        {
            return after;
        }
    }
    panic!("process {pid} opens and closes files all the time");
}

#[test]
fn descriptors_and_sockets_are_counted_within_bounds() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let sleeper = |input: Stdio| Command::new("sleep").arg("60").stdin(input).spawn().unwrap();
    let mut children = [sleeper(OwnedFd::from(socket).into()), sleeper(Stdio::null())];
    let pids = children
        .each_ref()
        .map(|child| i32::try_from(child.id()).unwrap());
    let (first, mut open) = (links(pids[0]), links(pids[1]));
    let (all, of_one) = (u64::try_from(first.len() + open.len()).unwrap(), first.len());
    open.extend(first);
    open.retain(|link| link.to_str().is_some_and(|link| link.starts_with("socket:[")));
    let sockets = u64::try_from(open.len()).unwrap();
    let within = |processes, descriptors, time| {
        count(
            &pids,
            Bounds {
                processes,
                descriptors,
                time,
            },
        )
    };
    let long = Duration::from_secs(60);
    let complete = within(2, all, long);
    let limits = [all - 1, u64::try_from(of_one).unwrap(), 0];
    let limited = limits.map(|descriptors| within(2, descriptors, long));
    let [few, late] = [within(1, all, long), within(2, all, Duration::ZERO)];
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let opened = |descriptors, sockets| Opened { descriptors, sockets };
    assert!(sockets > 0);
    assert_eq!(complete, opened(Some(all), Some(sockets)));
    // Since Linux 6.2 it is only sockets that have to be looked for.
    let own = std::fs::File::open("/proc/self/fd").unwrap();
    let told = fstat(own).unwrap().st_size > 0;
    assert_eq!(limited, [opened(told.then_some(all), None); 3]);
    assert_eq!([few, late], [opened(None, None); 2]);
    // Those that have ended have nothing open.
    assert_eq!(count(&pids, BOUNDS), opened(Some(0), Some(0)));
}

#[test]
fn the_limit_is_that_of_the_first_process() {
    let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                Max processes             96365                96365                processes \n\
                Max open files            20000                30000                files     \n";
    assert_eq!(max_descriptors(text), Some(20_000));
    assert_eq!(
        max_descriptors("Max open files            unlimited  unlimited  files\n"),
        None
    );
    assert_eq!(max_descriptors(""), None);
    let own = i32::try_from(std::process::id()).unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert_eq!(max_descriptors(&limits(own).unwrap()), limit);
}
