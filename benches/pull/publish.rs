//! Uploads the image to the registry, unless it has it already (OCI distribution spec, "Push").

use std::fmt;

use serde_json::{Value, json};

use crate::harness::recipe::{MANIFEST, digest};
use crate::harness::{http, registry};
use crate::recipe::{self, Compression, Plan};

/// An image in the registry.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) reference: String,
    pub(crate) compression: Compression,
    layers: u32,
    files: u64,
    compressed: u64,
    unpacked: u64,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "{}: {} layers, {} files, {} MiB compressed, {} MiB unpacked",
            self.compression.name(),
            self.layers,
            self.files,
            mib(self.compressed),
            mib(self.unpacked)
        )
    }
}

/// Builds the image and uploads what the registry lacks, one layer at a time, so that the image need not fit
/// into memory.
pub(crate) fn publish(server: &str, plan: &Plan, compression: Compression) -> Published {
    let name = format!("pull-{}", compression.name());
    let repository = format!("/v2/critest/{name}");
    let mut published = Published {
        reference: format!("{}:{}x{}", registry::named(&name), plan.layers, plan.layer_bytes),
        compression,
        layers: plan.layers,
        files: 0,
        compressed: 0,
        unpacked: 0,
    };
    let mut diff_ids = Vec::new();
    let mut layers = Vec::new();
    for number in 0..plan.layers {
        let layer = plan.layer(number, compression);
        registry::upload(server, &repository, &layer.blob);
        layers.push(descriptor(&compression.media_type(), &layer.blob));
        published.files += layer.files;
        published.compressed += u64::try_from(layer.blob.len()).expect("a length");
        published.unpacked += layer.unpacked;
        diff_ids.push(layer.diff_id);
    }
    let config = recipe::config(&diff_ids);
    registry::upload(server, &repository, &config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
    });
    let (_, tag) = published.reference.rsplit_once(':').expect("a tag");
    let target = format!("{repository}/manifests/{tag}");
    let put = http::request(server, "PUT", &target, MANIFEST, manifest.to_string().as_bytes());
    assert_eq!(put.expect("a manifest").status, 201, "manifest to {target}");
    published
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}
