//! Compiles `proto/` to Rust without a system protoc, and embeds the monitor.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::FileDescriptorSet;

type BoxError = Box<dyn std::error::Error>;

fn main() -> Result<(), BoxError> {
    compile_protocols()?;
    build_monitor()
}

/// The crates that the monitor consists of.
const MONITOR_CRATES: [&str; 4] = ["monitor", "monitor-protocol", "container-init", "sys"];

/// Builds the monitor, which `src/monitor.rs` embeds. It is a static binary at a fixed address: one runs in every pod, and
/// relocating a position-independent one costs pages.
///
/// This runs cargo inside cargo. The inner one has its own target directory, because the outer one holds the lock of its
/// target directory, and an environment without the variables that the outer one sets for this package.
/// `PAUSA_MONITOR_PROFILE` names another profile than `monitor`. Packagers can build the monitor themselves and name it in
/// `PAUSA_MONITOR_BINARY`.
fn build_monitor() -> Result<(), BoxError> {
    println!("cargo:rerun-if-env-changed=PAUSA_MONITOR_BINARY");
    if let Some(path) = env::var_os("PAUSA_MONITOR_BINARY") {
        let path = PathBuf::from(path).canonicalize()?;
        println!("cargo:rerun-if-changed={}", path.display());
        println!("cargo:rustc-env=PAUSA_MONITOR={}", path.display());
        return Ok(());
    }
    for name in MONITOR_CRATES {
        println!("cargo:rerun-if-changed=crates/{name}/Cargo.toml");
        println!("cargo:rerun-if-changed=crates/{name}/src");
    }
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-env-changed=PAUSA_MONITOR_PROFILE");
    let profile = env::var("PAUSA_MONITOR_PROFILE").unwrap_or_else(|_| "monitor".to_owned());
    let target = env::var("TARGET")?;
    let directory = PathBuf::from(env::var("OUT_DIR")?).join("monitor");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "rustc",
            "--package",
            "pausa-monitor",
            "--bin",
            "pausa-monitor",
            "--profile",
            &profile,
        ])
        .args(["--locked", "--quiet", "--target", &target, "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", monitor_flags())
        .env_remove("RUSTFLAGS");
    for (name, _) in env::vars_os() {
        if belongs_to_this_build(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("cannot build the monitor: {cargo:?} failed: {status}").into());
    }
    let subdirectory = if profile == "dev" { "debug" } else { &profile };
    let binary = directory.join(target).join(subdirectory).join("pausa-monitor");
    println!("cargo:rustc-env=PAUSA_MONITOR={}", binary.display());
    Ok(())
}

/// The compiler's options for the monitor, separated as cargo wants them. A release build gives paths other names, so that
/// the bytes do not depend on directories; that has to be so for the monitor as well.
fn monitor_flags() -> String {
    let outer = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let paths = outer
        .split('\u{1f}')
        .filter(|flag| flag.starts_with("--remap-path-prefix="));
    ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]
        .into_iter()
        .chain(paths)
        .collect::<Vec<_>>()
        .join("\u{1f}")
}

/// Whether cargo, clippy or rustdoc set this variable for the outer build only: it would change the compiler, the target
/// directory or the package of the inner one.
fn belongs_to_this_build(name: &str) -> bool {
    const EXACT: [&str; 12] = [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_INCREMENTAL",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
        "TARGET",
        "OPT_LEVEL",
        "PROFILE",
    ];
    const BEGINNINGS: [&str; 5] = [
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
    ];
    EXACT.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Generates prost messages and tonic services for CRI and for the admin service.
fn compile_protocols() -> Result<(), BoxError> {
    println!("cargo:rerun-if-changed=proto");
    let root = Path::new("proto");
    // Both runs write CRI's messages, the first one none: CRI comes last.
    let mut admin = messages();
    admin
        .extern_path(".runtime.v1", "crate::proto::v1")
        .enum_attribute(".pausa.admin.v1", "#[derive(serde::Serialize)]")
        .message_attribute(
            ".pausa.admin.v1",
            "#[derive(serde::Serialize)]\n#[serde(rename_all = \"camelCase\")]",
        );
    for (field, function) in [
        ("PullProgress.step", "pull_step"),
        ("PullProgress.started", "time"),
        ("PullProgress.step_since", "time"),
        ("LayerProgress.state", "layer_state"),
        ("LayerProgress.since", "time"),
        ("LayerReport.method", "verify_method"),
        ("CpuHolder.mode", "cpu_mode"),
        ("NetworkFinding.verdict", "network_verdict"),
        ("Operation.started", "time"),
        ("Operation.step_since", "optional_time"),
    ] {
        admin.field_attribute(
            format!(".pausa.admin.v1.{field}"),
            format!("#[serde(serialize_with = \"crate::proto::json::{function}\")]"),
        );
    }
    for field in ["in_use", "pinned"] {
        admin.field_attribute(
            format!(".pausa.admin.v1.PruneResponse.{field}"),
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        );
    }
    let descriptors = protox::compile(["pausa/admin/v1/admin.proto"], [root])?;
    tonic_prost_build::configure().compile_fds_with_config(descriptors, admin)?;

    let files = ["containers", "tasks", "version"].map(|name| format!("containerd/{name}.proto"));
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure().compile_fds_with_config(descriptors, messages())?;

    let mut cri = messages();
    // src/proto.rs implements Debug without the secrets.
    cri.skip_debug([".runtime.v1.AuthConfig"])
        .enum_attribute(".runtime.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(
            ".runtime.v1",
            "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default)]",
        )
        .field_attribute(
            ".runtime.v1.KeyValue.value",
            "#[serde(with = \"crate::proto::json::text\")]",
        );
    for secret in ["password", "auth", "identity_token", "registry_token"] {
        cri.field_attribute(format!(".runtime.v1.AuthConfig.{secret}"), "#[serde(skip)]");
    }
    let descriptors = protox::compile(["runtime/v1/api.proto", "pausa/lists/v1/lists.proto"], [root])?;
    cri.bytes([".pausa.lists.v1"]);
    let server = descriptors.clone();
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(descriptors, cri)?;
    compile_cri_server(server)
}

/// RPCs of CRI whose response is one list, of which the server sends encoded items (`proto/pausa/lists`).
const LISTS: [&str; 11] = [
    "ListContainers",
    "ListContainerStats",
    "ListPodSandbox",
    "ListPodSandboxMetrics",
    "ListPodSandboxStats",
    "StreamContainers",
    "StreamContainerStats",
    "StreamImages",
    "StreamPodSandboxes",
    "StreamPodSandboxMetrics",
    "StreamPodSandboxStats",
];

/// Generates the server's half of CRI's services, which takes CRI's messages, and answers [`LISTS`] with encoded items.
fn compile_cri_server(mut descriptors: FileDescriptorSet) -> Result<(), BoxError> {
    const LIST: &str = ".pausa.lists.v1.List";
    let mut lists = BTreeSet::from(LISTS);
    let services = descriptors.file.iter_mut().flat_map(|file| &mut file.service);
    for method in services.flat_map(|service| &mut service.method) {
        if lists.remove(method.name()) {
            method.output_type = Some(LIST.to_owned());
        }
    }
    if !lists.is_empty() {
        return Err(format!("CRI does not have the RPCs {lists:?}").into());
    }
    let directory = PathBuf::from(env::var("OUT_DIR")?).join("server");
    std::fs::create_dir_all(&directory)?;
    let mut config = messages();
    config
        .extern_path(".runtime.v1", "crate::proto::v1")
        .extern_path(".pausa.lists.v1", "crate::proto::lists");
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(directory)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn messages() -> prost_build::Config {
    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    config
}
