//! The images that the suite runs, made from the machine's own static busybox.

use std::io::Write as _;
use std::process::Command;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::which;

/// One entry of a layer. Directories and files have a mode, symbolic links a target.
pub(crate) enum Entry {
    Dir(&'static str, u32),
    File(&'static str, u32, Vec<u8>),
    Link(String, String),
}

/// A layer as it is stored.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    diff_id: String,
}

/// An image ready to be pushed or archived.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) tags: Vec<&'static str>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                      bob:x:1001:1001::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
const GROUP: &str = "root:x:0:\nalice:x:1000:\nbob:x:1001:\nstaff:x:2000:alice\nwheel:x:3000:alice,bob\n\
                     nogroup:x:65534:\n";
const PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

/// Every image of the suite.
pub(crate) fn all() -> Vec<Image> {
    let base = base();
    let image = |name, config| Image::new(name, vec!["1"], vec![base.clone()], &config);
    vec![
        image("base", json!({"Env": [PATH], "Cmd": ["sh"]})),
        image(
            "entry",
            json!({"Env": [PATH], "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["cmd"]}),
        ),
        image(
            "user-name",
            json!({"Env": [PATH], "User": "alice", "Cmd": ["id"]}),
        ),
        image(
            "user-number",
            json!({"Env": [PATH], "User": "1000:2000", "Cmd": ["id"]}),
        ),
        image("silent", json!({"Env": [PATH]})),
        image("bare-env", json!({"Cmd": ["/bin/env"]})),
        image(
            "rich",
            json!({
                "Env": [PATH, "FROM=image", "SHARED=image"], "WorkingDir": "/made/by/image",
                "Volumes": {"/data": {}}, "StopSignal": "SIGUSR1", "Cmd": ["sh"], "Labels": {"of": "image"}
            }),
        ),
        Image::new(
            "tags",
            vec!["a", "b", "c"],
            vec![base.clone()],
            &json!({"Cmd": ["tags"]}),
        ),
        Image::new(
            "whiteouts",
            vec!["1"],
            whiteouts(&base),
            &json!({"Env": [PATH], "Cmd": ["sh"]}),
        ),
        Image::new(
            "spare",
            vec!["1", "2"],
            vec![base.clone(), spare()],
            &json!({"Cmd": ["spare"]}),
        ),
    ]
}

impl Image {
    fn new(name: &'static str, tags: Vec<&'static str>, layers: Vec<Layer>, config: &Value) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let descriptor =
            |kind: &str, blob: &[u8]| json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()});
        let layer_list: Vec<_> = layers
            .iter()
            .map(|layer| descriptor(LAYER, &layer.blob))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": layer_list,
        })
        .to_string()
        .into_bytes();
        Self {
            name,
            tags,
            layers,
            config,
            manifest,
        }
    }

    /// An image of a test's own: the base image with a further layer and a configuration. `config` needs no PATH.
    pub(crate) fn own(entries: &[Entry], config: &Value) -> Self {
        let mut whole = json!({"Env": [PATH], "Cmd": ["sh"]});
        let given = config.as_object().expect("a configuration is an object");
        let known = whole.as_object_mut().expect("an object");
        known.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        Self::new("own", Vec::new(), vec![base(), layer(entries)], &whole)
    }

    /// Adds annotations to the manifest.
    pub(crate) fn annotate(&mut self, annotations: &Value) {
        let mut manifest: Value = serde_json::from_slice(&self.manifest).expect("our own manifest");
        manifest["annotations"] = annotations.clone();
        self.manifest = manifest.to_string().into_bytes();
    }

    /// The image as an OCI image layout in a tar, named `reference`.
    pub(crate) fn archive(&self, reference: &str) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": MANIFEST, "digest": digest(&self.manifest), "size": self.manifest.len(),
            "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference},
        }]});
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, data: &[u8]| append(&mut tar, path, tar::EntryType::Regular, 0o644, data);
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        add("index.json", index.to_string().as_bytes());
        let blobs = self.layers.iter().map(|layer| &layer.blob);
        for blob in blobs.chain([&self.config, &self.manifest]) {
            add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob);
        }
        tar.into_inner().expect("a tar in memory")
    }
}

/// `sha256:` and the hex digest.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// busybox with all its applets, users and groups.
pub(crate) fn base() -> Layer {
    let busybox = which("busybox").expect("checked by harness::unable");
    let list = Command::new(&busybox)
        .arg("--list")
        .output()
        .expect("busybox runs");
    let applets = String::from_utf8(list.stdout).expect("names of applets are text");
    let mut entries = vec![
        Entry::Dir("bin", 0o755),
        Entry::Dir("etc", 0o755),
        Entry::Dir("home", 0o755),
        Entry::Dir("tmp", 0o1777),
        Entry::Dir("var", 0o755),
        Entry::File(
            "bin/busybox",
            0o755,
            std::fs::read(&busybox).expect("busybox is readable"),
        ),
        Entry::File("etc/passwd", 0o644, PASSWD.into()),
        Entry::File("etc/group", 0o644, GROUP.into()),
    ];
    let links = applets.lines().filter(|name| *name != "busybox");
    entries.extend(links.map(|name| Entry::Link(format!("bin/{name}"), "/bin/busybox".to_owned())));
    layer(&entries)
}

/// Files of a lower layer removed one by one and as a whole directory (OCI image spec, layer.md, Whiteouts).
fn whiteouts(base: &Layer) -> Vec<Layer> {
    let file = |path, text: &str| Entry::File(path, 0o644, text.into());
    vec![
        base.clone(),
        layer(&[
            Entry::Dir("kept", 0o755),
            file("kept/one", "one"),
            file("kept/two", "two"),
            Entry::Dir("opaque", 0o755),
            file("opaque/old", "old"),
            file("gone", "gone"),
            file("replaced", "first"),
        ]),
        layer(&[
            file("kept/.wh.one", ""),
            file(".wh.gone", ""),
            file("replaced", "second"),
        ]),
        layer(&[
            Entry::Dir("opaque", 0o755),
            file("opaque/.wh..wh..opq", ""),
            file("opaque/new", "new"),
        ]),
    ]
}

/// A layer of its own size: 4 MiB that do not compress away.
fn spare() -> Layer {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let data = noise.take(4 * 1024 * 1024 / 8).flatten().collect();
    layer(&[Entry::File("spare", 0o644, data)])
}

fn layer(entries: &[Entry]) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::Dir(path, mode) => append(&mut tar, path, tar::EntryType::Directory, *mode, b""),
            Entry::File(path, mode, data) => append(&mut tar, path, tar::EntryType::Regular, *mode, data),
            Entry::Link(path, target) => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, path, target)
                    .expect("a tar in memory");
            }
        }
    }
    let plain = tar.into_inner().expect("a tar in memory");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&plain).expect("gzip in memory");
    Layer {
        blob: gzip.finish().expect("gzip in memory"),
        diff_id: digest(&plain),
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, data: &[u8]) {
    let size = u64::try_from(data.len()).expect("a length");
    let mut header = header(kind, mode, size);
    tar.append_data(&mut header, path, data).expect("a tar in memory");
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}
