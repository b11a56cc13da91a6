//! Compiles `proto/` to Rust without a system protoc, and embeds the monitor.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

type BoxError = Box<dyn std::error::Error>;

fn main() -> Result<(), BoxError> {
    compile_protocols()?;
    build_monitor()
}

/// The crates the monitor is made of, with their manifests.
const MONITOR_CRATES: [&str; 4] = ["monitor", "monitor-protocol", "container-init", "sys"];

/// Builds the monitor, which `src/monitor.rs` embeds: a static binary at a fixed address, because it lives
/// once in every pod and position independence costs pages to relocate.
///
/// A cargo inside of cargo: with a target directory of its own, as the outer one holds the lock of its,
/// and without what the outer one puts into the environment for this package. Packagers who build the
/// monitor themselves name it in `PAUSA_MONITOR_BINARY`.
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
            "monitor",
        ])
        .args(["--locked", "--quiet", "--target", &target, "--target-dir"])
        .arg(&directory)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].join("\u{1f}"),
        )
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
    let binary = directory.join(target).join("monitor/pausa-monitor");
    println!("cargo:rustc-env=PAUSA_MONITOR={}", binary.display());
    Ok(())
}

/// What cargo, clippy and rustdoc tell a build script about the outer build, and would tell the inner one:
/// another compiler in front of rustc, another target directory, this package's name and features.
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

/// CRI and the admin service, as prost messages and tonic services.
fn compile_protocols() -> Result<(), BoxError> {
    println!("cargo:rerun-if-changed=proto");
    let root = Path::new("proto");
    let files = ["runtime/v1/api.proto", "pausa/admin/v1/admin.proto"];
    let descriptors = protox::compile(files, [root])?;
    let mut prost = prost_build::Config::new();
    prost
        .btree_map(["."])
        // Its own Debug keeps the secrets out: see src/proto.rs.
        .skip_debug([".runtime.v1.AuthConfig", ".pausa.admin.v1.Credentials"])
        .enum_attribute(".runtime.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(
            ".runtime.v1",
            "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default)]",
        )
        .field_attribute(
            ".runtime.v1.KeyValue.value",
            "#[serde(with = \"crate::proto::text\")]",
        );
    for secret in ["password", "auth", "identity_token", "registry_token"] {
        prost.field_attribute(format!(".runtime.v1.AuthConfig.{secret}"), "#[serde(skip)]");
    }
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
