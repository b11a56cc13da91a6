//! The support bundle: what somebody who helps from afar asks for, in a compressed archive.
//!
//! ```text
//!   create FILE (0600, new) ─▶ checks ─▶ entries ─▶ redact ─▶ tar ─▶ gzip ─▶ FILE
//! ```
//!
//! Invariants: everything goes through [`redact`]; each entry has a bound.
//!
//! Must never: read files with credentials, environments of containers or contents of their volumes; overwrite a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};

use super::daemon::Answers;
use super::redact::{self, REMOVED};
use super::{kernel, network, unit};
use crate::config::Config;
use crate::error::chain;
use crate::tool;

/// Bytes of an entry at most.
const ENTRY_MAX: usize = 8 << 20;
/// Records at most.
const RECORDS: usize = 2000;
const LINES: &str = "2000";
/// Directories of cgroups at most, and how deep they are.
const CGROUPS: usize = 10_000;
const DEPTH: usize = 10;

/// A file that did not exist before, and is removed again unless it is finished.
#[derive(Debug)]
pub(super) struct Bundle {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can report that it stays.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// What of the checks goes into the bundle.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) config: &'a Config,
    pub(super) document: Value,
    pub(super) answers: Option<&'a Answers>,
    /// The file of kubelet's configuration.
    pub(super) kubelet: Option<&'a Path>,
}

impl Bundle {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = created.with_context(|| {
            format!(
                "cannot create the support bundle {}; it must not exist yet",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            finished: false,
        })
    }

    /// Writes everything and returns the names of the entries.
    pub(super) fn write(mut self, contents: &Contents<'_>) -> anyhow::Result<Vec<String>> {
        let entries = entries(contents);
        let written = archive(&self.file, &entries);
        written.with_context(|| format!("cannot write the support bundle {}", self.path.display()))?;
        self.finished = true;
        Ok(entries.into_iter().map(|(name, _)| name).collect())
    }
}

fn archive(file: &File, entries: &[(String, String)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap_or(0));
        header.set_mode(0o600);
        header.set_mtime(0);
        archive.append_data(&mut header, format!("pausa-support/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

/// Names and texts, without secrets.
fn entries(contents: &Contents<'_>) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut add = |name: &str, mut text: String| {
        if text.len() > ENTRY_MAX {
            text.truncate(text.floor_char_boundary(ENTRY_MAX));
            text.push_str("\n[cut]\n");
        }
        entries.push((name.to_owned(), text));
    };
    let document = |mut value: Value| {
        redact::json(&mut value);
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    };
    let config = contents.config;
    add("doctor.json", document(contents.document.clone()));
    add(
        "config.json",
        document(serde_json::to_value(config).unwrap_or_default()),
    );
    add("kernel.txt", redact::text(&kernel_facts()));
    for (name, path) in [
        ("mountinfo.txt", "/proc/self/mountinfo"),
        ("resolv.conf", "/etc/resolv.conf"),
    ] {
        let text = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
        add(name, redact::text(&text));
    }
    add("cgroups.txt", cgroups());
    add("nft.txt", redact::text(&rules()));
    add("journal.txt", redact::text(&journal()));
    for (name, text) in network::conflists(&config.cni.conf_dir) {
        // Of a file that is no JSON nobody knows what is in it; doctor.json says what is wrong with it.
        let text = serde_json::from_str(&text).map_or_else(|_| format!("{REMOVED}: not JSON\n"), document);
        add(&format!("cni/{name}"), text);
    }
    for (name, path) in registry_files(config) {
        let text = fs::read_to_string(&path).ok();
        let text = text.and_then(|text| redact::toml(&text)).map_or_else(
            || format!("{REMOVED}: not TOML\n"),
            |value| serde_json::to_string_pretty(&value).unwrap_or_default() + "\n",
        );
        add(&name, text);
    }
    if let Some(path) = contents.kubelet {
        let text = fs::read_to_string(path).unwrap_or_default();
        let parsed = pausa_yaml::parse(&text, pausa_yaml::Scalars::Typed, 4 << 20);
        let text = parsed.map_or_else(|_| format!("{REMOVED}: not YAML\n"), document);
        add("kubelet.json", text);
    }
    for (name, path) in records(&config.state) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let text = serde_json::from_str(&text).map_or_else(|_| format!("{REMOVED}: not JSON\n"), document);
        add(&format!("records/{name}"), text);
    }
    if let Some(answers) = contents.answers {
        let info = answers.info.iter().map(|(key, value)| {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
            (key.clone(), value)
        });
        let info: serde_json::Map<String, Value> = info.collect();
        add(
            "status.json",
            document(json!({"conditions": answer(&answers.conditions), "info": info})),
        );
        add("pods.json", document(json!(answers.pods)));
        add("containers.json", document(json!(answers.containers)));
        add("operations.json", document(answer(&answers.operations)));
        add("network-check.json", document(answer(&answers.networks)));
    }
    entries
}

/// What the daemon has answered, or why it has not.
fn answer<T: Serialize>(answer: &Result<T, String>) -> Value {
    match answer {
        Ok(answer) => json!(answer),
        Err(error) => json!({ "error": error }),
    }
}

fn kernel_facts() -> String {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut text = format!(
        "{release} {} {}\n",
        uname.version().to_string_lossy(),
        uname.machine().to_string_lossy()
    );
    for path in [
        "/proc/cmdline",
        "/proc/filesystems",
        "/proc/meminfo",
        "/proc/swaps",
        "/etc/os-release",
    ] {
        let content = fs::read_to_string(path).unwrap_or_else(|error| format!("{error}\n"));
        text.push_str(&format!("\n== {path}\n{content}"));
    }
    let options = kernel::config_text(&release).map(|config| kernel::options(&config));
    text.push_str("\n== configuration\n");
    for (name, value) in options.unwrap_or_default() {
        text.push_str(&format!("CONFIG_{name}={value}\n"));
    }
    text
}

/// Cgroups of pausa and of kubelet's pods, with the number of their processes.
fn cgroups() -> String {
    fn walk(dir: &Path, within: bool, depth: usize, lines: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if depth == DEPTH || lines.len() >= CGROUPS || !entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                continue;
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let within = within || name.contains("pausa") || name.contains("kubepods");
            if within {
                let processes = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                lines.push(format!(
                    "{} {}\n",
                    entry.path().display(),
                    processes.lines().count()
                ));
            }
            walk(&entry.path(), within, depth + 1, lines);
        }
    }
    let mut lines = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), false, 0, &mut lines);
    lines.sort();
    lines.concat()
}

/// The rules in pausa's own tables.
fn rules() -> String {
    let Some(nft) = tool::find("nft") else {
        return "there is no nft\n".to_owned();
    };
    let run = |arguments: &[&str]| match tool::output(&nft, arguments, ENTRY_MAX as u64) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("{}\n", chain(&error)),
    };
    let tables = run(&["list", "tables"]);
    let ours = tables.lines().filter_map(|line| {
        let mut words = line.strip_prefix("table ")?.split_whitespace();
        let (family, name) = (words.next()?, words.next()?);
        name.starts_with("pausa_").then_some((family, name))
    });
    ours.map(|(family, name)| run(&["list", "table", family, name]))
        .collect()
}

fn journal() -> String {
    let Some(journalctl) = tool::find("journalctl") else {
        return "there is no journalctl\n".to_owned();
    };
    let arguments = [
        "--unit",
        unit::UNIT,
        "--lines",
        LINES,
        "--no-pager",
        "--output",
        "short-iso",
    ];
    match tool::output(&journalctl, &arguments, ENTRY_MAX as u64) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("{}\n", chain(&error)),
    }
}

fn registry_files(config: &Config) -> Vec<(String, PathBuf)> {
    let hosts = fs::read_dir(&config.registry_config_dir)
        .into_iter()
        .flatten()
        .flatten();
    let hosts = hosts.map(|entry| {
        let name = redact::text(&entry.file_name().to_string_lossy());
        (format!("registries/{name}.json"), entry.path().join("hosts.toml"))
    });
    let mut files: Vec<_> = hosts.filter(|(_, path)| path.is_file()).take(256).collect();
    let conf = &config.registries_conf;
    if conf.is_file() {
        files.push(("registries/registries.conf.json".to_owned(), conf.clone()));
    }
    files
}

/// The records of pods and containers: those only, and nothing else of their directories.
fn records(state: &Path) -> Vec<(String, PathBuf)> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut records = Vec::new();
    for pod in list(&state.join("pods")) {
        records.push((format!("{}/pod.json", name(&pod)), pod.join("pod.json")));
        for container in list(&pod.join("containers")) {
            let entry = format!("{}/{}.json", name(&pod), name(&container));
            records.push((entry, container.join("container.json")));
        }
    }
    records.retain(|(_, path)| path.is_file());
    records.truncate(RECORDS);
    records
}
