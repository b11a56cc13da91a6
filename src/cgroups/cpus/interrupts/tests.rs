//! Interrupts in a directory like the kernel's.

use super::*;

struct Node {
    dir: tempfile::TempDir,
    interrupts: Interrupts,
}

impl Node {
    fn with(lists: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let irq = dir.path().join("irq");
        for (name, list) in lists {
            fs::create_dir_all(irq.join(name)).unwrap();
            fs::write(irq.join(name).join("smp_affinity_list"), format!("{list}\n")).unwrap();
        }
        fs::write(irq.join("default_smp_affinity"), "f\n").unwrap();
        let interrupts = Interrupts::new(&irq, dir.path().join("interrupts.json"));
        Self { dir, interrupts }
    }

    fn keep_off(&self, pinned: &str) -> Vec<String> {
        self.interrupts.keep_off(&pinned.parse().unwrap()).unwrap();
        let irq = self.dir.path().join("irq");
        let names = ["24", "25", "26"]
            .iter()
            .map(|name| irq.join(name).join("smp_affinity_list"));
        let lists = names.map(|path| fs::read_to_string(path).unwrap_or_default());
        lists.map(|list| list.trim().to_owned()).collect()
    }

    fn has_saved(&self) -> bool {
        self.dir.path().join("interrupts.json").exists()
    }
}

#[test]
fn interrupts_leave_pinned_cpus_and_come_back() {
    let node = Node::with(&[("24", "0-3"), ("25", "2"), ("26", "0")]);
    assert_eq!(
        node.keep_off("1-2"),
        ["0,3", "2", "0"],
        "one that could be nowhere else stays"
    );
    assert!(node.has_saved());
    assert_eq!(node.keep_off("1"), ["0,2-3", "2", "0"]);
    assert_eq!(node.keep_off(""), ["0-3", "2", "0"]);
    assert!(!node.has_saved());
}

#[test]
fn the_next_daemon_restores_what_the_last_one_changed() {
    let node = Node::with(&[("24", "0-3"), ("25", "0-1"), ("26", "0")]);
    node.keep_off("1-2");
    let later = Node {
        interrupts: Interrupts::new(
            &node.dir.path().join("irq"),
            node.dir.path().join("interrupts.json"),
        ),
        dir: node.dir,
    };
    // An interrupt that is gone is forgotten.
    fs::remove_dir_all(later.dir.path().join("irq/25")).unwrap();
    assert_eq!(later.keep_off(""), ["0-3", "", "0"]);
    assert!(!later.has_saved());
}

#[test]
fn nothing_is_changed_without_pinned_cpus() {
    let node = Node::with(&[("24", "0-3"), ("25", "2"), ("26", "0")]);
    assert_eq!(node.keep_off(""), ["0-3", "2", "0"]);
    assert!(!node.has_saved());
}
