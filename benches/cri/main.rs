//! Measures container runtimes side by side over CRI.
//!
//! ```text
//! cargo bench --bench cri                                        # pausa alone
//! cargo bench --bench cri -- --socket other=/run/other.sock      # and whatever else speaks CRI
//! ```
//!
//! Everything is measured from the client's side of the socket, interleaved: each round asks every runtime once, so
//! that a noisy moment of the machine hits all alike. Numbers are medians. pausa runs as a daemon of its own in
//! temporary directories with its built-in bridge; the others as they are configured. They pull the suite's images
//! from `registry.test`, which has to lead to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which needs more of it"
)]
mod critest {
    pub(crate) mod harness;
}

mod density;
mod latency;
mod logs;
mod memory;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use critest::harness;
use harness::Node;
use table::Table;

/// Measures container runtimes side by side over CRI.
#[derive(Debug, Parser)]
struct Options {
    /// Another runtime to measure, as NAME=unix:///path; again for more.
    #[arg(long = "socket", value_name = "NAME=SOCKET", value_parser = named_socket)]
    sockets: Vec<(String, PathBuf)>,
    /// Leave out pausa itself.
    #[arg(long)]
    without_pausa: bool,
    /// Pods started one after the other, each with one container.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Calls of ExecSync and of each list.
    #[arg(long, default_value_t = 50)]
    calls: usize,
    /// Pods that run at the same time for density and memory.
    #[arg(long, default_value_t = 50)]
    idle_pods: usize,
    /// Of these, how many are started at once.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Megabytes of 100-byte lines that a container writes to its log; 0 leaves this out.
    #[arg(long, default_value_t = 200)]
    log_megabytes: usize,
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
    let mut nodes = Vec::new();
    if !options.without_pausa {
        nodes.push(("pausa".to_owned(), Node::own("info").await));
    }
    for (name, socket) in &options.sockets {
        nodes.push((name.clone(), Node::at(socket.clone()).await));
    }
    for (name, node) in &nodes {
        node.pull("base").await;
        // Whatever the first pod of a daemon's life costs is not what is measured.
        for _ in 0..2 {
            latency::one_pod(node, &mut Table::default(), name).await;
        }
    }
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    latency::pods(&nodes, options.pods, &mut table).await;
    latency::execs(&nodes, options.calls, &mut table).await;
    density::measure(&nodes, options, &mut table).await;
    if options.log_megabytes > 0 {
        logs::measure(&nodes, options.log_megabytes, &mut table).await;
    }
    println!("{table}");
    let mut left = Vec::new();
    for (name, node) in nodes {
        node.clean_up().await;
        left.extend(node.finish().into_iter().map(|line| format!("{name}: {line}")));
    }
    left
}
