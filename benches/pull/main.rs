//! Measures how container runtimes pull and remove an image, side by side over CRI.
//!
//! ```text
//! cargo bench --bench pull                                        # pausa alone
//! cargo bench --bench pull -- --socket other=/run/other.sock      # and another CRI runtime
//! ```
//!
//! The image has layers of many small files. It exists once with gzip and once with zstd, and docker-registry
//! serves it on loopback. In each round every runtime pulls and removes each image once, so every pull is
//! cold for the runtime and warm for the registry. Dirty pages are written out before each measurement, so
//! that no runtime pays for another one. Numbers are medians.
//!
//! pausa runs as a separate daemon in temporary directories. `TMPDIR` must be on the kind of disk that is to
//! be measured. Other runtimes run as they are configured, with `registry.test` pointing to
//! `PAUSA_CRITEST_REGISTRY`; see `docs/conformance.md`.

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
#[path = "../cri/runtimes.rs"]
mod runtimes;
#[path = "../cri/table.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of crowds, which uses more of it"
)]
mod table;

mod measure;
mod process;
mod publish;
mod recipe;

use std::process::ExitCode;

use clap::Parser;

use critest::harness;
use harness::registry::Registry;
use recipe::{Compression, Plan};
use runtimes::Runtimes;
use table::Table;

/// Measures how container runtimes pull and remove an image, side by side over CRI.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    runtimes: Runtimes,
    /// Pulls of each image by each runtime.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Layers of the image.
    #[arg(long, default_value_t = 10)]
    layers: u32,
    /// Megabytes (10^6) of files in each layer.
    #[arg(long, default_value_t = 20)]
    layer_megabytes: u32,
    /// Measure only this compression. May be repeated.
    #[arg(long = "compression", value_enum)]
    compressions: Vec<Compression>,
    /// Also start a container of the image, in a pod that exists already.
    #[arg(long)]
    start: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    runtimes::run(measure(&options))
}

/// Returns whether the runtimes left nothing behind.
async fn measure(options: &Options) -> bool {
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
    let nodes = options.runtimes.nodes().await;
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    for image in &images {
        // The first pull of a daemon has additional costs and is not measured.
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
    runtimes::finish(nodes).await
}
