//! The same container under pausa and under runc, from the same `config.json`: what its processes are, see and may do must be
//! the same, for the first process and for exec. Differences are explained in [`EXPECTED`], or mended.
//!
//! The container runs under pausa, then its `config.json` under runc, with another root directory and cgroup, in the namespaces of the
//! pod. In both a program reports about its own process (`attacks/report.rs`).

mod cases;
mod expected;
mod runc;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cases::{CASES, Case};
use expected::{EXPECTED, Expected};
use runc::Runc;

use crate::attacks::attacker;
use crate::harness::pod::bind;
use crate::harness::stream::{Transport, Want};
use crate::harness::tmpfs::Tmpfs;
use crate::harness::{Container, Node, Pod, leaks, on_own_node, which};
use pausa::proto::v1;
use rustix::mount::MountPropagationFlags;

/// Whose fact it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Pausa,
    Runc,
}

/// A fact that one of the two reports and the other does not.
#[derive(Debug)]
struct Difference {
    section: String,
    only: Only,
    fact: String,
}

/// CRI `ContainerConfig` and the OCI runtime specification: see the table of cases.
#[test]
#[ignore = "needs root"]
fn containers_are_as_under_runc() {
    if which("runc").is_none() {
        let why = "needs runc: apt-get install runc";
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "{why}");
        eprintln!("skipped: {why}");
        return;
    }
    if !leaks::mounts().iter().any(|mount| mount.contains(" - cgroup ")) {
        eprintln!("skipped: the differences are only explained for cgroup v1");
        return;
    }
    on_own_node(async |node| {
        let _shared = Tmpfs::new(node.dir().join("volume"), MountPropagationFlags::SHARED);
        let mut used = Vec::new();
        let mut text = String::new();
        for case in CASES {
            for (process, difference) in differences(node, case).await {
                match EXPECTED
                    .iter()
                    .position(|expected| expected.explains(&difference))
                {
                    Some(index) => used.push((index, difference.only)),
                    None => {
                        let Difference { section, only, fact } = difference;
                        let mark = match only {
                            Only::Pausa => "+ pausa",
                            Only::Runc => "- runc ",
                        };
                        writeln!(text, "{}, {process}: {section}\n  {mark} {fact}", case.name).expect("text");
                    }
                }
            }
        }
        for (index, expected) in EXPECTED
            .iter()
            .enumerate()
            .filter(|(_, expected)| expected.applies())
        {
            for (only, fact) in expected
                .sides()
                .filter(|(only, _)| !used.contains(&(index, *only)))
            {
                let Expected { section, why, .. } = expected;
                writeln!(text, "no longer only of {only:?}: {section}: {fact} ({why})").expect("text");
            }
        }
        assert!(text.is_empty(), "unexplained differences:\n{text}");
    });
}

/// The differences of the first process and of an exec.
async fn differences(node: &Node, case: &Case) -> Vec<(&'static str, Difference)> {
    node.pull("base").await;
    node.pull("rich").await;
    let mut config = node.pod_config();
    (case.pod)(node, &mut config);
    let pod = node.run_pod(config).await;
    let program = attacker("report");
    let container = pod.start(|config| {
        config.command = ["/probe", "stay"].map(str::to_owned).to_vec();
        config.mounts.push(v1::Mount {
            readonly: true,
            ..bind(&program, "/probe")
        });
        (case.container)(node, config);
    });
    let container = container.await;
    container.says("end\t").await;
    let first = std::fs::read(&container.log).expect("the log");
    let first: String = String::from_utf8_lossy(&first).lines().map(content).collect();
    let second = exec(&container).await;
    let spec = container.details().await;
    let names = Names::new(&pod, &container).await;
    let mut runc = Runc::start(node, &spec["runtimeSpec"], container.pid().await);
    let others = [runc.first(), runc.exec()];
    drop(runc);
    container.stop(0).await;
    pod.stop().await;
    pod.remove().await;
    let mut all = Vec::new();
    for ((process, ours), theirs) in [("first process", first), ("exec", second)]
        .into_iter()
        .zip(others)
    {
        let (ours, theirs) = (names.facts(&ours), names.facts(&theirs));
        assert!(
            ours.len() > 10 && theirs.contains_key("status"),
            "{}: no report: {theirs:?}",
            case.name
        );
        all.extend(
            compare(&ours, &theirs)
                .into_iter()
                .map(|difference| (process, difference)),
        );
    }
    all
}

/// What a line of a CRI log says; whole lines end with a newline.
fn content(line: &str) -> String {
    let mut parts = line.splitn(4, ' ');
    let (tag, text) = (parts.nth(2), parts.next().unwrap_or_default());
    let text = text.trim_end_matches('\r');
    if tag == Some("F") {
        format!("{text}\n")
    } else {
        text.to_owned()
    }
}

async fn exec(container: &Container<'_>) -> String {
    if container.config.tty {
        let remote = container
            .exec_stream(Transport::SPDY, &["/probe"], Want::TERMINAL)
            .await;
        return remote.finish().await.stdout().replace('\r', "");
    }
    String::from_utf8_lossy(&container.exec(&["/probe"]).await.stdout).into_owned()
}

/// Names that differ from container to container, and what stands for them.
struct Names(Vec<(String, &'static str)>);

impl Names {
    async fn new(pod: &Pod<'_>, container: &Container<'_>) -> Self {
        let mut names = vec![
            (container.id.clone(), "CONTAINER"),
            (runc::ID.to_owned(), "CONTAINER"),
        ];
        let namespaces = |process: &str| {
            let entries = std::fs::read_dir(format!("/proc/{process}/ns")).expect("namespaces");
            let links =
                entries.map(|entry| std::fs::read_link(entry.expect("an entry").path()).expect("a link"));
            links
                .map(|link| link.display().to_string())
                .collect::<BTreeSet<_>>()
        };
        let host = namespaces("self");
        names.extend(host.into_iter().map(|namespace| (namespace, "the host's")));
        let monitor = crate::harness::pod::monitor_of(pod.node, pod)
            .as_raw_nonzero()
            .to_string();
        names.extend(
            namespaces(&monitor)
                .into_iter()
                .map(|namespace| (namespace, "the pod's")),
        );
        let pids = pod
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref()?.namespace_options.as_ref());
        if pids.is_some_and(|options| options.pid() == v1::NamespaceMode::Pod) {
            let namespace =
                std::fs::read_link(format!("/proc/{}/ns/pid", container.pid().await)).expect("a link");
            names.push((namespace.display().to_string(), "the pod's"));
        }
        Self(names)
    }

    /// A report by sections, without what differs from process to process.
    fn facts(&self, report: &str) -> BTreeMap<String, Vec<String>> {
        let mut facts = BTreeMap::<String, Vec<String>>::new();
        // Of a terminal whose input has ended.
        for line in report.lines().map(|line| line.trim_start_matches("^@")) {
            let (section, fact) = line.split_once('\t').unwrap_or(("garbage", line));
            let mut fact = fact.to_owned();
            for (name, stands) in &self.0 {
                fact = fact.replace(name, stands);
            }
            let fact = match section {
                "status" => status(&fact),
                "mountinfo" => Some(mount(&fact)),
                "ns" => Some(
                    fact.split_once(":[")
                        .map_or_else(|| fact.clone(), |(kind, _)| format!("{kind} is its own")),
                ),
                "fd" => Some(fact.split(":[").next().unwrap_or_default().to_owned()),
                _ => Some(fact),
            };
            facts.entry(section.to_owned()).or_default().extend(fact);
        }
        facts.values_mut().for_each(|facts| facts.sort());
        facts
    }
}

/// A line of `/proc/PID/status`, unless it is about the process alone.
fn status(line: &str) -> Option<String> {
    let (key, value) = line.split_once(':')?;
    let own = [
        "Vm",
        "Rss",
        "Huge",
        "Sig",
        "Pid",
        "Tgid",
        "Ngid",
        "NS",
        "PPid",
        "FDSize",
        "voluntary",
        "nonvoluntary",
    ];
    let kept = ["SigBlk", "SigIgn", "SigCgt"];
    let about_us = own.iter().any(|prefix| key.starts_with(prefix)) && !kept.contains(&key);
    let mut value = value.trim().to_owned();
    if key == "SigIgn" {
        // Signals 32 and 33 belong to the C library. runc's processes ignore the first.
        let set = u64::from_str_radix(&value, 16).expect("a set of signals");
        value = format!("{:016x}", set & !(3 << 31));
    }
    (!about_us).then(|| format!("{key}: {value}"))
}

/// A line of `/proc/PID/mountinfo` without ids, and of the root only what it is like.
fn mount(line: &str) -> String {
    let (front, back) = line.split_once(" - ").unwrap_or((line, ""));
    let front: Vec<&str> = front.split(' ').collect();
    let [root, target, options] = front[3..6] else {
        return line.to_owned();
    };
    let propagation = front[6..]
        .iter()
        .map(|tag| tag.split(':').next().unwrap_or_default());
    let propagation: Vec<&str> = propagation.collect();
    if target == "/" {
        return format!("/ {options} {propagation:?}");
    }
    // The roots are different directories.
    if back.starts_with("overlay ") {
        return format!("{target} of the root's {root} {options} {propagation:?}");
    }
    if let Some((_, root)) = root.split_once("/runc/rootfs") {
        return format!("{target} of the root's {root} {options} {propagation:?}");
    }
    format!("{target} of {root} {options} {propagation:?} {back}")
}

fn compare(ours: &BTreeMap<String, Vec<String>>, theirs: &BTreeMap<String, Vec<String>>) -> Vec<Difference> {
    let sections: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut all = Vec::new();
    for section in sections {
        let none = Vec::new();
        let (ours, theirs) = (
            ours.get(section).unwrap_or(&none),
            theirs.get(section).unwrap_or(&none),
        );
        for (only, facts, others) in [(Only::Pausa, ours, theirs), (Only::Runc, theirs, ours)] {
            let mut others = others.clone();
            for fact in facts {
                if let Some(at) = others.iter().position(|other| other == fact) {
                    others.remove(at);
                } else {
                    let (section, fact) = (section.clone(), fact.clone());
                    all.push(Difference { section, only, fact });
                }
            }
        }
    }
    all
}
