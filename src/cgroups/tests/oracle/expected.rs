//! The differences between pausa and libcgroups that are as they should be.

use super::super::Playground;
use super::Difference;
use super::cases::Case;

/// A difference, and why it is one. In all texts but the last, `*` stands for anything.
pub(super) struct Expected {
    pub(super) cases: &'static [&'static str],
    pub(super) file: &'static str,
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
    /// Where it is one.
    pub(super) when: fn(&Playground) -> bool,
    pub(super) why: &'static str,
}

const fn outcome(
    cases: &'static [&'static str],
    ours: &'static str,
    theirs: &'static str,
    when: fn(&Playground) -> bool,
    why: &'static str,
) -> Expected {
    Expected {
        cases,
        file: "outcome",
        ours,
        theirs,
        when,
        why,
    }
}

const NO_SWAP: &str =
    "libcgroups takes a limit of memory and swap that equals the one of memory for none; it is for no swap";

pub(super) const EXPECTED: &[Expected] = &[
    Expected {
        cases: &["*"],
        file: "name=*",
        ours: "*",
        theirs: "missing",
        when: has_named,
        why: "libcgroups only knows hierarchies with controllers; runc puts containers into named ones, too",
    },
    Expected {
        cases: &["*"],
        file: "devices/container/devices.list",
        ours: "",
        theirs: "c 10:200 rwm",
        when: is_v1,
        why: "libcgroups lets every container use /dev/net/tun, runc no longer does (1.2)",
    },
    Expected {
        cases: &["*"],
        file: "cpuset/*/cpuset.sched_load_balance",
        ours: "0",
        theirs: "1",
        when: is_v1,
        why: "the balancing of the root covers all CPUs; that of each cpuset makes the kernel compute the node's scheduling domains anew",
    },
    outcome(
        &["hugepages"],
        "done",
        "refused: *hugetlb*",
        |ground| !ground.has("hugetlb"),
        "kubelet sends limits of hugepages to nodes without a controller for them; pausa warns",
    ),
    outcome(
        &["hugepages of another size"],
        "done",
        "refused: *hugetlb*",
        |_| true,
        "kubelet sends limits of all sizes that the machine has; the controller may have fewer",
    ),
    outcome(
        &["quota and period shrink in a pod"],
        "done",
        "refused: *cpu.cfs_period_us: Invalid argument*",
        is_v1,
        "libcgroups writes the period first, with which the old quota is more than the pod's",
    ),
    outcome(
        &["unified"],
        "refused: *unified is for v2",
        "done",
        is_v1,
        "libcgroups ignores unified on v1",
    ),
    Expected {
        cases: &[
            "as kubelet has them",
            "everything",
            "memory 64, memory and swap 0",
            "memory 64, memory and swap 64",
            "memory grows alone",
            "memory is no longer limited",
            "memory that is not whole pages",
            "unified before the fields",
        ],
        file: "unified/container/memory.swap.max",
        ours: "0",
        theirs: "max",
        when: is_v2,
        why: NO_SWAP,
    },
    Expected {
        cases: &["memory shrinks alone", "swap goes"],
        file: "unified/container/memory.swap.max",
        ours: "0",
        theirs: "67108864",
        when: is_v2,
        why: NO_SWAP,
    },
    Expected {
        cases: &["memory changes, and so swap"],
        file: "unified/container/memory.swap.max",
        ours: "0",
        theirs: "33554432",
        when: is_v2,
        why: NO_SWAP,
    },
    outcome(
        &["memory -1, memory and swap 128"],
        "refused: *",
        "done",
        is_v2,
        "libcgroups limits swap alone to what CRI says of both; runc refuses, too",
    ),
    outcome(
        &["a file of no controller"],
        "refused: *",
        "done",
        is_v2,
        "libcgroups writes any file, cgroup.procs included; CRI's are limits",
    ),
];

fn is_v1(ground: &Playground) -> bool {
    !ground.cgroups.layout.is_v2()
}

fn is_v2(ground: &Playground) -> bool {
    ground.cgroups.layout.is_v2()
}

fn has_named(ground: &Playground) -> bool {
    let mut names = ground.cgroups.roots.iter().flat_map(|root| &root.controllers);
    names.any(|name| name.starts_with("name="))
}

impl Expected {
    pub(super) fn explains(&self, case: &Case, difference: &Difference) -> bool {
        self.cases.iter().any(|name| like(name, &case.name))
            && like(self.file, &difference.file)
            && like(self.ours, &difference.ours)
            && like(self.theirs, &difference.theirs)
    }
}

/// Whether a text is like a pattern, in which `*` stands for anything.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(before).is_some_and(|rest| {
        let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
        ends.any(|at| like(after, &rest[at..]))
    })
}
