//! The calls of the default profile that are allowed whatever their arguments, by subject.
//!
//! Pure data. Sources for each group: the manual pages named with it, syscalls(2) for which architecture has
//! what, capabilities(7) for the groups that come with a capability. The 32-bit ABIs have variants of many
//! calls (`…32` for identifiers, `…64` for offsets, `…_time64` for clocks); they stand beside the call they
//! are a variant of. Names an ABI does not have cost nothing there.

use crate::architecture::Architecture;
use crate::kernel::KernelVersion;
use oci_spec::runtime::Capability;

/// When a group is part of the profile.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    On(Architecture),
    Since(KernelVersion),
    With(Capability),
}

/// System calls that are allowed together.
#[derive(Debug)]
pub(super) struct Allow {
    pub(super) when: When,
    pub(super) names: &'static [&'static str],
}

const fn always(names: &'static [&'static str]) -> Allow {
    Allow {
        when: When::Always,
        names,
    }
}

const fn with(capability: Capability, names: &'static [&'static str]) -> Allow {
    Allow {
        when: When::With(capability),
        names,
    }
}

#[rustfmt::skip] // Words of a text: one a line would hide the order by subject.
pub(super) const GROUPS: &[Allow] = &[
    // Reading and writing: read(2), readv(2), sendfile(2), splice(2), copy_file_range(2), lseek(2).
    always(&[
        "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2",
        "lseek", "_llseek", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "copy_file_range", "readahead",
        "fadvise64", "fadvise64_64", "cachestat",
    ]),
    // Durability and space: fsync(2), sync_file_range(2), fallocate(2), truncate(2).
    always(&[
        "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "fallocate", "truncate", "truncate64",
        "ftruncate", "ftruncate64",
    ]),
    // File descriptors: open(2), openat2(2), close_range(2), dup(2), fcntl(2), ioctl(2), flock(2), pipe(2).
    always(&[
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64",
        "ioctl", "flock", "pipe", "pipe2", "name_to_handle_at",
    ]),
    // Directories and names: getdents(2), mkdir(2), link(2), rename(2), unlink(2), mknod(2), getcwd(2).
    always(&[
        "getdents", "getdents64", "getcwd", "chdir", "fchdir", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat",
        "link", "linkat", "symlink", "symlinkat", "readlink", "readlinkat", "rename", "renameat", "renameat2",
        "unlink", "unlinkat",
    ]),
    // File status: stat(2), statx(2), statfs(2), access(2), umask(2), chmod(2), chown(2), utimensat(2), and
    // the inode flags of ioctl_xfs_fsgetxattr(2), which since 6.17 have calls of their own.
    always(&[
        "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "newfstatat", "fstatat64", "statx", "statfs",
        "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2", "umask", "chmod", "fchmod",
        "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32",
        "utime", "utimes", "utimensat", "utimensat_time64", "futimesat", "file_getattr", "file_setattr",
    ]),
    // Extended attributes: xattr(7); the …at forms since 6.13.
    always(&[
        "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
        "listxattr", "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr",
        "removexattrat",
    ]),
    // Waiting for events: epoll(7), poll(2), select(2), eventfd(2), inotify(7), fanotify_mark(2).
    always(&[
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_wait_old",
        "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6",
        "pselect6_time64", "eventfd", "eventfd2", "inotify_init", "inotify_init1", "inotify_add_watch",
        "inotify_rm_watch", "fanotify_mark",
    ]),
    // Asynchronous I/O of the first kind: io_submit(2). io_uring(7) is not allowed.
    always(&[
        "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64",
    ]),
    // Sockets but for socket(2) itself: socket(7). socketcall(2) is all of them on old 32-bit x86.
    always(&[
        "socketcall", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
        "getpeername", "getsockopt", "setsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom",
        "recvmsg", "recvmmsg", "recvmmsg_time64",
    ]),
    // System V IPC and POSIX queues, which the IPC namespace keeps apart: sysvipc(7), mq_overview(7).
    always(&[
        "ipc", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget", "mq_open", "mq_unlink", "mq_notify",
        "mq_getsetattr", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
    ]),
    // Memory: mmap(2), mprotect(2), madvise(2), mlock(2), memfd_create(2), memfd_secret(2), pkeys(7), mseal(2),
    // and the shadow stack of CET, which a C library maps for every thread.
    always(&[
        "brk", "mmap", "mmap2", "munmap", "mremap", "remap_file_pages", "mprotect", "madvise", "mincore", "msync",
        "mlock", "mlock2", "mlockall", "munlock", "munlockall", "memfd_create", "memfd_secret", "membarrier",
        "mseal", "map_shadow_stack", "pkey_alloc", "pkey_free", "pkey_mprotect",
    ]),
    // Processes: fork(2), execve(2), wait(2), exit(2), pidfd_open(2), setpgid(2), setsid(2), prctl(2), uname(2).
    always(&[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "getpid",
        "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "pidfd_open",
        "pidfd_send_signal", "process_mrelease", "prctl", "uname", "sysinfo", "getrusage", "times", "getcpu",
    ]),
    // Threads: futex(2) and its parts since 6.7, set_tid_address(2), get_robust_list(2), rseq(2).
    always(&[
        "futex", "futex_time64", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "set_tid_address",
        "get_robust_list", "set_robust_list", "set_thread_area", "get_thread_area", "rseq",
    ]),
    // Signals: signal(7), signalfd(2). The kernel itself puts uretprobe and uprobe where a process is
    // probed from outside; refusing them kills it.
    always(&[
        "kill", "tkill", "tgkill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
        "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
        "sigaltstack", "sigprocmask", "sigreturn", "signalfd", "signalfd4", "restart_syscall", "uretprobe",
        "uprobe",
    ]),
    // Clocks and timers: time(7), timer_create(2), timerfd_create(2). Those that set need CAP_SYS_TIME in
    // the kernel; adjtimex and clock_adjtime also only read.
    always(&[
        "time", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64",
        "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "adjtimex", "clock_adjtime", "clock_adjtime64",
        "alarm", "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
        "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
        "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
    ]),
    // Scheduling and limits: sched(7), ioprio_set(2), setpriority(2), setrlimit(2).
    always(&[
        "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr",
        "sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler",
        "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "sched_rr_get_interval_time64", "ioprio_get", "ioprio_set", "getpriority", "setpriority", "getrlimit",
        "ugetrlimit", "setrlimit", "prlimit64",
    ]),
    // Identity: credentials(7), capget(2). What may be set is the kernel's decision.
    always(&[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid",
        "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid",
        "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
        "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups", "setgroups32", "capget",
        "capset",
    ]),
    // Randomness, and what a process uses to restrict itself: getrandom(2), seccomp(2), landlock(7), lsm_*.
    always(&[
        "getrandom", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
        "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
    ]),

    // Before 4.8 a tracer could change a call after the filter had seen it: ptrace(2).
    Allow {
        when: When::Since(KernelVersion::new(4, 8)),
        names: &["ptrace", "process_vm_readv", "process_vm_writev"],
    },

    // Segments of 64- and 32-bit x86: arch_prctl(2), modify_ldt(2).
    Allow { when: When::On(Architecture::X86_64), names: &["arch_prctl", "modify_ldt"] },
    // Arm's private calls and its own order of arguments: syscalls(2), sync_file_range(2).
    Allow {
        when: When::On(Architecture::Aarch64),
        names: &[
            "arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls",
        ],
    },

    with(Capability::DacReadSearch, &["open_by_handle_at"]),
    // Namespaces, mounts, the new mount API, quotas, and what else is behind this one.
    with(Capability::SysAdmin, &[
        "clone", "clone3", "unshare", "setns", "mount", "umount", "umount2", "mount_setattr", "move_mount",
        "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "statmount", "listmount",
        "quotactl", "quotactl_fd", "sethostname", "setdomainname", "bpf", "perf_event_open", "fanotify_init",
        "lookup_dcookie", "syslog",
    ]),
    with(Capability::SysBoot, &["reboot"]),
    with(Capability::SysChroot, &["chroot"]),
    with(Capability::SysModule, &["init_module", "finit_module", "delete_module"]),
    with(Capability::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    with(Capability::SysPacct, &["acct"]),
    with(Capability::SysPtrace, &[
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    ]),
    with(Capability::SysRawio, &["ioperm", "iopl"]),
    with(Capability::SysTime, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    with(Capability::SysTtyConfig, &["vhangup"]),
    with(Capability::Syslog, &["syslog"]),
    with(Capability::Bpf, &["bpf"]),
    with(Capability::Perfmon, &["perf_event_open"]),
];
