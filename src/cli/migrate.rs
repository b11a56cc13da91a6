//! `pausa migrate`: from the configuration of containerd or CRI-O to pausa's.
//!
//! Reads, says what would be written and what has no counterpart, and writes only if told to. The translation is a pure
//! function of the parsed files: `rules` is its engine, `containerd` and `crio` have the tables.
//!
//! Must never: overwrite a file, change anything of the other runtime, or copy a credential.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::failure::CommandError;
use super::output::{Format, OutputFlags, print, print_json};
use crate::config;

mod common;
mod containerd;
mod crio;
mod hosts;
mod read;
mod report;
mod rules;

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
        Runtime::Containerd => containerd::load(from.unwrap_or(Path::new(containerd::DEFAULT_PATH)))?,
        Runtime::Crio => crio::load(from.unwrap_or(Path::new(crio::DEFAULT_PATH)))?,
    };
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
    match args.output.format {
        Format::Json => print_json(&report.document(&files, written)?),
        Format::Table => {
            let mut text = toml;
            for file in &report.hosts {
                text.extend(["\n# ", &file.path.to_string_lossy(), "\n", &file.content]);
            }
            text.push('\n');
            text.push_str(&report.text());
            text.push_str(&match written {
                Some(path) => format!("Written to {path}.\n"),
                None => format!("Nothing was written; --write writes {}.\n", args.config.display()),
            });
            print(&text)
        }
    }
}

impl MigrateArgs {
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

/// Writes all files, or none if one of them exists.
fn write(config: &Path, toml: &str, hosts: &[hosts::HostsFile]) -> anyhow::Result<()> {
    for path in hosts.iter().map(|file| file.path.as_path()).chain([config]) {
        if path.symlink_metadata().is_ok() {
            let text = format!(
                "{} exists and is not overwritten: move it away, or write elsewhere with --config",
                path.display()
            );
            return Err(CommandError::Usage(text).into());
        }
    }
    // The configuration comes last: it is what counts.
    for file in hosts {
        create(&file.path, &file.content)?;
    }
    create(config, toml)
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
