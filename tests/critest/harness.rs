//! What every test stands on: a node to talk to, images to run, and the check that nothing is left.
//!
//! ```text
//!   on_node(test) ── slot ── registry + images ── daemon ── test(&node) ── remove pods ── stop ── leaks? ── sweep
//! ```
//!
//! The sweep happens whatever the test did, so that one failure does not spoil the next test. Names outside the
//! node's directories (bridge, subnet, cgroup parent) derive from its slot, which no other test has at that time.

pub(crate) mod cgroup;
pub(crate) mod cni;
pub(crate) mod container;
pub(crate) mod daemon;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod issuer;
pub(crate) mod leaks;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod recipe;
pub(crate) mod registry;
pub(crate) mod slot;
pub(crate) mod stream;
pub(crate) mod sweep;
pub(crate) mod terminal;
pub(crate) mod tmpfs;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use tonic::{Code, Response, Status};

pub(crate) use container::Container;
pub(crate) use node::Node;
pub(crate) use pod::Pod;

/// How long anything may take before the suite gives up on it. A bound on hanging, not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test against a node: one of its own, or the one `PAUSA_CRITEST_SOCKET` names.
pub(crate) fn on_node(test: impl AsyncFnOnce(&Node)) {
    run(|_| true, test);
}

/// Like [`on_node`] for rules that only pausa promises; skipped on other runtimes.
pub(crate) fn on_pausa(test: impl AsyncFnOnce(&Node)) {
    run(Node::is_pausa, test);
}

/// Like [`on_node`] for tests that stop and start the daemon or look into its directories.
pub(crate) fn on_own_node(test: impl AsyncFnOnce(&Node)) {
    run(Node::is_own, test);
}

/// Like [`on_own_node`] for tests whose daemon dies at failpoints, which only debug builds have.
pub(crate) fn on_crashing_node(test: impl AsyncFnOnce(&Node)) {
    if cfg!(debug_assertions) {
        on_own_node(test);
    } else {
        eprintln!("skipped: there are no failpoints in this build");
    }
}

fn run(applies: impl FnOnce(&Node) -> bool, test: impl AsyncFnOnce(&Node)) {
    if let Some(why) = unable() {
        eprintln!("skipped: {why}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the test");
    let node = runtime.block_on(Node::start());
    if !applies(&node) {
        eprintln!("skipped: not a rule for {}", node.runtime_name());
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&node))));
    let cleanup = catch_unwind(AssertUnwindSafe(|| runtime.block_on(node.clean_up())));
    let log = node.daemon_log();
    let left = node.finish();
    if let Err(panic) = outcome.and(cleanup) {
        eprintln!("--- the daemon said ---\n{log}");
        resume_unwind(panic);
    }
    assert!(
        left.is_empty(),
        "left behind on the node:\n  {}\n{log}",
        left.join("\n  ")
    );
}

/// Why no test can run here. Fails where it has to run.
pub(crate) fn unable() -> Option<String> {
    for (program, package) in [
        ("busybox", "busybox-static"),
        ("docker-registry", "docker-registry"),
        ("setpriv", "util-linux"),
        ("ip", "iproute2"),
    ] {
        if which(program).is_none() {
            let why = format!("needs {program}: apt-get install {package}");
            let ci = std::env::var("CI").is_ok_and(|v| v == "true");
            assert!(!ci, "{why}");
            return Some(why);
        }
    }
    None
}

/// A program on PATH or where Debian puts it.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|dir| std::path::Path::new(dir).join(program))
        .find(|file| file.is_file())
}

/// Waits until `ready` gives something.
pub(crate) async fn eventually<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ready().await {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "did not happen in {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The answer of a call that must succeed.
#[track_caller]
pub(crate) fn ok<T>(what: &str, answer: Result<Response<T>, Status>) -> T {
    match answer {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("{what}: {:?}: {}", status.code(), status.message()),
    }
}

/// The text of a call that must be refused with `code`.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(code: Code, answer: Result<Response<T>, Status>) -> String {
    match answer {
        Ok(response) => panic!("was not refused: {:?}", response.into_inner()),
        Err(status) => {
            assert_eq!(status.code(), code, "{}", status.message());
            assert!(!status.message().is_empty(), "an error without a text");
            status.message().to_owned()
        }
    }
}

/// A list of owned strings.
pub(crate) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A map of owned strings.
pub(crate) fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// Starts the daemon so that it dies at the failpoint `point`, has it `act`, and waits for its death; fails if it never gets
/// there. The daemon is running again afterwards.
pub(crate) async fn die_at<T>(node: &Node, point: &str, act: impl AsyncFnOnce() -> T) {
    node.daemon(daemon::Daemon::kill);
    node.daemon(|daemon| daemon.restart_with(&[("PAUSA_FAILPOINT", point)]));
    // Some points are passed at the start already.
    let answers = eventually("it answers or is dead", async || {
        if node.daemon(|daemon| daemon.ended().is_some()) {
            return Some(false);
        }
        let answer = node
            .runtime()
            .version(pausa::proto::v1::VersionRequest::default())
            .await;
        answer.is_ok().then_some(true)
    })
    .await;
    if answers {
        drop(act().await);
    }
    eventually(&format!("the daemon dies at {point}"), async || {
        node.daemon(|daemon| daemon.ended())
    })
    .await;
    node.daemon(daemon::Daemon::forget);
    node.daemon(daemon::Daemon::restart);
    node.until_it_answers().await;
}
