//! Starts real containers from this process, which has one thread, as the crate requires. Therefore it does not use libtest.
//! Without arguments all cases run one after the other. nextest's protocol (`--list`, `NAME --exact`) is supported, so that
//! nextest runs each case in its own process.
//!
//! All cases need root and count as ignored, as with `#[ignore]`: `--ignored` or `--include-ignored` runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod privileged {
    pub(crate) mod cgroups;
    pub(crate) mod filesystems;
    pub(crate) mod identity;
    pub(crate) mod processes;
    pub(crate) mod propagation;
    pub(crate) mod rootfs_path;
    pub(crate) mod security;
    pub(crate) mod terminals;
    pub(crate) mod users;
    pub(crate) mod world;
}

use std::os::fd::AsFd;
use std::process::ExitCode;

use pausa_sys::{CloneArgs, Forked};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{WaitId, WaitIdOptions, waitid};

type Case = (&'static str, fn());

fn cases() -> Vec<Case> {
    use privileged::{
        cgroups, filesystems, identity, processes, propagation, rootfs_path, security, terminals, users,
    };
    [
        processes::CASES,
        cgroups::CASES,
        filesystems::CASES,
        rootfs_path::CASES,
        propagation::CASES,
        identity::CASES,
        security::CASES,
        terminals::CASES,
        users::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        cases().iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| match has("--exact") {
        true => filter.iter().any(|filter| *filter == name),
        false => filter.is_empty() || filter.iter().any(|filter| name.contains(filter.as_str())),
    };
    if !has("--ignored") && !has("--include-ignored") {
        let ignored = cases().iter().filter(|(name, _)| wanted(name)).count();
        println!("test result: ok. 0 passed; 0 failed; {ignored} ignored (needs root)");
        return ExitCode::SUCCESS;
    }
    let args = CloneArgs {
        mount: true,
        ..CloneArgs::default()
    };
    #[expect(unsafe_code, reason = "clone() needs a process with one thread")]
    // SAFETY: this program has one thread; nothing before has started another.
    let forked = unsafe { pausa_sys::clone(&args) };
    match forked.unwrap() {
        Forked::Child => {
            // A failing case must not leave mounts on the machine, and mounts must not propagate to it.
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
            pausa_sys::exit_now(run_all(wanted))
        }
        Forked::Parent(child) => {
            let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
                .unwrap()
                .unwrap();
            if status.exit_status() == Some(0) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run_all(wanted: impl Fn(&str) -> bool) -> i32 {
    let mut failed = 0;
    // Impossible inside of a container that hides parts of /proc or /sys.
    let inside = pausa_sys::check_mounts_inside();
    for (name, case) in cases().into_iter().filter(|(name, _)| wanted(name)) {
        if let Err(error) = &inside
            && name.starts_with("users::")
        {
            println!("test {name} ... skipped: {error} is refused");
            continue;
        }
        let passed = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += i32::from(!passed);
    }
    failed.min(1)
}
