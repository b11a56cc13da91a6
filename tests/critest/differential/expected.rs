//! The differences between pausa and runc that are as they should be.

use std::process::Command;

use super::{Difference, Only};

/// A difference, and why it is one. In a fact, `*` stands for anything; an empty one is none.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) section: &'static str,
    pub(super) pausa: &'static str,
    pub(super) runc: &'static str,
    pub(super) when: When,
    pub(super) why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// The kernel has system calls that runc's libseccomp does not know, and the report tries them.
    OldLibseccomp,
}

const fn always(
    section: &'static str,
    pausa: &'static str,
    runc: &'static str,
    why: &'static str,
) -> Expected {
    Expected {
        section,
        pausa,
        runc,
        when: When::Always,
        why,
    }
}

const UNKNOWN_CALLS: &str = "libseccomp does not know the names of these calls in the profile";
const WHOLE_HIERARCHY: &str = "without a cgroup namespace, a privileged container sees the node's hierarchies, as it does \
                               on v2; runc mounts only its own directories, to which /proc/self/cgroup does not lead";

/// On cgroup v1.
pub(super) const EXPECTED: &[Expected] = &[
    always(
        "fd",
        "0 /dev/null",
        "0 pipe",
        "runc run and exec put a pipe before their standard input; in pausa a process without one has the null device",
    ),
    always(
        "mountinfo",
        "* of / ro,nosuid,nodev,noexec,relatime [] tmpfs none rw,nr_inodes=1*",
        "* of / ro,relatime [] tmpfs tmpfs ro*",
        "directories are masked by a smaller and stricter tmpfs",
    ),
    always(
        "mountinfo",
        "",
        "/dev/shm of / rw,nosuid,nodev,noexec,relatime [] tmpfs shm *",
        "runc makes a read-only path that is a mount read-only by a second mount, pausa the mount itself",
    ),
    always(
        "mountinfo",
        "/ rw,relatime [\"shared\"]",
        "/ rw,relatime []",
        "this runc makes the root private after rootfsPropagation has made it shared",
    ),
    always(
        "files",
        "/sys/fs/cgroup directory 0755 (0, 0)",
        "/sys/fs/cgroup directory 0555 (0, 0)",
        "runc copies the mode of the directory in sysfs to the tmpfs",
    ),
    always(
        "mountinfo",
        "/sys/fs/cgroup of / r*,nosuid,nodev,noexec,relatime [] tmpfs cgroup rw,size=64k,nr_inodes=64,mode=755*",
        "/sys/fs/cgroup of / rw,nosuid,nodev,noexec,relatime [] tmpfs tmpfs rw,mode=755*",
        "runc leaves the tmpfs writable; pausa does not unless the container is privileged, and limits its size",
    ),
    always(
        "mountinfo",
        "/sys/fs/cgroup/systemd of / ro,* cgroup cgroup rw,name=systemd",
        "/sys/fs/cgroup/systemd of / ro,* cgroup systemd rw,name=systemd",
        "a name in the first column of /proc/mounts, which nothing reads",
    ),
    always(
        "mountinfo",
        "/sys/fs/cgroup/* of / rw,nosuid,nodev,noexec,relatime [] cgroup cgroup rw,*",
        "/sys/fs/cgroup/* of */CONTAINER rw,nosuid,nodev,noexec,relatime [] cgroup cgroup rw,*",
        WHOLE_HIERARCHY,
    ),
    always(
        "files",
        "/sys/fs/cgroup/memory directory 0555 (0, 0)",
        "/sys/fs/cgroup/memory directory 0755 (0, 0)",
        WHOLE_HIERARCHY,
    ),
    always(
        "cgroup",
        "0::/*",
        "0::*/CONTAINER",
        "the v2 hierarchy of a hybrid node has no controllers, so that pausa makes no cgroups in it",
    ),
    Expected {
        section: "calls",
        pausa: "45*: *",
        runc: "45*: 38",
        when: When::OldLibseccomp,
        why: UNKNOWN_CALLS,
    },
    Expected {
        section: "calls",
        pausa: "46*: *",
        runc: "46*: 38",
        when: When::OldLibseccomp,
        why: UNKNOWN_CALLS,
    },
];

impl Expected {
    pub(super) fn applies(&self) -> bool {
        match self.when {
            When::Always => true,
            When::OldLibseccomp => cfg!(target_arch = "x86_64") && has_calls() && has_old_libseccomp(),
        }
    }

    /// The facts of which at least one must differ somewhere.
    pub(super) fn sides(&self) -> impl Iterator<Item = (Only, &'static str)> {
        let sides = [(Only::Pausa, self.pausa), (Only::Runc, self.runc)];
        sides.into_iter().filter(|(_, fact)| !fact.is_empty())
    }

    pub(super) fn explains(&self, difference: &Difference) -> bool {
        let fact = match difference.only {
            Only::Pausa => self.pausa,
            Only::Runc => self.runc,
        };
        self.applies()
            && self.section == difference.section
            && !fact.is_empty()
            && matches(fact, &difference.fact)
    }
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(before).is_some_and(|rest| {
        let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
        ends.any(|at| matches(after, &rest[at..]))
    })
}

/// Major and minor version in a text.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|character: char| !character.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the kernel has lsm_get_self_attr(2) and mseal(2), 459 and 462.
fn has_calls() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    version(&release) >= (6, 10)
}

fn has_old_libseccomp() -> bool {
    let said = Command::new("runc").arg("--version").output().expect("runc runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("libseccomp: "));
    version(line.expect("runc has libseccomp")) < (2, 6)
}
