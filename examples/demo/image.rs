//! Builds an image from a static busybox: an OCI image layout (image-layout.md) in a tar.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Writes an archive with one image that has the name `name`.
pub(crate) fn write(busybox: &Path, name: &str, archive: &Path) -> anyhow::Result<()> {
    let layer = layer(busybox)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let described = |kind: &str, blob: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config), "layers": [described("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut described = described("manifest.v1+json", &manifest);
    described["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [described]}).to_string();

    let mut tar = Builder::new(std::fs::File::create(archive).context("cannot write the image archive")?);
    file(
        &mut tar,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    file(&mut tar, "index.json", 0o644, index.as_bytes())?;
    for blob in [&layer, &config, &manifest] {
        file(
            &mut tar,
            &format!("blobs/{}", digest(blob).replace(':', "/")),
            0o644,
            blob,
        )?;
    }
    tar.finish().context("cannot write the image archive")
}

/// /bin/busybox, and a symbolic link to it for each of its commands.
fn layer(busybox: &Path) -> anyhow::Result<Vec<u8>> {
    let list = Command::new(busybox)
        .arg("--list")
        .output()
        .context("cannot run busybox")?;
    let program = std::fs::read(busybox).context("cannot read busybox")?;
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, "bin/busybox", 0o755, &program)?;
    for name in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn file<W: std::io::Write>(tar: &mut Builder<W>, path: &str, mode: u32, data: &[u8]) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_size(u64::try_from(data.len())?);
    tar.append_data(&mut header, path, data)
        .context("cannot write a tar entry")
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
