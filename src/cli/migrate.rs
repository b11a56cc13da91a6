//! `pausa migrate`: from the configuration of containerd or CRI-O to pausa's.
//!
//! Reads, says what would be written and what has no counterpart, and writes only if told to. The translation is a pure
//! function of the parsed files: `rules` is its engine, `containerd` and `crio` have the tables.
//!
//! Images of the other runtime's store go to the daemon as archives, see `images`.
//!
//! Must never: overwrite a file, change anything of the other runtime, or copy a credential.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::client::{Daemon, block_on};
use super::failure::CommandError;
use super::output::{Format, OutputFlags, print, print_json};
use crate::config;

mod common;
mod containerd;
mod crio;
mod hosts;
mod images;
mod read;
mod report;
mod rules;

const CONTAINERD_ROOT: &str = "/var/lib/containerd";
const STORAGE_ROOT: &str = "/var/lib/containers/storage";
const STORAGE_CONF: &str = "/etc/containers/storage.conf";
const POLICY: &str = "/etc/containers/policy.json";

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The runtime to come from; without, the one whose configuration is on the node.
    #[arg(value_enum)]
    runtime: Option<Runtime>,
    /// Its configuration [default: /etc/containerd/config.toml, with what it imports; /etc/crio/crio.conf, with crio.conf.d].
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the configuration. Without, nothing is changed.
    #[arg(long)]
    write: bool,
    /// Where pausa's configuration goes. An existing file is never overwritten.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Import the images of the runtime's store, too, from disk. Without --write, they are listed.
    ///
    /// The daemon must run. An image that it has already, and one that the store lacks parts of, are left out and named.
    #[arg(long)]
    images: bool,
    /// The same, and leave the configuration alone.
    #[arg(long)]
    images_only: bool,
    /// The namespace of containerd with the images.
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    namespace: String,
    /// The daemon's socket, for images [default: `listen` in pausa's configuration].
    #[arg(long, short = 'a', value_name = "unix:///PATH")]
    address: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// containerd, config.toml of version 1 to 4.
    Containerd,
    /// CRI-O.
    #[value(name = "crio", alias = "cri-o")]
    Crio,
}

pub(super) fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let runtime = args.runtime()?;
    let from = args.from.as_deref();
    let source = match runtime {
        Runtime::Containerd => containerd::load(from.unwrap_or_else(|| Path::new(containerd::DEFAULT_PATH)))?,
        Runtime::Crio => crio::load(from.unwrap_or_else(|| Path::new(crio::DEFAULT_PATH)))?,
    };
    let images = match args.images || args.images_only {
        true => Some(args.store(runtime, &source.table)?),
        false => None,
    };
    if args.images_only {
        let listed = args.images(images)?.unwrap_or_default();
        return match args.output.format {
            Format::Json => print_json(&serde_json::json!({ "images": listed })),
            Format::Table => print(&images::table(&listed)),
        };
    }
    let certs_d = args.config.with_file_name("certs.d");
    let report = match runtime {
        Runtime::Containerd => containerd::migrate(&source.table, &certs_d),
        Runtime::Crio => crio::migrate(&source.table, std::fs::read_to_string(POLICY).ok().as_deref()),
    };
    let files: Vec<String> = source
        .files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let toml = report.toml(&files)?;
    let written = if args.write {
        write(&args.config, &toml, &report.hosts)?;
        Some(args.config.display().to_string())
    } else {
        None
    };
    let listed = args.images(images)?;
    match args.output.format {
        Format::Json => print_json(&report.document(&files, written, listed.as_deref())?),
        Format::Table => {
            let mut text = toml;
            for file in &report.hosts {
                text.extend(["\n# ", &file.path.to_string_lossy(), "\n", &file.content]);
            }
            text.push('\n');
            text.push_str(&report.text());
            if let Some(listed) = &listed {
                text.extend(["\n", &images::table(listed)]);
            }
            text.push_str(&match written {
                Some(path) => format!("\nWritten to {path}.\n"),
                None => format!(
                    "\nNothing was written; --write writes {}.\n",
                    args.config.display()
                ),
            });
            print(&text)
        }
    }
}

impl MigrateArgs {
    /// The store of the runtime, which its configuration may have put elsewhere.
    fn store(&self, runtime: Runtime, source: &toml::Table) -> anyhow::Result<images::Store> {
        let text = |path: &[&str]| {
            let value = rules::get(source, path).and_then(toml::Value::as_str);
            value.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        match runtime {
            Runtime::Containerd => {
                let root = text(&["root"]).unwrap_or_else(|| CONTAINERD_ROOT.to_owned());
                images::open_containerd(Path::new(&root), &self.namespace)
            }
            Runtime::Crio => {
                let of_storage_conf = || {
                    let table = read::file(Path::new(STORAGE_CONF)).ok()?;
                    let root = rules::get(&table, &["storage", "graphroot"])?.as_str()?;
                    Some(root.to_owned())
                };
                let root = text(&["crio", "root"]).or_else(of_storage_conf);
                images::open_storage(Path::new(&root.unwrap_or_else(|| STORAGE_ROOT.to_owned())))
            }
        }
    }

    /// Lists the images, and imports them with --write.
    fn images(&self, store: Option<images::Store>) -> anyhow::Result<Option<Vec<images::Listed>>> {
        let Some(store) = store else {
            return Ok(None);
        };
        let listed = store.list()?;
        if !self.write {
            return Ok(Some(listed));
        }
        let socket = match &self.address {
            Some(address) => PathBuf::from(address.strip_prefix("unix://").unwrap_or(address)),
            None => {
                let file = Some(self.config.as_path()).filter(|path| path.exists());
                config::load(file)?.socket().to_owned()
            }
        };
        let imported = block_on(async {
            let daemon = Daemon::connect(socket).await?;
            images::import(&daemon, store, listed).await
        });
        imported.map(Some)
    }

    fn runtime(&self) -> Result<Runtime, CommandError> {
        if let Some(runtime) = self.runtime {
            return Ok(runtime);
        }
        if self.from.is_some() {
            let text = "--from needs the name of its runtime: containerd or crio";
            return Err(CommandError::Usage(text.to_owned()));
        }
        let containerd = Path::new(containerd::DEFAULT_PATH).exists();
        let crio = Path::new(crio::DEFAULT_PATH);
        let crio = crio.exists() || crio.with_file_name("crio.conf.d").exists();
        match (containerd, crio) {
            (true, false) => Ok(Runtime::Containerd),
            (false, true) => Ok(Runtime::Crio),
            (true, true) => Err(CommandError::Usage(
                "the node has configurations of containerd and of CRI-O: name one of them, containerd or crio".to_owned(),
            )),
            (false, false) => Err(CommandError::Usage(format!(
                "there is neither {} nor {}: name the file with --from, and its runtime",
                containerd::DEFAULT_PATH,
                crio::DEFAULT_PATH
            ))),
        }
    }
}

/// Writes all files, or none if one of them exists with another content.
fn write(config: &Path, toml: &str, hosts: &[hosts::HostsFile]) -> anyhow::Result<()> {
    let files = hosts
        .iter()
        .map(|file| (file.path.as_path(), file.content.as_str()));
    // The configuration comes last: it is what counts.
    let mut files: Vec<(&Path, &str)> = files.chain([(config, toml)]).collect();
    // So that the command can be run again, for its images.
    files.retain(|(path, content)| std::fs::read(path).ok().as_deref() != Some(content.as_bytes()));
    for (path, _) in &files {
        if path.symlink_metadata().is_ok() {
            let text = format!(
                "{} exists and is not overwritten: move it away, write elsewhere with --config, or take only the images with --images-only",
                path.display()
            );
            return Err(CommandError::Usage(text).into());
        }
    }
    for (path, content) in files {
        create(path, content)?;
    }
    Ok(())
}

/// Creates a file that all may read, as a whole.
fn create(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let written = || -> anyhow::Result<()> {
        let dir = path.parent().context("it has no directory")?;
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile_in(dir)?;
        file.1.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        let done = file
            .1
            .write_all(content.as_bytes())
            .and_then(|()| file.1.sync_all());
        // Unlike rename(2), link(2) never replaces a file that has come meanwhile.
        let done = done.and_then(|()| std::fs::hard_link(&file.0, path));
        std::fs::remove_file(&file.0)?;
        done?;
        std::fs::File::open(dir)?.sync_all()?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn tempfile_in(dir: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    let path = dir.join(format!(".pausa-migrate.{}.tmp", std::process::id()));
    let file = std::fs::File::create_new(&path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests;
