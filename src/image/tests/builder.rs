//! Builds images in memory.

use std::io::Write as _;

use serde_json::{Value, json};

pub(crate) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image to push.
pub(crate) struct Built {
    pub(crate) media_type: &'static str,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// Compressed.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Built {
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.layers.iter().chain([&self.config])
    }

    pub(crate) fn id(&self) -> String {
        digest(&self.config)
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    pausa_distribution::Digest::sha256(bytes).to_string()
}

/// A tar of files, and of directories, whose names end with a slash.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        let kind = if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        };
        header.set_entry_type(kind);
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_size(u64::try_from(content.len()).unwrap());
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of uncompressed `tars`; `how` is OCI (with gzip and zstd in turn) or DOCKER (gzip).
pub(crate) fn image(how: &'static str, tars: &[Vec<u8>], config: &Value) -> Built {
    let docker = how == DOCKER;
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let mut layers = Vec::new();
    let mut described = Vec::new();
    for (at, tar) in tars.iter().enumerate() {
        let zstd = at % 2 == 1 && !docker;
        let blob = if zstd {
            zstd::encode_all(tar.as_slice(), 1).unwrap()
        } else {
            gzip(tar)
        };
        let media_type = match (docker, zstd) {
            (true, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (false, false) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (false, true) => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        described.push(json!({"mediaType": media_type, "digest": digest(&blob), "size": blob.len()}));
        layers.push(blob);
    }
    let config_type = if docker {
        "application/vnd.docker.container.image.v1+json"
    } else {
        "application/vnd.oci.image.config.v1+json"
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": how, "layers": described,
        "config": {"mediaType": config_type, "digest": digest(&config), "size": config.len()},
    });
    Built {
        media_type: how,
        manifest: manifest.to_string().into_bytes(),
        config,
        layers,
    }
}

/// An image with one layer that holds one file.
pub(crate) fn small(content: &str) -> Built {
    image(OCI, &[tar(&[("file", content)])], &json!({}))
}

/// The hex digits of the first layer's diff id.
pub(crate) fn layer_of(built: &Built) -> String {
    let config: Value = serde_json::from_slice(&built.config).unwrap();
    let text = config["rootfs"]["diff_ids"][0].as_str().unwrap();
    text[7..].to_owned()
}
