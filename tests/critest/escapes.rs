//! Vulnerabilities that other runtimes have had, one test each that tries the attack.
//!
//! | | What was attacked | Test |
//! |---|---|---|
//! | CVE-2016-9962 | the process that enters a container, with ptrace | `attacks::a_tracer_sees_nothing_of_the_host_in_an_exec` and its neighbours |
//! | CVE-2019-5736 | the runtime's program, through `/proc/PID/exe` | `runtime::the_monitors_program_cannot_be_overwritten` |
//! | CVE-2019-19921 | procfs, mounted over a link into a shared volume | `paths::an_image_whose_proc_leads_into_a_volume` |
//! | CVE-2020-10749 | neighbours, with router advertisements | `network_attacks::…` |
//! | CVE-2021-30465 | mount targets in a volume that another container changes | `races::mount_targets` |
//! | CVE-2022-23471 | memory, by exec with a terminal that cannot start | `streams::commands_that_cannot_start_leave_nothing` |
//! | CVE-2022-23648 | files of the node, by a `VOLUME` that leads out | `paths::an_image_whose_volumes_lead_out` |
//! | CVE-2022-24769, -29162 | inheritable capabilities, also of exec | `runtime::no_capability_is_inheritable` |
//! | CVE-2023-27561 | procfs, by an image whose `/proc` is a link | `paths::an_image_whose_proc_is_a_link` |
//! | CVE-2024-5154 | files of the node, by an image whose `/etc` is a link | `paths::an_image_whose_etc_is_a_link` |
//! | CVE-2024-21626 | the node's root, through a descriptor as working directory | `runtime::no_descriptor_leads_to_the_node` |
//! | CVE-2024-25621 | images and records, by users of the node | `runtime::users_of_the_node_see_nothing` |
//! | CVE-2024-40635, CVE-2026-46680 | root, by a user id that is too large | `images::no_user_id_becomes_root` |
//! | CVE-2025-31133 | a masked path, by a false `/dev/null` | `paths::a_false_null_device_masks_nothing`, `races::devices` |
//! | CVE-2025-52565 | `/dev/console`, by a false terminal | `paths::a_false_console_is_not_mounted_over`, `races::devices` |
//! | CVE-2025-52881 | what is written to procfs | `paths::a_false_proc_is_not_written_to`, `paths::nothing_is_mounted_in_procfs` |
//! | CVE-2025-64329 | memory, by attaching and leaving | `streams::clients_that_leave_an_attach_leave_nothing` |
//! | CVE-2026-41579 | files of the node, by an image whose `/dev` is a link | `paths::an_image_whose_dev_is_a_link` |
//! | CVE-2026-47262 | memory, by a huge `/etc/group` | `images::a_huge_group_file_costs_little_memory` |
//! | CVE-2026-50195, -53492 | names of images and devices, by an image that is a checkpoint | `images::a_checkpoint_is_only_an_image` |
//! | CVE-2026-53488 | the runtime, by labels of an image | `images::labels_of_an_image_are_not_the_containers` |
//! | CVE-2026-53489 | log files that are links | `log_files::links_in_the_log_directory_are_not_followed`, `races::logs` |
//! | CVE-2026-55686 | files of the node, by a `WORKDIR` below a link | `paths::an_image_whose_working_directory_is_below_a_link` |

mod images;
mod paths;
mod races;
mod runtime;
mod streams;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pausa::proto::v1;
use serde_json::Value;

use crate::harness::node::reference;
use crate::harness::recipe::{Entry, Image};
use crate::harness::registry::Registry;
use crate::harness::{Container, Node, Pod, node, strings};

/// What only the node may read.
const SECRET: &str = "a secret of the node";

/// A directory of the node that no container has.
struct Bait {
    directory: PathBuf,
    before: Vec<String>,
}

impl Bait {
    fn new(node: &Node) -> Self {
        let directory = node.dir().join("bait");
        std::fs::create_dir_all(directory.join("directory")).expect("a directory");
        // The second is what a runtime may want to replace in a `/dev`.
        for name in ["secret", "ptmx", "null", "directory/secret"] {
            std::fs::write(directory.join(name), SECRET).expect("a file");
        }
        let before = listed(&directory);
        Self { directory, before }
    }

    fn path(&self) -> String {
        self.directory.display().to_string()
    }

    /// Fails if anything was made, changed or mounted in it.
    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(listed(&self.directory), self.before);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("our mounts");
        let mounted: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(&self.path()))
            .collect();
        assert_eq!(mounted, Vec::<&str>::new());
    }
}

/// Everything in a directory, with what changes when somebody does something to it.
fn listed(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let file = path.symlink_metadata().expect("a file");
        let (mode, device) = (file.mode(), file.rdev());
        let owner = (file.uid(), file.gid());
        let changed = (file.ctime(), file.ctime_nsec());
        found.push(format!(
            "{} {mode:o} {owner:?} {device:x} {changed:?}",
            path.display()
        ));
        if file.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            todo.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    found.sort();
    found
}

/// Pulls an image with a layer and a configuration of the test's own.
async fn image(node: &Node, name: &str, entries: &[Entry], config: &Value) -> v1::ImageSpec {
    push(node, name, &Image::own(entries, config)).await
}

async fn push(node: &Node, name: &str, image: &Image) -> v1::ImageSpec {
    let tag = format!("{name}-{}", std::process::id());
    Registry::get().push(image, &tag);
    let name = format!("own:{tag}");
    node.pull(&name).await;
    node::spec(&reference(&name))
}

fn link(path: &str, target: impl Into<String>) -> Entry {
    Entry::Link(path.to_owned(), target.into())
}

/// Has a container run a shell script.
fn run(config: &mut v1::ContainerConfig, script: &str) {
    config.command = strings(&["sh", "-c", script]);
}

/// Runs a container to its end and returns what it has said, or why it did not start.
async fn attempt(pod: &Pod<'_>, config: v1::ContainerConfig) -> Result<String, String> {
    let refused = |status: tonic::Status| status.message().to_owned();
    let id = pod
        .try_create(&config)
        .await
        .map_err(refused)?
        .into_inner()
        .container_id;
    let log = Path::new(&pod.config.log_directory).join(&config.log_path);
    let node = pod.node;
    let container = Container {
        node,
        id,
        config,
        log,
    };
    container.try_start().await.map_err(refused)?;
    let ended = container.end().await;
    container.remove().await;
    Ok([ended.stdout(), ended.stderr()].concat())
}
