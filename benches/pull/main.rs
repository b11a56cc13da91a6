//! Measures how container runtimes pull and remove an image, side by side over CRI.
//!
//! ```text
//! cargo bench --bench pull                                        # pausa alone
//! cargo bench --bench pull -- --socket other=/run/other.sock      # and whatever else speaks CRI
//! ```
//!
//! The image has layers of many small files, once compressed with gzip and once with zstd, and is served by docker-registry
//! on loopback. Each round asks every runtime once, first for the one, then for the other, and removes it again: every
//! pull is a cold one for the runtime and a warm one for the registry. Dirty pages are written out before a clock starts,
//! so that nobody pays for what another has left. Numbers are medians.
//!
//! pausa runs as a daemon of its own in temporary directories, which must be on the kind of disk that is meant: `TMPDIR`. The
//! others run as they are configured, with `registry.test` leading to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which needs more of it"
)]
mod critest {
    pub(crate) mod harness;
}

#[path = "../cri/memory.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of pods, which needs more of it"
)]
mod memory;
#[path = "../cri/table.rs"]
mod table;

mod measure;
mod process;
mod publish;
mod recipe;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use critest::harness;
use harness::Node;
use harness::registry::Registry;
use recipe::{Compression, Plan};
use table::Table;

/// Measures how container runtimes pull and remove an image, side by side over CRI.
#[derive(Debug, Parser)]
struct Options {
    /// Another runtime to measure, as NAME=unix:///path; again for more.
    #[arg(long = "socket", value_name = "NAME=SOCKET", value_parser = named_socket)]
    sockets: Vec<(String, PathBuf)>,
    /// Leave out pausa itself.
    #[arg(long)]
    without_pausa: bool,
    /// How often every runtime pulls each image.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Layers of the image.
    #[arg(long, default_value_t = 10)]
    layers: u32,
    /// Megabytes (10^6) of files in each layer.
    #[arg(long, default_value_t = 20)]
    layer_megabytes: u32,
    /// Only this compression; again for both.
    #[arg(long = "compression", value_enum)]
    compressions: Vec<Compression>,
    /// Also run a container of the image, in a pod that waits for it.
    #[arg(long)]
    start: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn named_socket(text: &str) -> Result<(String, PathBuf), String> {
    let (name, socket) = text.split_once('=').ok_or("expected NAME=unix:///path")?;
    let path = socket.strip_prefix("unix://").unwrap_or(socket);
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(why) = harness::unable() {
        eprintln!("cannot measure: {why}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the client");
    let left = runtime.block_on(measure(&options));
    for line in &left {
        eprintln!("left behind: {line}");
    }
    ExitCode::from(u8::from(!left.is_empty()))
}

async fn measure(options: &Options) -> Vec<String> {
    let plan = Plan {
        layers: options.layers,
        layer_bytes: u64::from(options.layer_megabytes) * 1_000_000,
    };
    let compressions = match &options.compressions[..] {
        [] => vec![Compression::Gzip, Compression::Zstd],
        some => some.to_vec(),
    };
    let registry = &Registry::get().address;
    let images: Vec<_> = compressions
        .into_iter()
        .map(|compression| publish::publish(registry, &plan, compression))
        .collect();
    let mut nodes = Vec::new();
    if !options.without_pausa {
        nodes.push(("pausa".to_owned(), Node::own("info").await));
    }
    for (name, socket) in &options.sockets {
        nodes.push((name.clone(), Node::at(socket.clone()).await));
    }
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    for image in &images {
        // Whatever the first pull of a daemon's life costs is not what is measured.
        for (name, node) in &nodes {
            measure::one(name, node, image, options.start, &mut Table::default()).await;
        }
        for _ in 0..options.rounds {
            for (name, node) in &nodes {
                measure::one(name, node, image, options.start, &mut table).await;
            }
        }
    }
    for image in &images {
        println!("{image}");
    }
    println!("\n{table}");
    let mut left = Vec::new();
    for (name, node) in nodes {
        node.clean_up().await;
        left.extend(node.finish().into_iter().map(|line| format!("{name}: {line}")));
    }
    left
}
