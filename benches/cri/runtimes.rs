//! The runtimes that a benchmark compares.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::critest::harness::{self, Node};

#[derive(Debug, clap::Args)]
pub(crate) struct Runtimes {
    /// Another runtime to measure, as NAME=unix:///path; may be given more than once.
    #[arg(long = "socket", value_name = "NAME=SOCKET", value_parser = named_socket)]
    sockets: Vec<(String, PathBuf)>,
    /// Do not measure pausa itself.
    #[arg(long)]
    without_pausa: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Runtimes {
    /// All runtimes by name; pausa runs as a separate daemon.
    pub(crate) async fn nodes(&self) -> Vec<(String, Node)> {
        let mut nodes = Vec::new();
        if !self.without_pausa {
            nodes.push(("pausa".to_owned(), Node::own("info").await));
        }
        for (name, socket) in &self.sockets {
            nodes.push((name.clone(), Node::at(socket.clone()).await));
        }
        nodes
    }
}

pub(crate) fn named_socket(text: &str) -> Result<(String, PathBuf), String> {
    let (name, socket) = text.split_once('=').ok_or("expected NAME=unix:///path")?;
    let path = socket.strip_prefix("unix://").unwrap_or(socket);
    Ok((name.to_owned(), PathBuf::from(path)))
}

/// Runs a measurement, which returns whether it succeeded, in a client with one thread.
pub(crate) fn run(measured: impl Future<Output = bool>) -> ExitCode {
    if let Some(why) = harness::unable() {
        eprintln!("cannot measure: {why}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the client");
    ExitCode::from(u8::from(!runtime.block_on(measured)))
}

/// Removes everything, and returns whether nothing was left behind.
pub(crate) async fn finish(nodes: Vec<(String, Node)>) -> bool {
    let mut clean = true;
    for (name, node) in nodes {
        node.clean_up().await;
        for line in node.finish() {
            eprintln!("left behind: {name}: {line}");
            clean = false;
        }
    }
    clean
}
